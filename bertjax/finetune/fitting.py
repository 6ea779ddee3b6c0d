"""Texts to rows: what is truncated, and what is refused, because of its length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.errors import DataError
from bertjax.finetune.batching import Rows, joined
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import Labelled
from bertjax.inference.encoding import Text, encode_texts
from bertjax.text.tokenizer import Tokenizer


class Room(NamedTuple):
    """Tokens of a row; texts over ``max_length`` are truncated, those over ``most`` refused (None: truncated, too).
    positions: the longest row that the model takes."""

    max_length: int
    most: int | None
    positions: int | None = None


def room_of(run: FinetuneConfig, data: Labelled) -> Room:
    """By the config, and the positions of the model, beyond which no text can be seen whole."""
    most = data.positions if run.data.too_long == "refuse" else None
    return Room(run.model.max_length, most, data.positions)


def fitted_rows(
    texts: Sequence[Text], places: Sequence[str], tokenizer: Tokenizer, room: Room, **labels: np.ndarray
) -> tuple[Rows, int]:
    """(a row for each text or pair, how many were truncated, the longer text of a pair first).

    places: where each text comes from. Raises DataError.
    """
    encoded = encode_texts(tokenizer, texts, room.max_length)
    for one, place in zip(encoded, places, strict=True):
        if room.most is not None and one.full_length > room.most:
            raise DataError(
                f"{place}: {one.full_length:,} tokens are more than the {room.most:,} positions of the model; shorten "
                "the text, or have such texts truncated with --config.data.too_long=truncate"
            )
    return joined([(one.input_ids, one.token_type_ids) for one in encoded], **labels), sum(
        e.is_truncated for e in encoded
    )


def truncated_notes(train: int, of_train: int, evaluation: int, of_eval: int, room: Room) -> list[str]:
    """One line on texts that were truncated, if any were."""
    if not train + evaluation:
        return []
    more = f"; the model has {room.positions} positions, --config.model.max_length={room.positions} uses them all"
    return [
        f"{train:,} of {of_train:,} training and {evaluation:,} of {of_eval:,} evaluation texts have more than "
        f"config.model.max_length = {room.max_length} tokens and are truncated to these"
        + more
        * (room.positions is not None and room.positions > room.max_length)
    ]
