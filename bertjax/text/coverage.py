"""How much of a text a tokenizer does not know, in characters that become [UNK], and what would help."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bertjax.text.accents import without_marks
from bertjax.text.interface import Tokenizer

# Shares of a text's characters: above the first we warn, above the second what the model sees is no longer the text.
WARN_ABOVE, REFUSE_ABOVE = 0.01, 0.2
# Of the texts with unknown tokens, an even sample of about so many characters is examined.
_EXAMINED = 100_000
_EXAMPLES = 200
_LONGEST_EXAMPLE = 100
# Way of cleaning -> (what does it, how a text looks after it, the key of tokenizer_config.json).
CLEANING = {
    "lowercase": (str.lower, "in lower case", "do_lower_case"),
    "strip_accents": (without_marks, "without marks on the letters", "strip_accents"),
}


@dataclass
class Coverage:
    """Counts over texts. characters: without white space. words: between white space. unknown: characters that became
    the unknown token. too_long: those of them in words longer than ``Tokenizer.longest_word``. examples: some of what
    is unknown."""

    characters: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0
    too_long: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.unknown / max(self.characters, 1)

    def add(self, other: "Coverage") -> None:
        for name in ("characters", "words", "tokens", "unknown", "too_long"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples = list(dict.fromkeys([*self.examples, *other.examples]))[:_EXAMPLES]


def measure_coverage(
    tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[Sequence[int]] | None = None
) -> Coverage:
    """Counts over ``texts``; ``ids``: their tokens, if the caller has them. If many texts have unknown tokens, an even
    sample of those is examined and the counts are scaled up."""
    ids = tokenizer.encode_batch(texts) if ids is None else ids
    found = Coverage(
        characters=sum(len(text) - sum(map(text.count, " \n\t")) for text in texts),
        words=sum(len(text.split()) for text in texts),
        tokens=sum(map(len, ids)),
    )
    affected = [text for text, own in zip(texts, ids, strict=True) if tokenizer.unk_id in own]
    size = sum(map(len, affected))
    examined = affected[:: 1 + size // _EXAMINED]
    for text, encoded in zip(examined, tokenizer.encode_with_offsets(examined), strict=True):
        for begin, end in sorted({offsets for i, offsets in zip(*encoded, strict=True) if i == tokenizer.unk_id}):
            piece = text[begin:end]
            length = len(piece) - sum(map(str.isspace, piece))
            found.unknown += length
            # The limit holds for the word after cleaning, which may decompose letters and remove marks.
            longest = max(len(piece), len(unicodedata.normalize("NFD", piece)))
            found.too_long += length * (tokenizer.longest_word is not None and longest > tokenizer.longest_word)
            found.examples.append(piece[:_LONGEST_EXAMPLE])
    found.examples = list(dict.fromkeys(found.examples))[:_EXAMPLES]
    if len(examined) < len(affected):
        # By length: texts of one unknown word each have one token each, however long they are.
        factor = size / sum(map(len, examined))
        found.unknown = min(round(found.unknown * factor), found.characters)
        found.too_long = min(round(found.too_long * factor), found.unknown)
    return found


def unknown_warning(tokenizer: Tokenizer, texts: Iterable[str], what: str) -> tuple[float, str | None]:
    """(share of the characters of ``texts``, called ``what``, that a model's tokenizer does not know; a line that says
    so if it is more than 1 %). An even sample of a million characters is examined."""
    texts = list(texts)
    coverage = measure_coverage(tokenizer, texts[:: 1 + sum(map(len, texts)) // 1_000_000])
    if coverage.share <= WARN_ABOVE:
        return coverage.share, None
    examples = ", ".join(repr(example[:20]) for example in coverage.examples[:3])
    unknown = tokenizer.token(tokenizer.unk_id)
    line = (
        f"{coverage.share:.1%} of the characters of {what} are {unknown}, such as {examples}: the model does not see "
    )
    if 2 * coverage.too_long > coverage.unknown:
        return coverage.share, (
            f"{line}words of more than {tokenizer.longest_word} characters; divide them by "
            f"spaces, or use a model whose tokenizer divides them"
        )
    fix = "use a model whose tokenizer knows them"
    if cleaning := helpful_cleaning(tokenizer, coverage):
        _, how, key = CLEANING[cleaning]
        fix = f'its vocabulary knows them {how}: set "{key}": true in the tokenizer_config.json of its folder'
    return coverage.share, f"{line}what they say; {fix}"


def helpful_cleaning(tokenizer: Tokenizer, coverage: Coverage) -> str | None:
    """``lowercase`` or ``strip_accents`` if that makes most examples of what is unknown known, else None."""
    examples = [one for one in coverage.examples if one]
    for name, (change, *_) in CLEANING.items():
        is_known = [tokenizer.unk_id not in ids for ids in tokenizer.encode_batch([change(one) for one in examples])]
        if not getattr(tokenizer, name) and examples and sum(is_known) > len(examples) / 2:
            return name
    return None
