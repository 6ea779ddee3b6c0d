"""Texts that a model is asked about and does not see: its tokenizer does not know what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bertjax.text.tokenizer import Tokenizer
from bertjax.text.unknown import unknown_caution


def watched(work: Callable[[list[Any]], Any], tokenizer: Tokenizer, warn: Callable[[str], None]) -> Callable[..., Any]:
    """``work`` on lots of texts, which warns once, of the first lot with more than 1 % of unknown characters."""
    masks = {"[MASK]", tokenizer.token(tokenizer.mask_id)}
    is_said = False

    def watching(items: list[Any]) -> Any:
        nonlocal is_said
        if not is_said:
            texts = list(_strings(items))
            for mask in masks:
                texts = [text.replace(mask, " ") for text in texts]
            _, line = unknown_caution(tokenizer, texts, "the texts")
            is_said = line is not None
            if line is not None:
                warn(line)
        return work(items)

    return watching


def _strings(items: Any) -> Iterator[str]:
    """The strings of texts, pairs of texts and lists of words; those that are no text are told elsewhere."""
    if isinstance(items, str):
        if items.isascii() or _encodes(items):
            yield items
    elif isinstance(items, list | tuple):
        for item in items:
            yield from _strings(item)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
