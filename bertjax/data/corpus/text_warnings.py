"""How well a tokenizer suits the text of a corpus: a line for a person, and warnings that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.errors import DataError
from bertjax.text.accents import caseless_warning
from bertjax.text.coverage import CLEANING, REFUSE_ABOVE, WARN_ABOVE, Coverage, helpful_cleaning
from bertjax.text.interface import ROLES, Tokenizer
from bertjax.text.vocabulary import LEAST_SIZE


def text_warnings(corpus: PreparedCorpus, lowercase: bool = False) -> list[str]:
    """A warning for each thing about the text of a corpus that is probably a mistake. ``lowercase``: whether
    lowercasing was asked for, not just the default."""
    cleaning = _cleaning(corpus)
    counts = corpus.manifest["counts"]
    damaged, text = _strings(counts.get("damaged")), TextCounts.of(corpus)
    unknown = [unknown_line(text, corpus.tokenizer)] if text.known.share > WARN_ABOVE else []
    share = cleaning.get("caseless")
    caseless = caseless_warning(share) if lowercase and isinstance(share, float) else []
    return [*unknown, *damaged, *_strings(cleaning.get("warnings")), *caseless]


def cleaning_line(corpus: PreparedCorpus) -> list[str]:
    """How the text was cleaned and why, as a line; none if a given tokenizer decided it, or it is not on record."""
    said = _cleaning(corpus).get("said")
    return [said] if isinstance(said, str) else []


def _cleaning(corpus: PreparedCorpus) -> dict[str, Any]:
    found = corpus.manifest.get("cleaning")
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class TextCounts:
    """What a manifest records about the text of a corpus. unused_entries: those that never occur. Not recorded: unit,
    what is counted as characters; asked_size, of a vocabulary that was learned."""

    known: Coverage
    unused_entries: int
    known_if: str | None = None
    unit: str = "characters"
    asked_size: int | None = None

    @classmethod
    def of(cls, corpus: PreparedCorpus) -> TextCounts:
        """From the manifest. Earlier versions did not count characters: there it is tokens of the training text."""
        counts, used = corpus.manifest["counts"].get("text"), corpus.token_counts
        asked = corpus.manifest["settings"].get("vocab_size")
        if not isinstance(counts, dict) or any(type(counts.get(name)) is not int for name in _NUMBERS):
            known = Coverage(int(used.sum()), unknown=int(used[corpus.tokenizer.unk_id]))
            return cls(known, _unused(used, corpus.tokenizer), unit="tokens")
        *numbers, unused = (counts[name] for name in _NUMBERS)
        known = Coverage(*numbers, list(_strings(counts.get("unknown_examples"))))
        known_if = counts.get("known_if") if counts.get("known_if") in tuple(CLEANING) else None
        return cls(known, unused, known_if, asked_size=asked if isinstance(asked, int) else None)

    @classmethod
    def counted(cls, known: Coverage, used: np.ndarray, tokenizer: Tokenizer, asked_size: int | None) -> TextCounts:
        """used: int64 [vocab_size], how often each entry occurs. asked_size: None of a tokenizer that was given."""
        known_if = helpful_cleaning(tokenizer, known) if asked_size is None else None
        few = replace(known, examples=[example[:20] for example in known.examples[:3]])
        return cls(few, _unused(used, tokenizer), known_if, asked_size=asked_size)

    def recorded(self) -> dict[str, Any]:
        """For the manifest."""
        *numbers, examples = astuple(self.known)
        counts = dict(zip(_NUMBERS, (*numbers, self.unused_entries), strict=True))
        return counts | {"unknown_examples": examples, "known_if": self.known_if}


_NUMBERS = ("characters", "words", "tokens", "unknown_characters", "too_long_characters", "unused_entries")


def _unused(used: np.ndarray, tokenizer: Tokenizer) -> int:
    """Entries that never occur, without the special roles; ``[unusedN]`` are among them."""
    return len(set(np.flatnonzero(used == 0).tolist()) - {getattr(tokenizer, f"{role}_id") for role in ROLES})


def text_line(corpus: PreparedCorpus) -> str:
    """What the tokenizer makes of the text, in words."""
    text, entries = TextCounts.of(corpus), corpus.tokenizer.vocab_size - len(ROLES)
    words = f"{text.known.tokens / max(text.known.words, 1):.2f} tokens a word, " if text.known.words else ""
    return (
        f"{words}{text.known.share:.2%} of the {text.unit} are {_piece(corpus.tokenizer)}; {text.unused_entries:,} "
        f"of {entries:,} entries ({text.unused_entries / max(entries, 1):.0%}) never occur"
    )


def unknown_line(text: TextCounts, tokenizer: Tokenizer) -> str:
    """How much of the text is unknown, why if that is known, and what to do."""
    examples = ", ".join(map(repr, text.known.examples))
    too_long = text.known.too_long / max(text.known.unknown, 1)
    line = f"{text.known.share:.1%} of the {text.unit} of the corpus are {_piece(tokenizer)}"
    line += f", such as {examples}" if examples else ""
    if too_long > 0.01:
        line += (
            f" ({too_long:.0%} of them in words of more than {tokenizer.longest_word} characters, which WordPiece "
            f"does not look into)"
        )
    if text.known_if is not None and too_long < 0.5:
        _, how, key = CLEANING[text.known_if]
        return (
            f"{line}; its vocabulary knows them {how}: use --config.data.{text.known_if}=True (bertjax.prepare: "
            f'--{text.known_if}=true), or, where its files say otherwise, "{key}": true in its tokenizer_config.json'
        )
    size, least = text.asked_size, LEAST_SIZE["sentencepiece"]
    is_small = size is not None and size < least
    run, command = (f" --config.model.vocab_size={least}", f" --vocab_size={least}") if is_small else ("", "")
    return (
        f"{line}; use --config.data.tokenizer=sentencepiece{run} (bertjax.prepare: --tokenizer=sentencepiece"
        f"{command}), which is learned from the text and spells in bytes what it does not know"
    )


def check_known(text: TextCounts, tokenizer: Tokenizer) -> None:
    """Raises DataError if more than a fifth of a text is unknown: a model would learn little but that."""
    if text.known.share > REFUSE_ABOVE:
        raise DataError(unknown_line(text, tokenizer))


def _piece(tokenizer: Tokenizer) -> str:
    return tokenizer.token(tokenizer.unk_id)


def _strings(found: object) -> Iterator[str]:
    """The strings of a list; earlier versions wrote none, and a file may contain anything."""
    yield from (line for line in found if isinstance(line, str)) if isinstance(found, list) else ()
