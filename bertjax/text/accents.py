"""Whether a vocabulary learned here strips the marks from letters: decided once, from the text, and reported."""

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bertjax.text.languages import DOTLESS_I_LANGUAGES, MARKS_ARE_ACCENTS, TELLTALE

# Scripts that have case and whose marks are accents.
_ACCENTED = ("Latin", "Greek")
# Shares of all letters: above the first, stripping spoils other scripts; above the second, a telltale letter counts.
_SPOILT, _TELLS = 0.01, 0.003
# First words of the names of characters that belong to no particular script.
_ANY_SCRIPT = ("", "Combining", "Modifier", "Variation", "Caron")
_ONE_SCRIPT = {"Cjk": "Chinese", "Katakana-hiragana": "Katakana", "Ideographic": "Chinese"}


@dataclass(frozen=True)
class Accents:
    """strip: whether marks are stripped. said: a line that says so, and why. warnings: a line for each setting that is
    probably a mistake. caseless: the share of letters that have no case."""

    strip: bool
    said: str
    warnings: tuple[str, ...]
    caseless: float


class _Letters:
    """The letters and marks of texts. caseless, accented, marked, spoilt: shares of them without case, of Latin or
    Greek, of those that lose a mark, of letters of other scripts that change. most_marked, most_spoilt: the most
    frequent of these. others: the other scripts by frequency. telltale: see ``languages``."""

    def __init__(self, texts: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(unicodedata.normalize("NFC", text))
        scripts, marked, spoilt, cased = Counter[str](), Counter[str](), Counter[str](), 0
        for character, count in counts.items():
            if script := _script(character):
                scripts[script] += count
                cased += count * (character.lower() != character.upper())
                if without_marks(character) != character:
                    (marked if script in _ACCENTED else spoilt)[character] += count
        total = scripts.total()
        share = lambda count: count / total if total else 0.0
        self.caseless = 1.0 - share(cased) if total else 0.0
        self.accented = share(sum(scripts[script] for script in _ACCENTED)) if total else 1.0
        self.others = [script for script, _ in scripts.most_common() if script not in _ACCENTED]
        self.marked, self.most_marked = share(marked.total()), _most(marked)
        self.spoilt, self.most_spoilt = share(spoilt.total()), _most(spoilt)
        self.telltale = next((letter for letter in TELLTALE if share(counts[letter]) > _TELLS), None)


def decide(texts: Iterable[str], lowercase: bool, strip_accents: bool | None, language: str | None) -> Accents:
    """What to do about the marks in ``texts``; ``strip_accents`` None: decided here. ``language``: see ``primary``.
    Marks are stripped if text is lowercased, most letters are Latin or Greek, other scripts lose nothing by it, and
    letters with marks are not letters of the language's alphabet."""
    letters = _Letters(texts)
    reason = next(_reasons_to_keep(letters, lowercase, language), None)
    strip = reason is None if strip_accents is None else strip_accents
    if strip_accents is not None:
        said = f"accents are {'stripped' if strip_accents else 'kept'}, since strip_accents = {strip_accents}"
    elif reason is not None:
        said = f"accents are kept (strip_accents = False): {reason}"
        said += f"; {letters.caseless:.0%} have no case" if lowercase and letters.caseless > 0.5 else ""
    elif not letters.marked:
        said = "no letter has an accent; one that comes later loses it (strip_accents = True)"
    else:
        said = (
            f"accents are stripped (strip_accents = True): {letters.accented:.0%} of the letters are Latin or Greek; "
            f"{letters.most_marked} ... lose theirs, {letters.marked:.1%} of the letters "
            f"(data.strip_accents=False keeps them, or data.language=CODE if they are letters of the alphabet)"
        )
    return Accents(strip, said, tuple(_warnings(letters, lowercase, strip, language)), letters.caseless)


def _reasons_to_keep(letters: _Letters, lowercase: bool, language: str | None) -> Iterator[str]:
    if not lowercase:
        yield "text is not lowercased"
    if language is not None and language not in MARKS_ARE_ACCENTS:
        yield f"letters with marks are letters of {language!r}"
    if letters.accented <= 0.5:
        share, scripts = 1 - letters.accented, ", ".join(letters.others[:3])
        yield f"{share:.0%} of the letters are of other scripts than Latin and Greek ({scripts})"
    if letters.spoilt > _SPOILT:
        yield f"{letters.spoilt:.1%} of the letters ({letters.most_spoilt}) would lose what is not an accent"
    if language is None and letters.telltale is not None:
        yield f"its {_letter(letters.telltale)} shows a language in which letters with marks are letters"


def _warnings(letters: _Letters, lowercase: bool, strip: bool, language: str | None) -> Iterator[str]:
    if strip and letters.spoilt > _SPOILT:
        yield (
            f"data.strip_accents = True deletes what is not an accent from {letters.spoilt:.1%} of the letters "
            f"({letters.most_spoilt}); leave it out, or use data.strip_accents=False"
        )
    if lowercase and language is None and TELLTALE.get(letters.telltale or "") in DOTLESS_I_LANGUAGES:
        yield (
            "the text has ı, as in Turkish and Azeri, where I is the capital of ı and not of i; data.language=tr "
            "(or az) lowercases it so"
        )


def caseless_warning(caseless: float) -> list[str]:
    """A line if most letters of lowercased text have no case; ``caseless``: their share."""
    if caseless <= 0.5:
        return []
    return [f"data.lowercase = True changes little of the text: {caseless:.0%} of its letters have no case"]


@functools.lru_cache(maxsize=1 << 16)
def _script(character: str) -> str | None:
    """The script of a letter or mark, which is the first word of its name; None for others, and marks of any script."""
    if unicodedata.category(character)[0] not in "LM":
        return None
    # Full-width, half-width and other forms count as the letter itself.
    word = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "").partition(" ")[0].capitalize()
    return None if word in _ANY_SCRIPT else _ONE_SCRIPT.get(word, word)


class _Marks(dict[int, int | None]):
    """Code point -> None for the marks that BERT strips (category Mn), else itself; for ``str.translate``."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)) == "Mn" else code
        return self[code]


_MARKS = _Marks()


def without_marks(text: str) -> str:
    """``text`` as BERT strips it: decomposed, which Hangul syllables stay, and without marks."""
    return unicodedata.normalize("NFD", text).translate(_MARKS)


def _most(counts: Counter[str]) -> str:
    """The four most frequent characters; combining marks stand on a circle."""
    return " ".join(map(_letter, (c for c, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4])))


def _letter(character: str) -> str:
    return f"\u25cc{character}" if unicodedata.category(character)[0] == "M" else character
