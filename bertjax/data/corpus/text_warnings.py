"""How well a tokenizer suits the text of a corpus: a line for a person, and warnings that say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bertjax.errors import DataError
from bertjax.text.accents import caseless_warning
from bertjax.text.coverage import REFUSE_ABOVE, WARN_ABOVE, Coverage, helpful_cleaning
from bertjax.text.interface import ROLES, Tokenizer
from bertjax.text.vocabulary import LEAST_SIZE


class Corpus(Protocol):
    """What is asked of a prepared corpus (``bertjax.data.corpus.prepared``)."""

    manifest: Mapping[str, Any]
    tokenizer: Tokenizer
    token_counts: np.ndarray


def text_warnings(corpus: Corpus, lowercase: bool = False) -> list[str]:
    """A warning for each thing about the text of a corpus that is probably a mistake.

    ``lowercase``: whether lowercasing was asked for, not just the default.
    """
    cleaning = _cleaning(corpus)
    counts = corpus.manifest["counts"]
    damaged, text = _strings(counts.get("damaged")), TextCounts.of(corpus)
    unknown = [unknown_line(text, corpus.tokenizer)] if text.share > WARN_ABOVE else []
    share = cleaning.get("caseless")
    caseless = caseless_warning(share) if lowercase and isinstance(share, float) else []
    return [*unknown, *damaged, *_strings(cleaning.get("warnings")), *caseless]


def cleaning_line(corpus: Corpus) -> list[str]:
    """How the text was cleaned and why, as a line; none if a given tokenizer decided it, or it is not on record."""
    said = _cleaning(corpus).get("said")
    return [said] if isinstance(said, str) else []


def _cleaning(corpus: Corpus) -> dict[str, Any]:
    found = corpus.manifest.get("cleaning")
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class TextCounts:
    """What is on record about the text of a corpus. share: of its ``unit`` that is unknown. too_long: share of these in
    words longer than the tokenizer looks at. unused: entries that never occur."""

    share: float
    unused: int
    entries: int
    unit: str = "characters"
    too_long: float = 0.0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    examples: tuple[str, ...] = ()
    known_if: str | None = None
    sentencepiece_size: int | None = None

    @classmethod
    def of(cls, corpus: Corpus) -> TextCounts:
        """From the manifest. Earlier versions did not count characters: there it is tokens of the training text."""
        counts, tokenizer = corpus.manifest["counts"].get("text"), corpus.tokenizer
        used = corpus.token_counts
        if isinstance(counts, dict) and all(type(counts.get(name)) is int for name in _NUMBERS):
            return cls.from_counts(counts, tokenizer, corpus.manifest["settings"].get("vocab_size"))
        share = int(used[tokenizer.unk_id]) / max(int(used.sum()), 1)
        return cls(share, *_unused(used, tokenizer), unit="tokens")

    @classmethod
    def from_counts(cls, counts: Mapping[str, Any], tokenizer: Tokenizer, asked_size: Any) -> TextCounts:
        """counts: ``text`` in the counts of a manifest. asked_size: of a vocabulary that was learned."""
        unknown, known_if = counts["unknown_characters"], counts.get("known_if")
        return cls(
            share=unknown / max(counts["characters"], 1),
            unused=counts["unused_entries"],
            entries=tokenizer.vocab_size - len(ROLES),
            too_long=counts["too_long_characters"] / max(unknown, 1),
            characters=counts["characters"],
            words=counts["words"],
            tokens=counts["tokens"],
            examples=tuple(_strings(counts.get("unknown_examples"))),
            known_if=known_if if known_if in _REMEDIES else None,
            sentencepiece_size=LEAST_SIZE["sentencepiece"]
            if isinstance(asked_size, int) and asked_size < LEAST_SIZE["sentencepiece"]
            else None,
        )


_NUMBERS = ("characters", "words", "tokens", "unknown_characters", "too_long_characters", "unused_entries")
_REMEDIES = {
    "lowercase": (
        "its vocabulary knows them in lower case: use --config.data.lowercase=True (bertjax.prepare: "
        '--lowercase=true), or, where its files say otherwise, "do_lower_case": true in its tokenizer_config.json'
    ),
    "strip_accents": (
        "its vocabulary knows them without marks on the letters: use --config.data.strip_accents=True "
        '(bertjax.prepare: --strip_accents=true), or "strip_accents": true in its tokenizer_config.json'
    ),
}


def counts_of_text(known: Coverage, used: np.ndarray, tokenizer: Tokenizer, trained: bool) -> dict[str, Any]:
    """What a manifest records about a text. used: int64 [vocab_size], how often each entry occurs in it."""
    return {
        "characters": known.characters,
        "words": known.words,
        "tokens": known.tokens,
        "unknown_characters": known.unknown,
        "too_long_characters": known.too_long,
        "unused_entries": _unused(used, tokenizer)[0],
        "unknown_examples": [example[:20] for example in known.examples[:3]],
        "known_if": None if trained else helpful_cleaning(tokenizer, known),
    }


def _unused(used: np.ndarray, tokenizer: Tokenizer) -> tuple[int, int]:
    """(entries that never occur, all entries), without the special roles; ``[unusedN]`` are among them."""
    roles = {getattr(tokenizer, f"{role}_id") for role in ROLES}
    never = set(np.flatnonzero(used == 0).tolist())
    return len(never - roles), tokenizer.vocab_size - len(roles)


def text_line(corpus: Corpus) -> str:
    """What the tokenizer makes of the text, in words."""
    text = TextCounts.of(corpus)
    words = f"{text.tokens / max(text.words, 1):.2f} tokens a word, " if text.words else ""
    return (
        f"{words}{text.share:.2%} of the {text.unit} are {_piece(corpus.tokenizer)}; {text.unused:,} of "
        f"{text.entries:,} entries ({text.unused / max(text.entries, 1):.0%}) never occur"
    )


def unknown_line(text: TextCounts, tokenizer: Tokenizer) -> str:
    """How much of the text is unknown, why if that is known, and what to do."""
    examples = ", ".join(map(repr, text.examples))
    line = f"{text.share:.1%} of the {text.unit} of the corpus are {_piece(tokenizer)}"
    line += f", such as {examples}" if examples else ""
    if text.too_long > 0.01:
        line += (
            f" ({text.too_long:.0%} of them in words of more than {tokenizer.longest_word} characters, which WordPiece "
            f"does not look into)"
        )
    if text.known_if is not None and text.too_long < 0.5:
        return f"{line}; {_REMEDIES[text.known_if]}"
    size = text.sentencepiece_size
    run, command = (f" --config.model.vocab_size={size}", f" --vocab_size={size}") if size else ("", "")
    return (
        f"{line}; use --config.data.tokenizer=sentencepiece{run} (bertjax.prepare: --tokenizer=sentencepiece"
        f"{command}), which is learned from the text and spells in bytes what it does not know"
    )


def check_known(text: TextCounts, tokenizer: Tokenizer) -> None:
    """Raises DataError if more than a fifth of a text is unknown: a model would learn little but that."""
    if text.share > REFUSE_ABOVE:
        raise DataError(unknown_line(text, tokenizer))


def _piece(tokenizer: Tokenizer) -> str:
    return tokenizer.token(tokenizer.unk_id)


def _strings(found: object) -> Iterator[str]:
    """The strings of a list; earlier versions wrote none, and a file may contain anything."""
    yield from (line for line in found if isinstance(line, str)) if isinstance(found, list) else ()
