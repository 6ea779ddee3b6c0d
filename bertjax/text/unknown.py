"""How much of a text a tokenizer does not know: what becomes [UNK], by characters, and how it would be known."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bertjax.text.interface import Tokenizer

# Shares of a text's characters: above the first one it is a warning, above the second what is left is not the text.
WARN_ABOVE, REFUSE_ABOVE = 0.01, 0.2
# Characters in texts with unknown ones that are looked at of each lot, evenly; the rest of the lot is as these are.
_LOOKED_AT = 100_000
_EXAMPLES = 200
_LONGEST_EXAMPLE = 100


@dataclass
class Known:
    """Counts of texts and their tokens. characters: all but white space. words: between white space. unknown:
    characters that became the unknown token; too_long: those of them in words beyond ``Tokenizer.longest_word``.
    examples: some of what is unknown."""

    characters: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0
    too_long: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The part of the characters that is unknown."""
        return self.unknown / max(self.characters, 1)

    def add(self, other: Known) -> None:
        self.characters += other.characters
        self.words += other.words
        self.tokens += other.tokens
        self.unknown += other.unknown
        self.too_long += other.too_long
        self.examples = list(dict.fromkeys([*self.examples, *other.examples]))[:_EXAMPLES]


def known_in(tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[Sequence[int]] | None = None) -> Known:
    """Counts over ``texts``; ids: their tokens, where these are known already.

    Where many texts have unknown characters an even part of them is looked at, and stands for the others.
    """
    ids = tokenizer.encode_batch(texts) if ids is None else ids
    found = Known(
        characters=sum(len(text) - sum(map(text.count, " \n\t")) for text in texts),
        words=sum(len(text.split()) for text in texts),
        tokens=sum(map(len, ids)),
    )
    unknown = tokenizer.unk_id
    counts = {index: own.count(unknown) for index, own in enumerate(ids) if unknown in own}
    step = 1 + sum(len(texts[index]) for index in counts) // _LOOKED_AT
    chosen = list(counts)[::step]
    examples: dict[str, None] = {}
    for text, located in zip(chosen, tokenizer.locate_batch([texts[index] for index in chosen]), strict=True):
        for begin, end in sorted({span for one, span in zip(*located, strict=True) if one == unknown}):
            piece = texts[text][begin:end]
            length = len(piece) - sum(map(str.isspace, piece))
            found.unknown += length
            found.too_long += length * _is_too_long(piece, tokenizer.longest_word)
            if len(examples) < _EXAMPLES:
                examples[piece[:_LONGEST_EXAMPLE]] = None
    found.examples = list(examples)
    if len(chosen) < len(counts):
        # By length: texts that are one unknown word each have a token each, however long they are.
        factor = sum(len(texts[index]) for index in counts) / sum(len(texts[index]) for index in chosen)
        found.unknown = min(round(found.unknown * factor), found.characters)
        found.too_long = min(round(found.too_long * factor), found.unknown)
    return found


def _is_too_long(piece: str, longest: int | None) -> bool:
    # What is counted is the word after its cleaning, which may take letters apart, and leave marks out.
    return longest is not None and max(len(piece), len(unicodedata.normalize("NFD", piece))) > longest


def unknown_caution(tokenizer: Tokenizer, texts: Iterable[str], what: str) -> tuple[float, str | None]:
    """(share of the characters of ``texts``, ``what``, that a model's tokenizer does not know; a line that says so
    where it is more than 1 %). Of much text an even part is looked at."""
    chosen = sampled(texts)
    known = known_in(tokenizer, chosen)
    if known.share <= WARN_ABOVE:
        return known.share, None
    examples = ", ".join(repr(example[:20]) for example in known.examples[:3])
    line = (
        f"{known.share:.1%} of the characters of {what} are {tokenizer.token(tokenizer.unk_id)}, such as {examples}: "
    )
    if 2 * known.too_long > known.unknown:
        return known.share, (
            f"{line}the model does not see words of more than {tokenizer.longest_word} characters; divide them by "
            f"spaces, or use a model whose tokenizer divides them"
        )
    fix = known_if(tokenizer, known)
    key = {"lowercase": '"do_lower_case": true', "strip_accents": '"strip_accents": true'}.get(fix or "")
    if key is not None:
        how = "in lower case" if fix == "lowercase" else "without marks on the letters"
        way = f"its vocabulary knows them {how}: set {key} in the tokenizer_config.json of its folder"
    else:
        way = "use a model whose tokenizer knows them"
    return known.share, f"{line}the model does not see what they say; {way}"


def sampled(texts: Iterable[str], characters: int = 1_000_000) -> list[str]:
    """An even part of texts, of about so many characters at most."""
    texts = list(texts)
    return texts[:: 1 + sum(map(len, texts)) // characters]


def known_if(tokenizer: Tokenizer, known: Known) -> str | None:
    """``lowercase`` or ``strip_accents`` where most of the examples of what is unknown are known with that."""
    changes: dict[str, Callable[[str], str]] = {"lowercase": str.lower, "strip_accents": _without_marks}
    examples = [one for one in known.examples if one]
    for name, change in changes.items():
        changed = [change(one) for one in examples]
        is_known = [tokenizer.unk_id not in ids for ids in tokenizer.encode_batch(changed)]
        if not getattr(tokenizer, name) and examples and sum(is_known) > len(examples) / 2:
            return name
    return None


def _without_marks(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
