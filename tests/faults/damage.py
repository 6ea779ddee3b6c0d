"""The newest checkpoint damaged: it is never restored as something else, and the run goes on from the one before."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import condition
import scene
from comparison import differences
from harms import Trial, files, folders, harm
from in_process import watched
from result import Result
from whole import copy, whole

BAR = "none is silently restored wrong: the run falls back to the step before, or fails and names the file"
OLDER, NEWER = 15, 18
# Outcomes that hold the bar; "harmless": what was restored is the newest step, bit for bit.
FINE = {"fell back", "harmless", "refused"}
LIMIT_SECONDS = 60.0
# Of so many trials on the restore path one is made of a whole run as well.
WHOLE_RUN_EVERY = 50


def flip(count: int, seed: int) -> Result:
    """``count`` times one bit flipped."""
    return _drawn("flip", count, seed)


def truncate(count: int, seed: int) -> Result:
    """``count`` times one file cut."""
    return _drawn("truncate", count, seed)


def missing(count: int, seed: int) -> Result:
    """``count`` rounds over all files and folders of the step, each missing, empty, unreadable, zeroed or stale."""
    trials = [trial for number in range(seed, seed + count) for trial in _round(number)]
    result = tried("missing", trials, f"--seed {seed} --count {count}")
    for number in range(seed, seed + count):
        for index, kind in enumerate(("missing", "empty", "unreadable", "zeroed")):
            _whole_run(result, kind, number + index)
        _none_whole(result, number)
    return result


def whole_runs(kind: str, count: int, seed: int) -> Result:
    """Whole runs only."""
    result = Result(kind, BAR)
    for number in range(seed, seed + count):
        _whole_run(result, kind, number)
    return result


def none_whole(count: int, seed: int) -> Result:
    """No whole checkpoint only."""
    result = Result("missing", BAR)
    for number in range(seed, seed + count):
        _none_whole(result, number)
    return result


def some_missing(count: int, seed: int) -> Result:
    """``count`` of the cases of a round, chosen by the seed."""
    trials = random.Random(seed).sample(_round(seed), count)
    return tried("missing", trials, f"--seed {seed} --count 1")


def _drawn(kind: str, count: int, seed: int) -> Result:
    from_seed = range(seed, seed + count)
    result = tried(kind, [Trial(kind, number) for number in from_seed])
    for number in range(seed, seed + count // WHOLE_RUN_EVERY):
        _whole_run(result, kind, number)
    return result


def _round(seed: int) -> list[Trial]:
    step = whole().workdir / "checkpoints" / str(NEWER)
    cases = [(kind, name) for name in files(step) for kind in ("missing", "empty", "unreadable", "zeroed", "stale")]
    cases += [(kind, name) for name in folders(step) for kind in ("missing", "empty", "unreadable")]
    # A step that is gone as a whole leaves no trace; who goes back on purpose deletes it like that.
    cases.remove(("missing", "."))
    return [Trial(kind, seed, name) for kind, name in cases]


def tried(name: str, trials: list[Trial], again: str = "") -> Result:
    """The trials on the restore path, in one process as long as none of them takes it along."""
    result = Result(name, BAR)
    outcomes: Counter[str] = Counter()
    for trial, line in zip(trials, _lines(trials), strict=True):
        result.tried += 1
        outcome = line.get("outcome", "took the process along")
        outcomes[outcome] += 1
        if outcome not in FINE:
            options = again or f"--seed {trial.seed} --count 1"
            result.failures.append(
                f"{line['done']}: {outcome}: {line.get('detail', '')[:300]} "
                f"[python tests/faults/catalogue.py --only {name} {options}]"
            )
    result.figures = {outcome: str(number) for outcome, number in sorted(outcomes.items())}
    return result


def _lines(trials: list[Trial]) -> Iterator[dict[str, Any]]:
    """What came of each trial; where it hung or ended the process, the line that it began with."""
    folder = scene.new_folder("damage")
    source = folder / "source"
    for step in (OLDER, NEWER):
        shutil.copytree(whole().workdir / "checkpoints" / str(step), source / str(step))
    done = 0
    while done < len(trials):
        report, log = folder / f"report{done}", folder / f"log{done}"
        report.touch()
        process = condition.forked(_restore, trials[done:], source, folder / "copy", report, log)
        lines = watched(process, report, LIMIT_SECONDS)
        if not lines:
            raise RuntimeError(f"no trial began: {log.read_text()[-1000:]}")
        yield from lines
        done += len(lines)
    shutil.rmtree(folder)


def _restore(trials: list[Trial], source: Path, scratch: Path, report: Path, log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import restoring

    restoring.try_all(trials, source, scratch, report, scene.config_file(), scene.cores()[0])


def _file_that_counts(step: Path, seed: int) -> str:
    """By turns one of those that tell what is there, and the largest of those that hold the arrays."""
    arrays = max((step / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    return ("record/metadata", "state/_METADATA", "state/manifest.ocdbt", str(arrays.relative_to(step)))[seed % 4]


def _whole_run(result: Result, kind: str, seed: int) -> None:
    """A damaged workdir given to the command: it says so, goes on, and ends as the undisturbed run did."""
    run = copy("damaged", NEWER)
    step = run.workdir / "checkpoints" / str(NEWER)
    done = harm(step, Trial(kind, seed, _file_that_counts(step, seed)))
    ended = condition.end(run, condition.as_ordinary_user)
    wrong = [] if ended.code == 0 else [f"exit code {ended.code}: {ended.last()}"]
    fell_back = f"step {NEWER} is damaged (" in ended.text
    shutil.rmtree(run.workdir / "damaged", ignore_errors=True)  # which is where it should be, but no leftover
    wrong = wrong or differences(run, whole())
    result.tried += 1
    result.figures["whole runs"] = str(int(result.figures.get("whole runs", 0)) + 1)
    result.figures["of which fell back"] = str(int(result.figures.get("of which fell back", 0)) + fell_back)
    if wrong:
        result.failures.append(f"whole run, {done} (kind {kind}, seed {seed}): {'; '.join(wrong)}")
    else:
        shutil.rmtree(run.folder)


def _none_whole(result: Result, seed: int) -> None:
    """All checkpoints damaged: exit code 3, and all of them are still there."""
    run = copy("none-whole", OLDER)
    steps = sorted((run.workdir / "checkpoints").iterdir())
    done = [harm(step, Trial("truncate", seed, "record/metadata")) for step in steps]
    ended = condition.end(run)
    wrong = ended.refused(3, "record/metadata")
    wrong += [] if sorted((run.workdir / "checkpoints").iterdir()) == steps else ["some checkpoints are gone"]
    result.tried += 1
    if wrong:
        result.failures.append(f"all {len(done)} steps damaged (seed {seed}): {'; '.join(wrong)}")
    else:
        shutil.rmtree(run.folder)


FAULTS = {"flip": flip, "truncate": truncate, "missing": missing}
