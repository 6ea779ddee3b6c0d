"""The fields of a batch: names, shapes, dtypes; and a loss as functions of batches. The contract of data and model.

Dims, used as suffixes and annotations all over bertjax:

    B rows in a batch            S row length (tokens)         P masked-LM predictions a row
    E packed examples a row      L layers                      H hidden size
    N attention heads            D head size (H / N)           F intermediate (MLP) size
    V vocabulary size            A accumulation steps

A *row* is what the model sees as one sequence. It holds one or more *examples*, each of them
``[CLS] A [SEP] B [SEP]`` (objectives with pairs) or ``[CLS] A [SEP]`` (objective ``mlm``). Every batch has the fields
of ``CORE``; an objective adds its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Batch = dict[str, Any]  # arrays of NumPy or jax by field
Values = dict[str, Any]  # scalars by name


@dataclass(frozen=True)
class Objective:
    """A loss as functions, so that it does not depend on how a batch is split.

    weights(batch): what the sums of a whole (global) batch are divided by. sums(output, batch): of any part of it;
    those of the parts add up. total(sums, weights): the loss, linear in ``sums``. means(sums, weights): the values
    that are recorded. adds_up: False for sums that compare rows with each other, so that they need all of the batch.
    """

    weights: Callable[[Batch], Values]
    sums: Callable[[Any, Batch], Values]
    total: Callable[[Values, Values], Any]
    means: Callable[[Values, Values], Values]
    adds_up: bool = True


@dataclass(frozen=True)
class Field:
    """One array of a batch: its dims (letters of the legend above) and dtype."""

    dims: tuple[str, ...]
    dtype: np.dtype


_INT = np.dtype(np.int32)
_FLOAT = np.dtype(np.float32)

CORE: dict[str, Field] = {
    # Token ids; padding holds the tokenizer's pad id.
    "input_ids": Field(("B", "S"), _INT),
    # 0 for sentence A with its [CLS] and [SEP], 1 for sentence B with its [SEP].
    "token_type_ids": Field(("B", "S"), _INT),
    # Restart at 0 in every packed example.
    "position_ids": Field(("B", "S"), _INT),
    # Number of the example inside its row, 1.., 0 is padding. Attention never crosses examples.
    "example_ids": Field(("B", "S"), _INT),
    # Positions inside the row that are to be predicted, ascending; unused slots hold 0.
    "masked_lm_positions": Field(("B", "P"), _INT),
    # The original token ids at those positions.
    "masked_lm_ids": Field(("B", "P"), _INT),
    # 1.0 for a used slot, 0.0 for an unused one.
    "masked_lm_weights": Field(("B", "P"), _FLOAT),
    # Position of the [CLS] of each packed example; unused slots hold 0.
    "cls_positions": Field(("B", "E"), _INT),
}
# The fields of the objectives ``mlm`` and ``mlm_nsp``.
FIELDS: dict[str, Field] = CORE | {
    # 0 = B is the sentence that follows A, 1 = B is random.
    "next_sentence_labels": Field(("B", "E"), _INT),
    # 1.0 where there is an example with a label; all 0.0 under the objective ``mlm``.
    "next_sentence_weights": Field(("B", "E"), _FLOAT),
}


def shapes(
    rows: int, length: int, predictions: int, examples: int, fields: Mapping[str, Field] = FIELDS
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of every field for B = rows, S = length, P = predictions, E = examples."""
    size = {"B": rows, "S": length, "P": predictions, "E": examples}
    return {name: (tuple(size[d] for d in field.dims), field.dtype) for name, field in fields.items()}
