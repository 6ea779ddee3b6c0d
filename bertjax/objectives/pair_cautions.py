"""Whether a corpus has pairs for an objective: what a run is refused for, and what it is warned of."""

from collections.abc import Mapping

from bertjax.data.corpus.arrays import Corpus
from bertjax.data.stream.pair_facts import PairFacts, pair_facts
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import DataError
from bertjax.objectives.objective import PairCautions, PretrainingObjective

# Share of the examples that no sentence follows, above which a run is warned: always answering "random" is right in
# more than 65 % then. A corpus of whole articles or books has 8 to 20 %. Counted are pairs and not documents, since a
# title alone makes one pair and a book hundreds.
MOST_WITHOUT_NEXT = 0.3

WAY_OUT = "--config.data.objective=mlm"


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
