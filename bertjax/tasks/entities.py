"""Entities marked by tags: the scheme of the tags, the spans of the entities, warnings about tags that do not fit.

Schemes: IOB (1 and 2, also called BIO; IOE), IOBES (BIOES), BILOU, BMES, BMEWO; with a type (``B-PER``, ``B_PER``,
``PER-B``) or without one (``B``: chunks, words of Chinese), in upper or lower case, 0 for O where there is no O.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bertjax.cli.showing import listed, quoted
from bertjax.errors import DataError
from bertjax.tasks.examples import TaggedExample
from bertjax.tasks.labels import confusable_with, unknown_label

# The role of a letter: B begins an entity, I continues it, E ends it, S is an entity of one word.
_SCHEMES = (
    {"B": "B", "I": "I"},
    {"B": "B", "I": "I", "E": "E", "S": "S"},
    {"B": "B", "I": "I", "L": "E", "U": "S"},
    {"B": "B", "M": "I", "E": "E", "S": "S"},
    {"B": "B", "M": "I", "E": "E", "W": "S"},
)
_ALL = {letter: role for roles in _SCHEMES for letter, role in roles.items()}
_FORMS = (
    re.compile(r"(?P<letter>[A-Za-z])(?P<mark>[-_:/.|])(?P<type>.+)", re.DOTALL),
    re.compile(r"(?P<type>.+)(?P<mark>[-_:/.|])(?P<letter>[A-Za-z])", re.DOTALL),
    re.compile(r"(?P<letter>[A-Za-z])(?P<mark>)(?P<type>)"),
)
_OUTSIDE = ("O", "o", "0")
NO_TYPE = "_"  # as seqeval has it
_MOST_LISTED = 5


@dataclass(frozen=True)
class Scheme:
    """How to read tags. roles: letter -> B, I, E or S; outside: the tag of words outside entities, if there is one."""

    roles: dict[str, str]
    form: re.Pattern[str]
    outside: str | None

    def plain(self, tag: str) -> str | None:
        """The tag as seqeval reads it: "O", "B-PER", "S-PER", "B"; None if it does not fit the scheme."""
        if tag == self.outside:
            return "O"
        found = self.form.fullmatch(tag)
        role = found and self.roles.get(found["letter"].upper())
        return (f"{role}-{found['type']}" if found["type"] else role) if found and role else None

    def entities(self, tags: Sequence[str]) -> list[tuple[str, int, int]]:
        """(type, first word, last word) of a sentence, read as seqeval and conlleval do, which forgive a missing
        beginning; a tag that does not fit the scheme is outside entities."""
        return _spans([self.plain(tag) or "O" for tag in tags])

    def listed(self, names: Sequence[str]) -> str:
        found = [match for match in map(self.form.fullmatch, names) if match and match["letter"].upper() in self.roles]
        is_suffix = any(match.start("letter") for match in found)
        kinds = {f"{m['mark']}{m['letter']}" if is_suffix else f"{m['letter']}{m['mark']}" for m in found}
        return ", ".join([*sorted(kinds), *([self.outside] if self.outside is not None else [])])


def scheme_of(label_names: Sequence[str]) -> Scheme | None:
    """The scheme of a model's tags; None if they are not entity tags. The model's own of ``TagNames`` decide; the
    others are read with the letters of all schemes."""
    known = getattr(label_names, "known", len(label_names))
    scheme, odd = nearest_scheme(label_names[:known])
    if scheme is None or odd:
        return None
    return scheme if known == len(label_names) else replace(scheme, roles=_ALL)


def nearest_scheme(names: Sequence[str]) -> tuple[Scheme | None, list[str]]:
    """(the scheme that fits most of the tags, the tags that do not fit); (None, all) if no scheme fits any."""
    outside = next((name for name in _OUTSIDE if name in names), None)
    best: tuple[Scheme | None, list[str]] = None, list(names)
    for form in _FORMS:
        for roles in _SCHEMES:
            scheme = Scheme(roles, form, outside)
            odd = [name for name in names if scheme.plain(name) is None]
            if len(odd) < len(best[1]) and _marks_entities(scheme, names):
                best = scheme, odd
    return best


def _marks_entities(scheme: Scheme, names: Sequence[str]) -> bool:
    """Whether the tags mark entities at all; without an outside tag, entities must begin and continue."""
    roles = {tag[0] for name in names if (tag := scheme.plain(name)) is not None} - {"O"}
    return bool(roles) if scheme.outside is not None else "B" in roles and bool(roles & {"I", "E"})


def are_entities(label_names: Sequence[str]) -> bool:
    return scheme_of(label_names) is not None


def types_of(label_names: Sequence[str]) -> list[str]:
    """The types of entities that the tags name, sorted; ``NO_TYPE`` for tags without a type."""
    scheme = scheme_of(label_names)
    plain = [scheme.plain(name) for name in label_names] if scheme else []
    return sorted({tag[2:] or NO_TYPE for tag in plain if tag not in (None, "O")})


def entity_pairs(
    predictions: Any, labels: Any, label_names: Sequence[str]
) -> Iterator[tuple[set[tuple[str, int, int]], set[tuple[str, int, int]]]]:
    """(predicted, true) entities by sentence, as (type, first word, last word), of lists of tag ids."""
    scheme = scheme_of(label_names)
    plain = [(scheme and scheme.plain(name)) or "O" for name in label_names]
    for rows in zip(predictions, labels, strict=True):
        ours, theirs = (set(_spans([plain[i] for i in ids])) for ids in rows)
        yield ours, theirs


def _spans(plain: list[str]) -> list[tuple[str, int, int]]:
    from seqeval.metrics.sequence_labeling import get_entities

    return get_entities(plain)


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
            if confusable_with(tag, known) is not None:
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
