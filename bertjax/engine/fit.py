"""The training loop, of pretraining and of fine-tuning."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from bertjax.batch import Batch, Values
from bertjax.cli.progress import Display
from bertjax.cluster.processes import Processes
from bertjax.cluster.watchdog import IN_STEP, Heartbeat
from bertjax.config import GuardConfig, LoggingConfig
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.guard import Guard, Rollback
from bertjax.engine.metrics_log import MetricsLog, NoLog
from bertjax.engine.position import DataPosition, Records, RunPosition
from bertjax.engine.recorder import Recorder, Stage, StepCost
from bertjax.engine.state import TrainState
from bertjax.errors import CheckpointError, Stopped, WorkdirGone
from bertjax.parallel.devices import peak_flops

Step = Callable[[TrainState, Batch], tuple[TrainState, Values]]


class Interrupted(Exception):
    """Raised when an evaluation ends early because a stop was requested."""


class Evaluation(NamedTuple):
    """values: for the log. line: in words. loss: what checkpoints are kept by, None if it is undefined. result: what
    the caller makes of it."""

    values: dict[str, float]
    line: str
    loss: float | None
    result: Any


@dataclass(frozen=True)
class Session:
    """Where a run works, and with whom. agree(step): whether any process was asked to stop. refresh_report(workdir,
    say, ended): writes report.html; ``ended`` says what ended the run early."""

    workdir: Path
    mesh: Mesh
    display: Display
    processes: Processes
    agree: Callable[[int], bool]
    refresh_report: Callable[[Path, Callable[[str], None], str | None], None]

    def report(self, ended: str | None = None) -> None:
        if self.processes.first:
            with self.processes.progress.pause("writing the report"):
                self.refresh_report(self.workdir, self.display.say, ended)

    def evaluate(self, step: int, evaluation: Callable[[], Any]) -> Any:
        """What an evaluation after the last step returns. Raises Stopped if it was asked to stop on the way."""
        try:
            with self.processes.progress.pause("evaluating"):
                return evaluation()
        except Interrupted:
            raise self.stopped(step) from None

    def stopped(self, step: int) -> Stopped:
        return Stopped(f"stopped at step {step}; all is saved in {self.workdir}, run the same command to go on")


@dataclass(frozen=True)
class Training:
    """What a run consists of.

    batches(stage index, position): the global batches from the position on, each with the position after it, put on the
    devices by the thread that reads ahead. step(stage index): (state, batch) -> (state, metrics). cost(stage index,
    batch): of a step. evaluate(position of the run, stage index): raises Interrupted if ``Session.agree`` says so.
    evaluate_at, save_at: whether to after a step, besides the end of a stage. fields: metrics in the rows of the log.
    events: (event, line) for the log of a new run. has_ended: whether to stop before the end of the last stage. ahead:
    steps that are dispatched before the metrics of one are read (``engine.dispatch``).
    """

    stages: Sequence[Stage]
    batches: Callable[[int, Any], contextlib.AbstractContextManager[Iterator[tuple[Batch, DataPosition]]]]
    step: Callable[[int], Step]
    cost: Callable[[int, Batch], StepCost]
    evaluate: Callable[[RunPosition, int], Evaluation]
    evaluate_at: Callable[[int], bool]
    save_at: Callable[[int], bool]
    state_shapes: Callable[[], TrainState]
    guard: GuardConfig
    logging: LoggingConfig
    fields: Sequence[str]
    events: Sequence[tuple[str, str]] = ()
    has_ended: Callable[[RunPosition], bool] = lambda here: False
    ahead: int = 1


def restore(
    checkpoints: Checkpoints, session: Session, shapes: TrainState, records: Records, of: str = ""
) -> RunPosition | None:
    """The position of the newest whole checkpoint, None if there is none. of: tells several runs apart."""
    share, must_equal = session.processes.share, session.processes.must_equal
    newest = share(f"newest checkpoint{of}", checkpoints.newest())
    seen = {"newest step": checkpoints.newest_seen(newest)}
    must_equal(f"folder of checkpoints{of}, which all must share,", seen)
    restored = checkpoints.restore_newest(shapes)
    if restored is not None:
        session.display.say(f"resuming {session.workdir} from step {restored[0]}")
    return records.position(restored)


def updates(
    here: RunPosition,
    step: Step,
    batches: Iterator[tuple[Batch, DataPosition]],
    progress: Heartbeat,
    ended: Callable[[], bool],
) -> Iterator[tuple[Batch, Values]]:
    """The loop over training steps, of runs and of the benchmark: every update moves ``here``, and its batch and
    metrics are yielded. It reads no batch once ``ended`` says so."""
    while not ended():
        progress.at("making a batch", here.step + 1)
        batch, here.data = next(batches)
        progress.at(IN_STEP, here.step + 1)
        here.state, metrics = step(here.state, batch)
        here.step += 1
        yield batch, metrics


def fit(
    here: RunPosition, training: Training, checkpoints: Checkpoints, records: Records, session: Session
) -> tuple[int, Evaluation] | None:
    """Trains from ``here``, which it moves, to the end of the last stage. The last evaluation with its step, if any.
    Raises Stopped if it was asked to stop, with everything saved; Diverged, CheckpointError."""
    progress, display, stages = session.processes.progress, session.display, training.stages
    latest: tuple[int, Evaluation] | None = None
    if session.processes.first:
        log: Any = MetricsLog(session.workdir, here.step, training.logging.tensorboard, display.say, not here.postponed)
    else:
        log = NoLog()
    for event, line in training.events if here.step == 0 else ():  # a resumed run has them in its log
        log.write({"kind": "event", "event": event, "step": 0, "reason": line})
    ahead = training.ahead
    guard = Guard(training.guard, session.workdir, session.processes.index, display.say, log.write, ahead)
    recorder = Recorder(
        stages,
        training.fields,
        training.logging.every_steps,
        log,
        display,
        here.step,
        here.totals,
        peak_flops(session.mesh),
        guard.judge,
        ahead,
    )

    def run_stage(index: int) -> None:
        here.data = here.data.in_stage(index)
        recorder.begin_stage(index)
        ended = lambda: here.step >= stages[index].last or training.has_ended(here)
        with training.batches(index, here.data) as batches:
            for batch, metrics in updates(here, training.step(index), batches, progress, ended):
                guard.remember(here.step, batch)
                recorder.push(here.step, metrics, training.cost(index, batch))
                checkpoints.poll()
                after_step(index)

    def after_step(index: int) -> None:
        stopping, stage_ends = session.agree(here.step), here.step == stages[index].last
        evaluating = stage_ends or training.evaluate_at(here.step)
        saving = stage_ends or stopping or training.save_at(here.step)
        if evaluating or saving:
            recorder.flush()  # what is saved is good and counts its own step
        # A run that was asked to stop has little time: it evaluates when it is resumed.
        evaluation = evaluate(index) if evaluating and not stopping else None
        postponed = evaluating and evaluation is None
        if saving or postponed:
            record = {**records.constants, **changes(evaluation, postponed)}
            with progress.pause("saving"):
                checkpoints.save(here.step, here.state, record)
        if evaluation is not None:
            session.report()
        if stopping or postponed:
            with progress.pause("saving"):
                checkpoints.wait()
            raise session.stopped(here.step)

    def evaluate(index: int) -> Evaluation | None:
        """Puts the evaluation of this step on record; None if it was asked to stop on the way."""
        nonlocal latest
        try:
            with progress.pause("evaluating"):
                found = training.evaluate(here, index)
        except Interrupted:
            return None
        latest = here.step, found
        recorder.evaluated(here.step, found.values, found.line)
        return found

    def changes(evaluation: Evaluation | None, postponed: bool = False) -> dict[str, Any]:
        here.totals = recorder.totals()
        return records.changes(here, None if evaluation is None else evaluation.loss, postponed)

    def run_postponed_evaluation() -> None:
        """Does the evaluation that was put off when the run was stopped."""
        index = next(index for index, stage in enumerate(stages) if here.step <= stage.last)
        recorder.begin_stage(index)
        evaluation = evaluate(index)
        if evaluation is None:
            raise session.stopped(here.step)
        checkpoints.amend(here.step, changes(evaluation))
        session.report()

    def roll_back(reason: str) -> None:
        with progress.pause("rolling back"):
            restored = checkpoints.restore_newest(training.state_shapes())
            here.roll_back(records.position(restored), reason)
        recorder.rolled_back(here.step, int(here.totals["real_tokens"]), reason)
        display.say(f"{reason}: rolled back to step {here.step}, and on with the data after")

    with orderly_end(recorder, checkpoints, progress, session.report):
        if here.postponed:
            run_postponed_evaluation()
        while here.step < stages[-1].last and not training.has_ended(here):
            try:
                run_stage(next(index for index, stage in enumerate(stages) if here.step < stage.last))
            except Rollback as rollback:
                roll_back(str(rollback))
        with progress.pause("saving"):
            checkpoints.wait()
    return latest


@contextlib.contextmanager
def orderly_end(
    recorder: Recorder, checkpoints: Checkpoints, progress: Heartbeat, report: Callable[[str], None]
) -> Iterator[None]:
    """After the block the log is closed and a save that has begun is finished. An error that ended the block is
    reported, and raised even if that save fails too."""
    try:
        yield
    except BaseException as error:
        recorder.close()
        with progress.pause("saving"), contextlib.suppress(CheckpointError):
            checkpoints.close()
        report_error(error, report)
        raise
    recorder.close()
    with progress.pause("saving"):
        checkpoints.close()


def report_error(error: BaseException, report: Callable[[str], None]) -> None:
    """Reports what ended a run, unless there is no workdir to report it in."""
    if isinstance(error, Exception) and not isinstance(error, WorkdirGone):
        report(str(error))
