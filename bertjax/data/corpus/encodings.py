"""Text that is not UTF-8: recognised by its first bytes, or by the bytes that had to be replaced; how to convert it."""

import contextlib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bertjax.errors import DataError

BYTE_ORDER_MARK = "\ufeff"
MARK = BYTE_ORDER_MARK.encode()
# Shares of replaced bytes in a source above which there is a warning, and above which it is refused.
WARN_ABOVE, REFUSE_ABOVE = 0.001, 0.02
SAMPLE_BYTES = 1 << 16

# The longer marks first: the mark of UTF-32 begins like that of UTF-16.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# Latin scripts: what is usual beyond ASCII in their languages; if two fit equally well, the first one is taken.
_LATIN = {
    "cp1252": set("äöüßéèêëàâçîïôùûœáíóúñãõåæøìòÄÖÜÉÈÀÇÁÍÓÚÑÅÆØ’‘“”„–—…«»°§¡¿€£\u00a0"),
    "cp1250": set("ąćęłńóśźżáčďéěíňřšťúůýžöőüűăâîşţäôľĺŕĄĆĘŁŃÓŚŹŻÁČĎÉĚÍŇŘŠŤÚŮÝŽÖŐÜŰŞŢ’‘“”„–—…«»°§\u00a0"),
    "cp1254": set("çğıöşüâîûÇĞİÖŞÜ’‘“”–—…°\u00a0"),
}
_CYRILLIC = ("cp1251", "koi8_r", "cp866", "iso8859_5")
_GREEK_TO_THAI = ("cp1253", "iso8859_7", "cp1255", "cp1256", "iso8859_6", "cp874")
# Characters that are frequent in Chinese, Japanese and Korean, and rare in other bytes misread as such text.
_COMMON = set("的一是不了在人有我他、。，이다는을의에가 \n" + "".join(map(chr, range(0x3041, 0x3097))))
_DOUBLE = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
_ROW = re.compile(rb"[\x80-\xff]+")
_UNPACKED = {".gz": "gzip -dc", ".xz": "xz -dc", ".lzma": "xz -dc", ".zst": "zstd -dc"}


