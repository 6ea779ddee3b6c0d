"""Whether a corpus has next sentences to predict: what a run is refused for, and what it is warned of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.blocks import num_blocks, read_block
from bertjax.data.stream.pairs import make_examples, split_block
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import DataError

# Share of the pairs that can only be random, above which a run is warned: always answering "random" is right in more
# than 65 % then. A corpus of whole articles or books has 8 to 20 %. Counted are pairs and not documents, since a title
# alone makes one pair and a book hundreds.
MOST_WITHOUT_NEXT = 0.3


@dataclass(frozen=True)
class PairFacts:
    """Next-sentence pairs of an epoch, or of its first blocks where it is long.

    tokens: of the documents that were looked at; pairs; real: pairs whose B is the real next sentence; has_next: pairs
    whose B could have been; shown: tokens in an A or a real next B.
    """

    tokens: int
    pairs: int
    real: int
    has_next: int
    shown: int
    whole_epoch: bool

    @property
    def without_next(self) -> float:
        """Share of the pairs that can only be random."""
        return 1.0 - self.has_next / self.pairs

    @property
    def coverage(self) -> float:
        """Share of the tokens that an epoch shows in their place."""
        return self.shown / self.tokens

    def in_words(self) -> str:
        """One line."""
        about = "" if self.whole_epoch else f" in the first {self.tokens:,} tokens"
        return (
            f"{self.pairs:,} next-sentence pairs an epoch{about}, {self.real / self.pairs:.1%} of them real next ones; "
            f"{self.coverage:.1%} of the tokens are shown"
        )


def pair_facts(corpus: Corpus, settings: ExampleSettings, seed: int = 0) -> PairFacts:
    """Facts of the first epoch's blocks, up to the first in which a pair has a next sentence.

    The work of a moment, however large the corpus. It must hold a token.
    """
    tokens = pairs = real = has_next = shown = 0
    blocks, done = num_blocks(corpus, settings.block_tokens), 0
    while done < blocks and not has_next:
        table = read_block(corpus, settings.block_tokens, seed, 0, done)
        block, sentences = split_block(table, table.sentences, settings)
        made = make_examples(block, sentences, settings, seed, 0)
        tokens, pairs = tokens + int(sentences.length.sum()), pairs + len(made)
        real, has_next = real + int((~made.is_random).sum()), has_next + int(made.has_next.sum())
        shown += int(made.a_length.sum() + made.b_length[~made.is_random].sum())
        done += 1
    return PairFacts(tokens, pairs, real, has_next, shown, done == blocks)


def phase_pairs(corpus: Corpus, phases: Mapping[str, ExampleSettings], seed: int = 0) -> dict[str, PairFacts]:
    """Facts of each phase (name -> settings) that predicts next sentences; of others, and of a corpus that has not the
    two documents which random texts take, nothing."""
    paired = {name: phase for name, phase in phases.items() if phase.objective == "mlm_nsp"}
    return {name: pair_facts(corpus, phase, seed) for name, phase in paired.items() if corpus.num_documents > 1}


def check_pairs(corpus: Corpus, facts: Mapping[str, PairFacts]) -> None:
    """Raises DataError where no pair of a phase has a next sentence: every label would be "random"."""
    for name, of_phase in facts.items():
        if not of_phase.has_next:
            where = f" in {name}" if len(facts) > 1 else ""
            raise DataError(f"next-sentence prediction is impossible{where}: {_why_none(corpus)}")


def pair_lines(corpus: Corpus, facts: Mapping[str, PairFacts]) -> list[str]:
    """A warning for each phase (name -> facts) that has few next sentences, or none, with the way out."""
    lines = []
    for name, of_phase in facts.items():
        if not of_phase.has_next:
            lines.append(f"{name}: next-sentence prediction means nothing: {_why_none(corpus)}")
        elif of_phase.without_next > MOST_WITHOUT_NEXT:
            lines.append(
                f"{name}: {of_phase.without_next:.0%} of the next-sentence pairs can only be random ones (documents of "
                f"one sentence, or the last of a document), so that a model that looks at nothing is right in "
                f"{(1 + of_phase.without_next) / 2:.0%}; --config.data.objective=mlm does without pairs"
            )
    return lines


def _why_none(corpus: Corpus) -> str:
    if corpus.num_sentences == corpus.num_documents:
        return (
            "no document of the corpus has a second sentence, so that every next sentence would be a random one; use "
            "--config.data.objective=mlm, or give the lines of a document without blank lines between them"
        )
    return (
        "each sentence fills a pair alone, so that every next sentence would be a random one; use "
        "--config.data.objective=mlm, or longer rows (config.phases.NAME.sequence_length)"
    )
