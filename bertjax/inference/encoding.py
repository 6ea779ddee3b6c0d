"""Text to model input: ids with [CLS], [SEP] and [MASK], padded, with an attention mask."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Encoded:
    """A text or pair of texts: ids with special tokens, the token type (0 or 1) of each, and their number before
    truncation."""

    input_ids: list[int]
    token_type_ids: list[int]
    full_length: int = 0

    @property
    def is_truncated(self) -> bool:
        return len(self.input_ids) < self.full_length


def encode(
    tokenizer: Tokenizer, texts: Text | Sequence[Text], *, max_length: int | None = None
) -> dict[str, np.ndarray]:
    """Arguments of ``model(**encode(tokenizer, texts))``: input_ids, token_type_ids and attention_mask (1 = token,
    0 = padding), int32 [B, S].

    texts: a text, a pair (text, text), or a list of either; S is the length of the longest. "[MASK]" in a text is the
    mask; other special tokens in it are ordinary text. max_length: longer ones are truncated, the longer text of a pair
    first. Raises ValueError that names the argument.
    """
    several: Any = [texts] if is_single(texts) else texts
    examples = encode_texts(tokenizer, several, max_length)
    longest = max((len(example.input_ids) for example in examples), default=0)
    return padded(examples, len(examples), longest, tokenizer.pad_id)


def is_single(texts: Any) -> bool:
    """Whether ``texts`` is one text or one pair (a tuple of two strings) rather than a list."""
    return isinstance(texts, str) or (isinstance(texts, tuple) and [type(part) for part in texts] == [str, str])


def encode_texts(tokenizer: Tokenizer, texts: Sequence[Text], max_length: int | None = None) -> list[Encoded]:
    """``encode`` without the padding."""
    check_is_tokenizer(tokenizer)
    if max_length is not None and max_length < 5:
        raise ValueError(f"max_length = {max_length} is too small; the least is 5")
    pairs: list[tuple[str, ...]] = []
    for index, text in enumerate(texts):
        parts = tuple(text) if isinstance(text, tuple | list) else (text,)
        if len(parts) not in (1, 2) or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"texts[{index}] must be a string or a pair of strings, not {type(text).__name__}")
        for part in parts:
            check_text(part, f"texts[{index}]")
        pairs.append(parts)
    pieces, examples = iter(_with_masks(tokenizer, [part for parts in pairs for part in parts])), []
    for number in map(len, pairs):
        parts = [next(pieces) for _ in range(number)]
        full_length = sum(map(len, parts)) + number + 1
        if max_length is not None:
            parts = _truncated(parts, max_length - number - 1)
        types = [0] + [kind for kind, part in enumerate(parts) for _ in range(len(part) + 1)]
        ids = [tokenizer.cls_id] + [i for part in parts for i in (*part, tokenizer.sep_id)]
        examples.append(Encoded(ids, types, full_length))
    return examples


def check_text(text: Any, name: str) -> None:
    """Raises ValueError, with the name, for anything but text."""
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a string, not {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half a surrogate pair, which is not a character") from None


def encode_truncated(tokenizer: Tokenizer, texts: Sequence[Text], max_length: int) -> list[Encoded]:
    """``encode_texts`` that warns if texts are truncated; always in the same words, so that it is shown once."""
    examples = encode_texts(tokenizer, texts, max_length)
    if any(example.is_truncated for example in examples):
        message = f"texts of more than {max_length} tokens are truncated to these; the rest is not read"
        warnings.warn(message, stacklevel=3)
    return examples


def padded(examples: Sequence[Encoded], rows: int, length: int, pad_id: int) -> dict[str, np.ndarray]:
    """Examples as int32 arrays [rows, length]; the rows beyond them have one unmasked padding token."""
    batch = {name: np.zeros((rows, length), np.int32) for name in ("input_ids", "token_type_ids", "attention_mask")}
    batch["input_ids"].fill(pad_id)
    for row, example in enumerate(examples):
        size = len(example.input_ids)
        batch["input_ids"][row, :size] = example.input_ids
        batch["token_type_ids"][row, :size] = example.token_type_ids
        batch["attention_mask"][row, :size] = 1
    batch["attention_mask"][len(examples) :, :1] = 1
    return batch


def mask_pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Matches the mask in a text: "[MASK]", or the tokenizer's own piece for it."""
    pieces = {"[MASK]", tokenizer.token(tokenizer.mask_id)}
    return re.compile("|".join(re.escape(piece) for piece in sorted(pieces)))


def _with_masks(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of texts, without [CLS] and [SEP]; the text between masks is tokenised on its own."""
    pattern = mask_pattern(tokenizer)
    segments = [pattern.split(text) for text in texts]
    ids = iter(tokenizer.encode_batch([segment for parts in segments for segment in parts]))
    joined = []
    for parts in segments:
        own = list(next(ids))
        for _ in parts[1:]:
            own += [tokenizer.mask_id, *next(ids)]
        joined.append(own)
    return joined


def _truncated(parts: list[list[int]], room: int) -> list[list[int]]:
    """The parts truncated to ``room`` tokens in total, the longer one first, then both. An odd token goes to the longer
    one, or the second of two equals, as in transformers' longest_first."""
    if len(parts) == 1:
        return [parts[0][:room]]
    (short, one), (long, other) = sorted((len(part), index) for index, part in enumerate(parts))
    long = short if short > room else max(short, min(long, room - short))
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    sizes = {one: short, other: long}
    return [part[: sizes[index]] for index, part in enumerate(parts)]
