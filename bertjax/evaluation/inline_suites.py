"""Suites that score a pretraining run on its way: those that its config gives data for."""

from collections.abc import Callable

from flax import nnx

from bertjax.config import EvaluationConfig, ModelConfig
from bertjax.evaluation.suite import checked_options
from bertjax.evaluation.suites import suite_named
from bertjax.inference.batches import Placement
from bertjax.model.bert import Bert
from bertjax.text.tokenizer import Tokenizer

SECTIONS = ("mlm", "blimp", "sts")  # of config.evaluation, named like their suites


class InlineSuites:
    """Reads the data of all its suites at once, before anything is compiled, and scores parameters when they are due.

    cautions: about that data, a line each.
    """

    def __init__(self, settings: EvaluationConfig, tokenizer: Tokenizer, model: ModelConfig) -> None:
        """Raises DataError, ConfigError for data that cannot be used."""
        self._tokenizer = tokenizer
        shapes = nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0)))
        self._suites = []
        self.cautions: list[str] = []
        for name in SECTIONS:
            own = getattr(settings, name)
            if own.data is not None:
                suite = suite_named(name)
                options = checked_options(name, suite, {"limit": own.limit or None})
                examples = suite.read(own.data, tokenizer, shapes, options)
                self.cautions += [f"{name}: {line}" for line in examples.warnings]
                self._suites.append((name, own.every_steps, suite, examples.items, options))

    def due(self, step: int) -> bool:
        """Whether a suite is due after ``step`` updates; all are due at the end of a phase."""
        return any(every and step % every == 0 for _, every, *_ in self._suites)

    def scores(self, step: int, phase_ends: bool, model: Callable[[], Bert], placement: Placement) -> dict[str, float]:
        """The scores of all suites that are due, by suite and name, such as blimp.accuracy.

        model: makes it, with its parameters on the devices of ``placement``; called only if a suite is due. All
        processes of a run call this together and get the same scores.
        """
        due = [one for one in self._suites if phase_ends or (one[1] and step % one[1] == 0)]
        if not due:
            return {}
        scored, found = model(), {}
        for name, _, suite, examples, options in due:
            silent = lambda stage, done, total: None
            result = suite.score(scored, self._tokenizer, examples, options, silent, placement=placement)
            found |= {f"{name}.{score}": measure.value for score, measure in result.scores.items()}
        return found


def in_words(scores: dict[str, float]) -> str:
    """Scores for the end of a line: nothing, or with a comma before each."""
    return "".join(f", {name.replace('.', ' ').replace('_', ' ')} {value:.4g}" for name, value in scores.items())