@dataclass
class Decoded:
    """Counts of the bytes of one source: ``read``; ``replaced``, which include ``nuls``; ``multibyte``: those after
    the first byte of a valid character beyond ASCII. sample: lines and texts that were not valid, to guess from."""

    read: int = 0
    replaced: int = 0
    nuls: int = 0
    multibyte: int = 0
    sample: bytearray = field(default_factory=bytearray)


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by iconv's name, if the first bytes of a text show it; else None."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    head = head[: SAMPLE_BYTES // 4 * 4]
    head = head[: len(head) // 4 * 4] if len(head) > 64 else head
    nuls = [head[place::4].count(0) for place in range(4)]
    if sum(nuls) < 3:
        return _wide_by_characters(head)
    quarter = len(head) / 4
    odd, even = nuls[1] + nuls[3], nuls[0] + nuls[2]
    shown = {
        "UTF-32LE": not len(head) % 4 and nuls[3] >= quarter and nuls[2] > 0.9 * quarter > 2 * nuls[0],
        "UTF-32BE": not len(head) % 4 and nuls[0] >= quarter and nuls[1] > 0.9 * quarter > 2 * nuls[3],
        "UTF-16LE": odd > 0.01 * quarter and not even,
        "UTF-16BE": even > 0.01 * quarter and not odd,
    }
    encoding = next((name for name, is_shown in shown.items() if is_shown), None)
    return _wide_by_characters(head) if encoding is None else _if_text(head, encoding)


def _wide_by_characters(head: bytes) -> str | None:
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 8:
            for encoding in ("UTF-16LE", "UTF-16BE"):
                if _share(_COMMON, head.decode(encoding, "ignore")) > 0.05:
                    return _if_text(head, encoding)
    return None


def _share(characters: set[str], text: str) -> float:
    return sum(character in characters for character in text) / max(len(text), 1)


def _if_text(head: bytes, encoding: str) -> str | None:
    text = head.decode(encoding, "ignore")
    known = sum(character.isprintable() or character.isspace() for character in text)
    return encoding if text and known > 0.95 * len(text) else None


def guessed_encoding(sample: bytes) -> str | None:
    """The likely encoding of bytes that are not UTF-8, by iconv's name; None if nothing fits. It may be wrong."""
    from charset_normalizer import from_bytes

    wide = wide_encoding(sample)
    if wide is not None or sample.isascii():
        return wide
    if len(sample) == SAMPLE_BYTES:  # not in the middle of a character
        sample = sample[: max(sample.rfind(b"\n"), sample.rfind(b" ")) + 1] or sample
    # In Latin scripts letters beyond ASCII are mostly isolated; elsewhere they stand in rows.
    rows = _ROW.findall(sample)
    beyond, letters = sum(map(len, rows)), sum(chr(byte).isalpha() for byte in sample if byte < 0x80)
    if beyond >= min(letters, 2 * len(rows)):
        name = _best(dict.fromkeys(_DOUBLE, _COMMON), sample, 0.1)
        if name is None:
            known = [*_CYRILLIC, *_GREEK_TO_THAI, *_DOUBLE]
            best = from_bytes(sample, cp_isolation=known).best()
            name = best.encoding if best is not None and best.encoding in known else None
    else:
        name = _best(_LATIN, sample, 0.5)
    # iconv's name of Python's.
    return None if name is None else name.upper().replace("_", "-").replace("ISO8859", "ISO-8859")


def _best(usual: Mapping[str, set[str]], sample: bytes, least: float) -> str | None:
    """The encoding in which most characters beyond ASCII are ``usual``, the first of equals; None if no more than
    ``least`` of them are in any."""
    found = []
    for name, characters in usual.items():
        with contextlib.suppress(UnicodeDecodeError):
            text = "".join(character for character in sample.decode(name) if not character.isascii())
            found.append((name, _share(characters, text)))
    name, share = max(found, key=lambda entry: entry[1], default=(None, 0.0))
    return name if share > least else None


def iconv(path: Path, encoding: str, *options: str) -> str:
    """The command line that converts a file to UTF-8, and what to do with the result."""
    unpack = _UNPACKED.get(path.suffix.lower())
    output = path if unpack is None else path.with_suffix("")
    output = output.with_name(f"{output.stem}.utf8{output.suffix}")
    source, target = shlex.quote(str(path)), shlex.quote(str(output))
    convert = " ".join(["iconv", *options, "-f", encoding, "-t", "UTF-8"])
    command = f"{convert} {source} > {target}" if unpack is None else f"{unpack} {source} | {convert} > {target}"
    return f"`{command}`, and give that file in its place"


def warning_of(name: str, counts: Decoded, fix: Callable[[str, bool], str]) -> str | None:
    """A warning about the replaced bytes of a source if there are more than a few, else None. Raises DataError if there
    are so many that too much of the text is lost."""
    share = counts.replaced / max(counts.read, 1)
    if share <= WARN_ABOVE:
        return None
    what = f"{name}: {share:.2%} of its bytes are not UTF-8 text"
    line = f"{what}{_advice(counts, fix)}"
    if share > REFUSE_ABOVE:
        raise DataError(line)
    return f"{line}; they were replaced by U+FFFD"


def _advice(counts: Decoded, fix: Callable[[str, bool], str]) -> str:
    if 2 * counts.nuls > counts.replaced and wide_encoding(bytes(counts.sample)) is None:
        return ", but NUL characters, which do not belong in text; remove them, or leave the file out"
    if counts.multibyte > counts.replaced - counts.nuls:
        return f", though most of what is beyond ASCII is; to drop them: {fix('UTF-8', True)}"
    encoding = guessed_encoding(bytes(counts.sample))
    if encoding is None:
        return ", nor any other encoding known here; save it as UTF-8"
    return f"; perhaps it is {encoding}: {fix(encoding, False)}"
