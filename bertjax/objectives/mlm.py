"""Masked LM alone, on runs of sentences."""

import numpy as np

from bertjax.data.stream.blocks import Block, Sentences
from bertjax.data.stream.examples import Examples, follow, fragments, split_runs
from bertjax.data.stream.settings import ExampleMaker, ExampleSettings
from bertjax.objectives.objective import MLM_WEIGHT_EPSILON, MaskedTokens, PairLabels, PretrainingObjective


def make_runs(block: Block, sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int) -> Examples:
    """Consecutive sentences of a document up to the target length; ``sentences`` are already split to the room."""
    del block
    fragment_end, target = fragments(sentences, settings, seed, epoch)
    total = np.concatenate(([0], np.cumsum(sentences.length)))
    here = np.arange(len(sentences))
    fits = np.searchsorted(total, total[:-1] + target + 1) - 1
    following = np.minimum(np.maximum(fits, here + 1), fragment_end)
    chosen = follow(following)
    length = total[following[chosen]] - total[chosen]
    none, no = np.zeros_like(chosen), np.zeros(len(chosen), bool)
    return Examples(sentences.start[chosen], length, none, none, no, no, chosen, following[chosen], none, no)


MASKED_LM = MaskedTokens(
    "mlm", "masked-LM", "mlm_logits", "masked_lm_ids", "masked_lm_weights", epsilon=MLM_WEIGHT_EPSILON
)
# Without labels here: its loss is 0, and rows say so.
NEXT_SENTENCE = PairLabels(
    "nsp",
    "next-sentence",
    "nsp_logits",
    "next_sentence_labels",
    "next_sentence_weights",
    share="next_share",
    first="real next ones",
)
OBJECTIVE = PretrainingObjective(ExampleMaker("mlm", 2, split_runs, make_runs), (MASKED_LM, NEXT_SENTENCE))
