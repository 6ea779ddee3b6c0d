"""The character map of a SentencePiece model: decoded, and written as normalizers of the library ``tokenizers``.

The map replaces, reading a text from left to right, the longest sequence of characters that it contains. The library's
own step for it (Precompiled) looks at single characters, and gets short ones with their marks wrong: it drops the
marks. The sequences of a map are letters with the marks, or the halves of syllables, that compose with them. So we
first put separators between what the map would replace at once. Then every character is mapped alone, and NFC composes
what stands between two separators: no more, and in no other order.
"""

import functools
import itertools
import struct
import unicodedata
from collections import defaultdict
from typing import Any

_VALUE = (1 << 31) - 1
_LABEL = (1 << 31) | 0xFF
_LONGEST_KEY = 64  # bytes; the maps of real models have far shorter ones

# Two characters that occur in no text: those that the map deletes anyway, or else two noncharacters.
_CONTROLS = "\x01\x02"
_NONCHARACTERS = "\ufdd0\ufdd1"
# What the library may join to the character before it, besides what composes.
_JOINED = r"\p{M}\x{200C}\x{200D}\x{E33}\x{EB3}"
_END = ""


def longest_replacement(charsmap: bytes) -> int:
    size = int.from_bytes(charsmap[:4], "little")
    return max((len(text.decode("utf-8", "replace")) for text in charsmap[4 + size :].split(b"\0")), default=0)


@functools.lru_cache(maxsize=4)
def entries(charsmap: bytes) -> dict[str, str]:
    """Sequence of characters -> its replacement; {} if this is not a map of UTF-8. Format: the size of a trie, the trie
    (a double array of 32-bit units, as in the library Darts-clone), and the replacements, each followed by a zero
    byte."""
    units, texts = _parts(charsmap)
    if not units:
        return {}
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by the base that a node's children share
    for number, unit in enumerate(units):
        label = unit & _LABEL
        if 0 < label < 256:
            children[number ^ label].append((label, number))
    found: dict[bytes, bytes] = {}
    pending = [(0, b"")]
    while pending:
        node, key = pending.pop()
        unit = units[node]
        base = _base(node, unit)
        if unit >> 8 & 1 and base < len(units):
            text, end, _ = texts[units[base] & _VALUE :].partition(b"\0")
            found[key] = text if end else b""
        if len(key) < _LONGEST_KEY:
            pending += [(child, key + bytes([label])) for label, child in children.get(base, ())]
    try:
        return {key.decode(): text.decode() for key, text in found.items()}
    except UnicodeDecodeError:
        return {}


def without(charsmap: bytes, characters: str) -> bytes:
    """The map without its entries for ASCII ``characters``."""
    units, texts = _parts(charsmap)
    changed = list(units)
    for character in characters:
        node = _base(0, units[0]) ^ ord(character)
        if changed[node] & _LABEL == ord(character):
            changed[node] = 0
    return struct.pack(f"<I{len(changed)}I", 4 * len(changed), *changed) + texts


def _parts(charsmap: bytes) -> tuple[tuple[int, ...], bytes]:
    """(units of the trie, replacements)."""
    size = int.from_bytes(charsmap[:4], "little") // 4 * 4
    if len(charsmap) < 4 + size:
        return (), b""
    return struct.unpack(f"<{size // 4}I", charsmap[4 : 4 + size]), charsmap[4 + size :]


def _base(node: int, unit: int) -> int:
    return node ^ ((unit >> 10) << ((unit & 1 << 9) >> 6))


def mapping_steps(charsmap: bytes) -> list[Any] | None:
    """Normalizers of the library ``tokenizers`` that do what the map does; None for maps of another kind."""
    from tokenizers import Regex, normalizers

    if (expressions := _sequences(charsmap)) is None:
        return None
    (unit, joined), found = expressions, entries(charsmap)
    deletes_controls = all(found.get(character) == "" for character in _CONTROLS)
    between, inside = _CONTROLS if deletes_controls else _NONCHARACTERS
    charsmap = without(charsmap, _CONTROLS) if deletes_controls else charsmap
    # All units up to one that is followed by something that may join it. \K: what is before is not part of the match.
    divided = rf"(?>(?:[\s\S](?!{joined})|(?>{unit})(?!{joined}))*)(?>{unit}|[\s\S])?\K(?={joined}|\z)"
    return [
        normalizers.Replace(Regex(divided), between),
        normalizers.Replace(Regex(rf"(?<=[^{between}])(?={joined})"), inside),
        normalizers.Precompiled(charsmap),
        normalizers.Replace(inside, ""),
        normalizers.NFC(),
        normalizers.Replace(between, ""),
    ]


@functools.lru_cache(maxsize=4)
def _sequences(charsmap: bytes) -> tuple[str, str] | None:
    """Regular expressions of the map's sequences of two or more characters, and of a character that may join the one
    before it; None if the replacements of sequences are not the NFC of the replacements of their characters. Maps that
    fold case have other replacements for some 800 of 220,000 sequences (Greek with an iota subscript, capital I with a
    dot); those are accepted."""
    found, others = entries(charsmap), 0
    tree: dict[str, Any] = {}
    sequences = {key: text for key, text in found.items() if len(key) > 1}
    for key, text in sequences.items():
        composed = unicodedata.normalize("NFC", "".join(found.get(character, character) for character in key))
        others += composed != text and all(unicodedata.category(character) != "Cn" for character in key + text)
        node = tree
        for character in key:
            node = node.setdefault(character, {})
        node[_END] = {}
    if not tree or others > len(found) / 100:
        return None
    return _expression(tree), f"[{_JOINED}{_ranges({c for key in sequences for c in key[1:]})}]"


def _expression(node: dict[str, Any]) -> str:
    """Matches the longest of the tree's sequences, if it stands in an atomic group."""
    following: dict[str, set[str]] = defaultdict(set)  # by what may follow these characters
    for character, child in node.items():
        if character != _END:
            following[_expression(child)].add(character)
    if not following:
        return ""
    body = "|".join(sorted(f"[{_ranges(characters)}]{rest}" for rest, characters in following.items()))
    return f"(?:{body}){'?' if _END in node else ''}"


def _ranges(characters: set[str]) -> str:
    """The inside of a bracket expression for ``characters``."""
    parts = []
    # Consecutive numbers differ from their index by the same number.
    for _, group in itertools.groupby(enumerate(sorted(map(ord, characters))), lambda pair: pair[1] - pair[0]):
        codes = [code for _, code in group]
        parts.append("-".join(rf"\x{{{code:X}}}" for code in dict.fromkeys((codes[0], codes[-1]))))
    return "".join(parts)
