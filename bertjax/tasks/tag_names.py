"""Tags of a file that a model does not know, and tags that are nearly those of entities: what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from bertjax.errors import DataError
from bertjax.tasks.confusable_labels import refuse_confusable
from bertjax.tasks.entities import nearest_scheme
from bertjax.tasks.examples import TaggedExample, shown

_MOST_LISTED = 5


class TagNames(tuple[str, ...]):
    """Names of tags by id. The first ``known`` are a model's; the others are in the scored file alone, so that words
    with such a tag are wrong whatever the model says, and so are their entities."""

    known: int

    @classmethod
    def of(cls, known: Sequence[str], examples: Sequence[TaggedExample]) -> TagNames:
        """With those of the examples. Raises DataError where no word of theirs has a known tag, and for one that looks
        like a known tag."""
        others = {tag for example in examples for tag in example.tags or ()} - set(known)
        for tag in sorted(others):
            refuse_confusable(tag, known, _first(examples, [tag])[1])
        names = cls((*known, *sorted(others)))
        names.known = len(known)
        if others and names.unknown(examples).total() == sum(len(example.tags or ()) for example in examples):
            raise DataError(
                f"{examples[0].where}: the model knows no tag of the file ({_listed(sorted(others))}); its tags are "
                f"{_listed(known)}. The column of the tags is config.data.label, in evaluate --columns"
            )
        return names

    def unknown(self, examples: Sequence[TaggedExample]) -> Counter[str]:
        """How many words have each of the tags that the model does not know."""
        others = set(self[self.known :])
        return Counter(tag for example in examples for tag in example.tags or () if tag in others)

    def lines(self, examples: Sequence[TaggedExample]) -> list[str]:
        """A line on the tags that the model does not know, if there are any, and one where all words have the same."""
        found = self.unknown(examples)
        if not found:
            return _lines_on_one(examples)
        counts = _listed([f"{shown(tag)} {count:,}" for tag, count in found.most_common()])
        return [
            f"{_first(examples, found)[1]}: a tag that the model does not know; words with such tags count as errors: "
            f"{counts}; it knows {_listed(self[: self.known])}"
        ]


def _lines_on_one(examples: Sequence[TaggedExample]) -> list[str]:
    counts = Counter(tag for example in examples for tag in example.tags or ())
    if len(counts) != 1:
        return []
    (tag, words), column = counts.popitem(), ""
    if examples[0].lines is not None:
        column = "; another column is chosen by config.data.label, in evaluate by --columns"
    return [f"{examples[0].where}: all {words:,} words have the tag {shown(tag)}: scores of them say nothing{column}"]


def why_no_entities(label_names: Sequence[str], examples: Sequence[TaggedExample] = ()) -> str | None:
    """Why words are scored and not entities, although most of the tags are entity tags; None where entities are
    scored, or the tags are something else, such as parts of speech. examples: to name a line."""
    scheme, odd = nearest_scheme(label_names)
    if scheme is None or not odd or 2 * len(odd) >= len(label_names):
        return None
    tag, place = _first(examples, odd)
    return (
        f"{place + ': ' if place else ''}the tag {tag} is no entity tag among {scheme.listed(label_names)}; words are "
        f"scored, by accuracy, and entities are not while it is there"
    )


def _first(examples: Sequence[TaggedExample], tags: Collection[str]) -> tuple[str, str]:
    """(tag, place) of the first word with one of the tags; ("the first of them", "") where there is none."""
    for example in examples:
        for word, tag in enumerate(example.tags or ()):
            if tag in tags:
                return tag, example.place(word)
    return next(iter(tags)), ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_LISTED]) + ", ..." * (len(names) > _MOST_LISTED)
