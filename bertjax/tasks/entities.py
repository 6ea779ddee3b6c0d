"""Entities marked by tags: the scheme of the tags, and the spans of the entities.

Schemes: IOB (1 and 2, also called BIO; IOE), IOBES (BIOES), BILOU, BMES, BMEWO; with a type (``B-PER``, ``B_PER``,
``PER-B``) or without one (``B``: chunks, words of Chinese), in upper or lower case, 0 for O where there is no O.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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


def entity_counts(predictions: Any, labels: Any, label_names: Sequence[str]) -> np.ndarray:
    """int [N, 3] by sentence: entities that are right, predicted, and true."""
    pairs = entity_pairs(predictions, labels, label_names)
    counts = [(len(ours & theirs), len(ours), len(theirs)) for ours, theirs in pairs]
    return np.array(counts, np.int64).reshape(-1, 3)
