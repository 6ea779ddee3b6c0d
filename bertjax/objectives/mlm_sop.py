"""Masked LM and sentence order (ALBERT, Lan et al. 2020, section 3.1): two segments that follow each other in the text,
in its order (label 0) or swapped (label 1).

Both are the text of one document, so the label cannot be told from the topic. Where a chunk has a single sentence,
A is all of it, B is empty, and there is no label.
"""

import numpy as np

from bertjax.data.stream.blocks import Block, Sentences
from bertjax.data.stream.examples import Examples, follow, fragments, split_pairs, truncate
from bertjax.data.stream.hashing import Purpose, below, chance, derive, draw, high, low
from bertjax.data.stream.settings import ExampleMaker, ExampleSettings
from bertjax.objectives.mlm import MASKED_LM
from bertjax.objectives.objective import PairCautions, PairLabels, PretrainingObjective


def make_ordered_pairs(
    block: Block, sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int
) -> Examples:
    """Chunks of sentences up to the target length, cut in two between two of their sentences."""
    del block
    fragment_end, target = fragments(sentences, settings, seed, epoch)
    total = np.concatenate(([0], np.cumsum(sentences.length)))
    # Every sentence as the first of a chunk: gather to the target or to the end of the fragment.
    chunk_end = np.minimum(np.searchsorted(total, total[:-1] + target), fragment_end)
    chosen = follow(chunk_end)
    end, size = chunk_end[chosen], chunk_end[chosen] - chosen
    bits = draw(derive(seed, Purpose.PAIR, epoch), sentences.start[chosen])
    has_label = size > 1
    cut = chosen + np.where(has_label, 1 + below(high(bits), np.maximum(size - 1, 1)), 1)
    is_swapped = chance(low(bits), 0.5) & has_label
    a_start, a_length = sentences.start[chosen], total[cut] - total[chosen]
    b_start, b_length = sentences.start[np.minimum(cut, len(sentences) - 1)], total[end] - total[cut]
    a_start, a_length, b_start, b_length = truncate(
        a_start, a_length, b_start, b_length, settings.room, derive(seed, epoch)
    )
    swapped = lambda ours, other: np.where(is_swapped, other, ours)
    return Examples(
        a_start=swapped(a_start, b_start),
        a_length=swapped(a_length, b_length),
        b_start=swapped(b_start, a_start),
        b_length=swapped(b_length, a_length),
        is_random=np.zeros(len(chosen), bool),
        has_next=has_label,
        first_sentence=chosen,
        next_sentence=end,
        label=is_swapped.astype(np.int64),
        has_label=has_label,
    )


SENTENCE_ORDER = PairLabels(
    "sop",
    "sentence-order",
    "nsp_logits",  # the head on [CLS] with two outputs
    "sentence_order_labels",  # 0 = A stands before B in the text, 1 = after it
    "sentence_order_weights",
    share="in_order_share",
    first="in order",
)
OBJECTIVE = PretrainingObjective(
    ExampleMaker(
        "mlm_sop",
        3,
        split_pairs,
        make_ordered_pairs,
        SENTENCE_ORDER.labels,
        SENTENCE_ORDER.weights,
    ),
    (MASKED_LM, SENTENCE_ORDER),
    PairCautions(
        SENTENCE_ORDER,
        documents="",
        impossible="there is no order to predict",
        few="{share:.0%} of the examples are a single sentence (documents of one sentence, or the last of a document), "
        "which has no order to predict",
    ),
    own_heads=("nsp_head",),
)
