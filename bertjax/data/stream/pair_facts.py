"""Whether a corpus has pairs to learn from: counted on the first blocks of an epoch."""

from dataclasses import dataclass

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.blocks import num_blocks, read_block
from bertjax.data.stream.settings import ExampleSettings


@dataclass(frozen=True)
class PairFacts:
    """The examples of an epoch, or of its first blocks where it is long.

    tokens: of the documents that were looked at. pairs: examples; real: those of label 0 (the real next sentence, the
    order of the text); has_next: those that could have had it; shown: tokens in an A, or in a B that is not random.
    """

    tokens: int
    pairs: int
    real: int
    has_next: int
    shown: int
    whole_epoch: bool

    @property
    def without_next(self) -> float:
        """Share of the pairs that no sentence follows: they have one label only, or none."""
        return 1.0 - self.has_next / self.pairs

    @property
    def coverage(self) -> float:
        """Share of the tokens that an epoch shows in their place."""
        return self.shown / self.tokens


def pair_facts(corpus: Corpus, settings: ExampleSettings, seed: int = 0) -> PairFacts:
    """Facts of the first epoch's blocks, up to the first in which a pair has a next sentence.

    The work of a moment, however large the corpus. It must hold a token.
    """
    tokens = pairs = real = has_next = shown = 0
    blocks, done = num_blocks(corpus, settings.block_tokens), 0
    while done < blocks and not has_next:
        table = read_block(corpus, settings.block_tokens, seed, 0, done)
        block, sentences = settings.maker.split(table, table.sentences, settings)
        made = settings.maker.make(block, sentences, settings, seed, 0)
        tokens, pairs = tokens + int(sentences.length.sum()), pairs + len(made)
        real, has_next = real + int((made.has_label & (made.label == 0)).sum()), has_next + int(made.has_next.sum())
        shown += int(made.a_length.sum() + made.b_length[~made.is_random].sum())
        done += 1
    return PairFacts(tokens, pairs, real, has_next, shown, done == blocks)
