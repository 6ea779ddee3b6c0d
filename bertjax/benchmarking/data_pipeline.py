"""The benchmark data: the host's part of every phase, in one thread; see ``bertjax.data.stream.speed``."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bertjax.benchmarking.opened_run import opened_run, seconds_of
from bertjax.config import RunConfig
from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.data.stream.speed import measure as measure_stream
from bertjax.objectives.pair_cautions import phase_pairs
from bertjax.objectives.registry import phase_settings, run_objective


def measure(run: RunConfig, options: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    seconds = seconds_of(options)
    run, corpus, about = opened_run(run, say)
    return about | {"phases": [_phase(run, index, corpus, seconds) for index in range(len(run.phases))]}


def _phase(run: RunConfig, index: int, corpus: PreparedCorpus, seconds: float) -> dict[str, Any]:
    """shown_share: of the tokens in an epoch, see ``PairFacts.coverage``; masked LM alone truncates nothing."""
    name, phase = list(run.phases.items())[index]
    settings = phase_settings(run, index)
    pairs = phase_pairs(run_objective(run), corpus.train, {name: settings}, run.seed)
    found = measure_stream(corpus.train, corpus.tokenizer, settings, run.seed, seconds, phase.batch_size)
    return {"phase": name, **found, "shown_share": pairs[name].coverage if pairs else 1.0}


def lines(measured: dict[str, Any]) -> Iterator[str]:
    for phase in measured["phases"]:
        stages = ", ".join(f"{stage} {ns:.2f}" for stage, ns in phase["stages"].items())
        yield ""
        yield f"{phase['phase']}: rows of {phase['sequence_length']} tokens, {phase['batch_size']} a batch"
        yield (
            f"  {phase['tokens_per_second']:,.0f} real tokens a second in one thread, over {phase['batches']:,} batches"
        )
        yield f"  nanoseconds a token: {stages}"
        yield f"  a restart finds its place in {phase['seek_seconds'] * 1e3:.1f} ms"
        yield (
            f"  padding {phase['padding_fraction']:.2%}, {phase['examples_per_row']:.2f} examples a row, "
            f"{phase['predictions_filled']:.1%} of the prediction slots used, {phase['shown_share']:.1%} of the text "
            f"shown in an epoch, {phase['label_1_share']:.1%} of the pairs with label 1"
        )
