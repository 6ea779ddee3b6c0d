"""What is put around texts: the template by which bertjax trains, as the part of a ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# A step before the template that changes offsets and never ids.
_OF_OFFSETS = "ByteLevel"
_ROBERTA = "RobertaProcessing"


def trained_template(cls: tuple[str, int], sep: tuple[str, int]) -> dict[str, Any]:
    """``[CLS] A [SEP]`` and ``[CLS] A [SEP] B [SEP]``, with the types 0 and 1; ``cls``, ``sep``: (piece, id)."""
    special = lambda name, kind: {"SpecialToken": {"id": name, "type_id": kind}}
    text = lambda name, kind: {"Sequence": {"id": name, "type_id": kind}}
    single = [special(cls[0], 0), text("A", 0), special(sep[0], 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special(sep[0], 1)],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (cls, sep)},
    }


def with_template(given: Any, template: dict[str, Any]) -> dict[str, Any]:
    """``template`` in the place of whatever ``given``, the post-processor of a file, puts around texts; its steps for
    offsets stay."""
    offsets = list(_steps_for_offsets(given))
    return {"type": "Sequence", "processors": [*offsets, template]} if offsets else template


def _steps_for_offsets(given: Any) -> Iterator[dict[str, Any]]:
    waiting = [given]
    while waiting:
        step = waiting.pop(0)
        if not isinstance(step, dict):
            continue
        if step.get("type") == _OF_OFFSETS:
            yield step
        elif step.get("type") == _ROBERTA:
            prefix, trim = step.get("add_prefix_space", True), step.get("trim_offsets", True)
            yield {"type": _OF_OFFSETS, "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": True}
        elif isinstance(step.get("processors"), list):
            waiting = [*step["processors"], *waiting]
