"""Whether a corpus has pairs for an objective: what a run is refused for, and what it is warned of."""

from collections.abc import Mapping
from dataclasses import dataclass

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.blocks import num_blocks, read_block
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import DataError
from bertjax.objectives.objective import PairCautions, PretrainingObjective

# Share of the examples that no sentence follows, above which a run is warned: always answering "random" is right in
# more than 65 % then. A corpus of whole articles or books has 8 to 20 %. Counted are pairs and not documents, since a
# title alone makes one pair and a book hundreds.
MOST_WITHOUT_NEXT = 0.3

WAY_OUT = "--config.data.objective=mlm"


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
    """Facts of the first epoch's blocks, up to the first in which a pair has a next sentence. The work of a moment,
    however large the corpus. It must hold a token."""
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


def check_corpus(objective: PretrainingObjective, corpus: Corpus) -> None:
    """Raises DataError where an objective with pairs is asked of a corpus with too few documents or one sentence."""
    if (cautions := objective.cautions) is None:
        return
    few_documents = cautions.documents and corpus.num_documents < 2
    what = "sentence" if corpus.num_sentences < 2 else "document" if few_documents else ""
    if what:
        why = f", and {cautions.documents}" if cautions.documents else ""
        raise DataError(
            f"{cautions.labels.title} prediction is impossible: the corpus has only one {what} to train on{why}; "
            f"use {WAY_OUT}, or more documents"
        )


def phase_pairs(
    objective: PretrainingObjective, corpus: Corpus, phases: Mapping[str, ExampleSettings], seed: int = 0
) -> dict[str, PairFacts]:
    """Facts of each phase (name -> settings); none for an objective without pairs, or a corpus with too few documents
    for it."""
    if objective.cautions is None or (objective.cautions.documents and corpus.num_documents < 2):
        return {}
    return {name: pair_facts(corpus, phase, seed) for name, phase in phases.items()}


def facts_line(objective: PretrainingObjective, facts: PairFacts) -> str:
    """What an epoch holds, in a line."""
    assert objective.cautions is not None
    labels = objective.cautions.labels
    about = "" if facts.whole_epoch else f" in the first {facts.tokens:,} tokens"
    return (
        f"{facts.pairs:,} {labels.title} pairs an epoch{about}, {facts.real / facts.pairs:.1%} of them {labels.first}; "
        f"{facts.coverage:.1%} of the tokens are shown"
    )


def check_pairs(objective: PretrainingObjective, corpus: Corpus, facts: Mapping[str, PairFacts]) -> None:
    """Raises DataError where no example of a phase has a next sentence."""
    for name, of_phase in facts.items():
        if not of_phase.has_next and (cautions := objective.cautions):
            where = f" in {name}" if len(facts) > 1 else ""
            raise DataError(f"{cautions.labels.title} prediction is impossible{where}: {_why_none(cautions, corpus)}")


def pair_lines(objective: PretrainingObjective, corpus: Corpus, facts: Mapping[str, PairFacts]) -> list[str]:
    """A warning for each phase (name -> facts) that has few next sentences, or none, with the way out."""
    lines = []
    for name, of_phase in facts.items() if objective.cautions else ():
        cautions = objective.cautions
        if not of_phase.has_next:
            lines.append(f"{name}: {cautions.labels.title} prediction means nothing: {_why_none(cautions, corpus)}")
        elif of_phase.without_next > MOST_WITHOUT_NEXT:
            share = of_phase.without_next
            few = cautions.few.format(share=share, constant=(1 + share) / 2)
            lines.append(f"{name}: {few}; {WAY_OUT} does without pairs")
    return lines


def _why_none(cautions: PairCautions, corpus: Corpus) -> str:
    if corpus.num_sentences == corpus.num_documents:
        return (
            f"no document of the corpus has a second sentence, so that {cautions.impossible}; use {WAY_OUT}, or give "
            "the lines of a document without blank lines between them"
        )
    return (
        f"each sentence fills a pair alone, so that {cautions.impossible}; use {WAY_OUT}, or longer rows "
        "(config.phases.NAME.sequence_length)"
    )
