"""Tags of words -> entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    """Words ``begin`` .. ``end`` - 1 of a sentence."""

    type: str
    begin: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities in tags "O", "B-x", "I-x", also "E-x" and "S-x", as conlleval and seqeval find them.

    One begins at B and S, after E and S, after O, and where the type changes; so I can begin one too.
    """
    found: list[Entity] = []
    before = "O"
    for position, tag in enumerate(tags):
        if tag != "O":
            begins = tag[0] in "BS" or before[0] in "OES" or before[2:] != tag[2:]
            begin = position if begins else found.pop().begin
            found.append(Entity(tag[2:], begin, position + 1))
        before = tag
    return found
