"""Whether a vocabulary that is learned here loses the marks on letters: decided once, from the text, and told."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bertjax.text.languages import TELLING, has_dotless_i, marks_are_letters

# Scripts that have case and whose marks are accents.
_ACCENTED = ("Latin", "Greek")
# Of all letters: how many of other scripts may lose something, and how many tell a language by themselves.
_SPOILT, _TELLS = 0.01, 0.003
# First words of the names of characters that belong to no script of their own.
_ANY_SCRIPT = ("", "Combining", "Modifier", "Variation", "Caron")
_ONE_SCRIPT = {"Cjk": "Chinese", "Katakana-hiragana": "Katakana", "Ideographic": "Chinese"}


@dataclass(frozen=True)
class Accents:
    """strip: whether marks are stripped. said: that, and why, in a line. warnings: what is hardly meant, a line each;
    caseless: the share of letters that have no case."""

    strip: bool
    said: str
    warnings: tuple[str, ...] = ()
    caseless: float = 0.0


@dataclass(frozen=True)
class _Letters:
    """Letters and marks of a text, counted. scripts: by script. marked: of Latin and Greek those that lose a mark;
    spoilt: those of other scripts that lose something; all by character."""

    total: int
    cased: int
    scripts: Counter[str]
    marked: Counter[str]
    spoilt: Counter[str]
    telling: str | None


def decide(texts: Iterable[str], lowercase: bool, strip_accents: bool | None, language: str | None) -> Accents:
    """What to do about the marks of ``texts``; ``strip_accents`` None: decided here, ``language`` of ``primary``.

    They are stripped where text is lowercased, most letters are Latin or Greek, what else there is loses nothing by it,
    and the marked letters are not letters of the language's own.
    """
    letters = _count(texts)
    accented = _share(sum(letters.scripts[script] for script in _ACCENTED), letters.total)
    spoilt = _share(letters.spoilt.total(), letters.total)
    caseless = 1.0 - _share(letters.cased, letters.total) if letters.total else 0.0
    others = [script for script, _ in letters.scripts.most_common() if script not in _ACCENTED]
    keeping: tuple[tuple[bool, str], ...] = (
        (not lowercase, "text is not lowercased"),
        (language is not None and marks_are_letters(language), f"letters with marks are letters of {language!r}"),
        (
            letters.total > 0 and accented <= 0.5,
            f"{1 - accented:.0%} of the letters are of other scripts than Latin and Greek ({', '.join(others[:3])})",
        ),
        (spoilt > _SPOILT, f"{spoilt:.1%} of the letters ({_most(letters.spoilt)}) would lose what is no accent"),
        (
            language is None and letters.telling is not None,
            f"its {_letter(letters.telling)} tells a language in which letters with marks are letters",
        ),
    )
    reasons = [reason for holds, reason in keeping if holds]
    marked = _share(letters.marked.total(), letters.total)
    losing = f"; {_most(letters.marked)} ... lose theirs, {marked:.1%} of the letters" if marked else ""
    if strip_accents is not None:
        said = f"accents are {'stripped' if strip_accents else 'kept'}, as strip_accents = {strip_accents}"
    elif reasons:
        said = f"accents are kept (strip_accents = False): {reasons[0]}"
        said += f"; {caseless:.0%} have no case" if lowercase and caseless > 0.5 else ""
    elif not marked:
        said = "no letter has an accent; one that comes later loses it (strip_accents = True)"
    else:
        said = (
            f"accents are stripped (strip_accents = True): {accented:.0%} of the letters are Latin or Greek{losing} "
            f"(data.strip_accents=False keeps them, or data.language=CODE where they are letters of their own)"
        )
    strip = not reasons if strip_accents is None else strip_accents
    return Accents(strip, said, tuple(_warnings(letters, lowercase, strip, language, spoilt)), caseless)


def _warnings(letters: _Letters, lowercase: bool, strip: bool, language: str | None, spoilt: float) -> Iterable[str]:
    if strip and spoilt > _SPOILT:
        yield (
            f"data.strip_accents = True deletes what is no accent from {spoilt:.1%} of the letters "
            f"({_most(letters.spoilt)}); leave it out, or use data.strip_accents=False"
        )
    if lowercase and language is None and has_dotless_i(TELLING.get(letters.telling or "")):
        yield (
            "the text has ı as Turkish and Azeri do, where I is the capital of ı and not of i; data.language=tr "
            "(or az) lowercases it so"
        )


def caseless_warning(caseless: float) -> list[str]:
    """A line where lowercasing was asked for and most letters have no case; ``caseless``: their share."""
    if caseless <= 0.5:
        return []
    return [f"data.lowercase = True changes nothing of most of the text: {caseless:.0%} of its letters have no case"]


def _count(texts: Iterable[str]) -> _Letters:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(unicodedata.normalize("NFC", text))
    scripts: Counter[str] = Counter()
    marked: Counter[str] = Counter()
    spoilt: Counter[str] = Counter()
    cased = 0
    for character, count in counts.items():
        script = _script(character)
        if script:
            scripts[script] += count
            cased += count * (character.lower() != character.upper())
            if _without_marks(character) != character:
                (marked if script in _ACCENTED else spoilt)[character] += count
    total = scripts.total()
    telling = [letter for letter in TELLING if _share(counts[letter], total) > _TELLS]
    return _Letters(total, cased, scripts, marked, spoilt, telling[0] if telling else None)


@functools.lru_cache(maxsize=1 << 16)
def _script(character: str) -> str | None:
    """The script of a letter or mark, by the first word of its name; None for others, and marks of any script."""
    if unicodedata.category(character)[0] not in "LM":
        return None
    # Of full and half width, and other forms of letters, the letter.
    word = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "").partition(" ")[0].capitalize()
    return None if word in _ANY_SCRIPT else _ONE_SCRIPT.get(word, word)


def _without_marks(character: str) -> str:
    """What stripping leaves of a character; Hangul falls into its letters, as BERT does not put them together again."""
    decomposed = unicodedata.normalize("NFD", character)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _most(counts: Counter[str]) -> str:
    """The most frequent characters; marks of no width stand on a circle."""
    return " ".join(map(_letter, (c for c, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4])))


def _letter(character: str | None) -> str:
    is_mark = character is not None and unicodedata.category(character)[0] == "M"
    return f"\u25cc{character}" if is_mark else str(character)
