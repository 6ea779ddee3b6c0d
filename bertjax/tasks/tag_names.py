"""Warnings about tags of a file that a model does not know, and about tags that are nearly those of entities."""

from collections import Counter
from collections.abc import Collection, Sequence

from bertjax.cli.showing import listed, quoted
from bertjax.errors import DataError
from bertjax.tasks.entities import nearest_scheme
from bertjax.tasks.examples import TaggedExample
from bertjax.tasks.labels import is_confusable, unknown_label

_MOST_LISTED = 5


class TagNames(tuple[str, ...]):
    """Names of tags by id. The first ``known`` are a model's; the others occur only in the scored file, so whatever the
    model predicts for words with such a tag is wrong, and so are their entities."""

    known: int

    @classmethod
    def of(cls, known: Sequence[str], examples: Sequence[TaggedExample]) -> "TagNames":
        """With the tags of the examples. Raises DataError if no word has a known tag, and for a tag that looks like a
        known one."""
        there = {tag for example in examples for tag in example.tags or ()}
        others = sorted(there - set(known))
        for tag in others:
            if is_confusable(tag, known):
                raise unknown_label(tag, known, _first(examples, [tag])[1])
        if others and there.isdisjoint(known):
            raise DataError(
                f"{examples[0].where}: the model knows no tag of the file ({listed(others, _MOST_LISTED)}); "
                f"its tags are {listed(known, _MOST_LISTED)}. Choose the column of the tags with config.data.label, in "
                f"evaluate with --columns"
            )
        names = cls((*known, *others))
        names.known = len(known)
        return names

    def lines(self, examples: Sequence[TaggedExample]) -> list[str]:
        """A line if there are tags that the model does not know, else one if all words have the same tag."""
        counts = Counter(tag for example in examples for tag in example.tags or ())
        found = Counter({tag: counts[tag] for tag in counts if tag in self[self.known :]})
        if not found and len(counts) == 1:
            (tag, words), in_file = counts.popitem(), examples[0].lines is not None
            column = "; choose another column with config.data.label, in evaluate with --columns" * in_file
            place = examples[0].where
            return [f"{place}: all {words:,} words have the tag {quoted(tag)}: their scores mean nothing{column}"]
        if not found:
            return []
        counts = listed([f"{quoted(tag)} {count:,}" for tag, count in found.most_common()], _MOST_LISTED)
        return [
            f"{_first(examples, found)[1]}: a tag that the model does not know; words with such tags count as errors: "
            f"{counts}; it knows {listed(self[: self.known], _MOST_LISTED)}"
        ]


def why_no_entities(label_names: Sequence[str], examples: Sequence[TaggedExample] = ()) -> str | None:
    """Why words are scored and not entities, although most of the tags are entity tags; None if entities are scored, or
    if the tags are something else, such as parts of speech. examples: to name a line."""
    scheme, odd = nearest_scheme(label_names)
    if scheme is None or not odd or 2 * len(odd) >= len(label_names):
        return None
    tag, place = _first(examples, odd)
    return (
        f"{place + ': ' if place else ''}the tag {tag} is not an entity tag like {scheme.listed(label_names)}; with "
        f"it there, the accuracy of words is scored, and entities are not"
    )


def _first(examples: Sequence[TaggedExample], tags: Collection[str]) -> tuple[str, str]:
    """(tag, place) of the first word with one of the tags; (the first of them, "") if there is none."""
    for example in examples:
        for word, tag in enumerate(example.tags or ()):
            if tag in tags:
                return tag, example.place(word)
    return next(iter(tags)), ""
