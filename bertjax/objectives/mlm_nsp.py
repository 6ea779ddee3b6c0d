"""Masked LM and next-sentence prediction: A, and the sentences after it (label 0) or a random text (label 1).

The rules are those of ``create_instances_from_document`` in create_pretraining_data.py of google-research/bert; one
difference in distribution: a random document is drawn at once among the others of the block, instead of in at most ten
tries over all documents of an input file.
"""

import numpy as np

from bertjax.data.stream.blocks import Block, Sentences
from bertjax.data.stream.examples import Examples, follow, fragments, split_pairs, truncate
from bertjax.data.stream.hashing import Purpose, below, chance, derive, draw, high, low
from bertjax.data.stream.settings import ExampleMaker, ExampleSettings
from bertjax.objectives.mlm import MASKED_LM, NEXT_SENTENCE
from bertjax.objectives.objective import PairCautions, PretrainingObjective


def make_pairs(block: Block, sentences: Sentences, settings: ExampleSettings, seed: int, epoch: int) -> Examples:
    """All examples of ``sentences``, a part of the block's own. Nothing is left over. With a single document in the
    pool, a random B comes from that document, which is what the original does after ten tries."""
    fragment_end, target = fragments(sentences, settings, seed, epoch)
    total = np.concatenate(([0], np.cumsum(sentences.length)))
    # Every sentence as the first of a chunk: gather to the target or to the end of the fragment.
    chunk_end = np.minimum(np.searchsorted(total, total[:-1] + target), fragment_end)
    size = chunk_end - np.arange(len(sentences))
    bits = draw(derive(seed, Purpose.PAIR, epoch), sentences.start)
    cut = np.arange(len(sentences)) + np.where(size > 1, 1 + below(high(bits), size - 1), 1)
    is_random = chance(low(bits), 0.5) | (size == 1)
    # Sentences that a random B displaces are put back: the next chunk starts with them.
    following = np.where(is_random, cut, chunk_end)

    chosen = follow(following)
    cut, is_random, target, has_next = cut[chosen], is_random[chosen], target[chosen], size[chosen] > 1
    a_start, a_length = sentences.start[chosen], total[cut] - total[chosen]
    # Where B is random there may be no sentence at the cut; what is read there is replaced below.
    b_start = sentences.start[np.minimum(cut, len(sentences) - 1)]
    b_length = total[chunk_end[chosen]] - total[cut]
    randoms = np.flatnonzero(is_random)
    b_start[randoms], b_length[randoms] = _random_texts(
        block, sentences.document[chosen[randoms]], a_start[randoms], (target - a_length)[randoms], seed, epoch
    )
    a_start, a_length, b_start, b_length = truncate(
        a_start, a_length, b_start, b_length, settings.room, derive(seed, epoch)
    )
    label, has_label = is_random.astype(np.int64), np.ones(len(chosen), bool)
    end = following[chosen]
    return Examples(a_start, a_length, b_start, b_length, is_random, has_next, chosen, end, label, has_label)


def _random_texts(
    block: Block, document: np.ndarray, ids: np.ndarray, wanted: np.ndarray, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of sentences of another document, from a random one on, until ``wanted`` tokens or its end."""
    bits = draw(derive(seed, Purpose.RANDOM_DOCUMENT, epoch), ids)
    documents = len(block.pool_bounds) - 1
    if documents > 1:
        other = below(high(bits), documents - 1)
        other += other >= document
    else:
        other = document
    begin, end = block.pool_bounds[other], block.pool_bounds[other + 1]
    first = begin + below(low(bits), end - begin)
    total = np.concatenate(([0], np.cumsum(block.pool.length)))
    # At least one sentence, even where A alone reaches the target.
    last = np.minimum(np.searchsorted(total, total[first] + np.maximum(wanted, 1)), end)
    return block.pool.start[first], total[last] - total[first]


OBJECTIVE = PretrainingObjective(
    ExampleMaker("mlm_nsp", 3, split_pairs, make_pairs),
    (MASKED_LM, NEXT_SENTENCE),
    PairCautions(
        NEXT_SENTENCE,
        documents="a random next sentence comes from another document",
        impossible="every next sentence would be a random one",
        few="{share:.0%} of the next-sentence pairs can only be random ones (documents of one sentence, or the last "
        "of a document), so that a model that looks at nothing is right in {constant:.0%}",
    ),
)
