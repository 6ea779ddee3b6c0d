"""Somebody's files where a run is to live: told before anything is done, or left as they are."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import condition
from comparison import differences
from result import Result
from runs import Run
from whole import OVERRIDES, copy, digests, whole

BAR = "a folder that is no run is refused with code 2, and no byte of anybody's own is changed or gone"
STEP = 15
# Under names that a run does not write, and under names that it does.
HARMLESS = ("notes.txt", "thesis/1.tex", ".model.backup/x", "checkpoints/10-good/x", "checkpoints/best_model/x")
HARMLESS += ("damaged/9/x", "tensorboard/x", "config.json.tmp", "metrics.jsonl.tmp", "tokenizer.tmp/x", "model.old/x")
TAKEN = ("model/pytorch_model.bin", "model/config.json", "summary.json", "report.html")
IN_A_FOLDER = (*HARMLESS, *TAKEN, "tokenizer/vocab.txt", "config.json", "metrics.jsonl", "checkpoints/500/x")


def belongings(count: int, seed: int) -> Result:
    """``count`` folders: by turns one that is no run, a run's with other things in it, and one with a name taken."""
    result = Result("belongings", BAR)
    for number in range(seed, seed + count):
        wrong = (_no_run, _kept, _taken)[number % 3](random.Random(number))
        result.tried += 1
        if wrong:
            again = f"python tests/faults/catalogue.py --only belongings --seed {number} --count 1"
            result.failures.append(f"{'; '.join(wrong)}  [{again}]")
    return result


def _put(workdir: Path, names: list[str], draw: random.Random) -> dict[str, str]:
    """The hashes of the files that were put there."""
    for name in names:
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_bytes(draw.randbytes(draw.randrange(1, 1000)))
    there = digests(workdir)
    return {name: there[name] for name in names}


def _no_run(draw: random.Random) -> list[str]:
    run = Run("no-run", overrides=OVERRIDES)
    _put(run.workdir, draw.sample(IN_A_FOLDER, draw.randint(1, 4)), draw)
    return _refused(run, "holds no run of bertjax")


def _taken(draw: random.Random) -> list[str]:
    run = copy("taken", STEP)
    _put(run.workdir, [draw.choice(TAKEN)], draw)
    return _refused(run, "which is not as bertjax wrote it")


def _kept(draw: random.Random) -> list[str]:
    run = copy("kept", STEP)
    own = _put(run.workdir, draw.sample(HARMLESS, draw.randint(1, len(HARMLESS))), draw)
    ended = condition.end(run)
    after = digests(run.workdir)
    wrong = [] if ended.code == 0 else [f"exit code {ended.code}: {ended.last()}"]
    wrong += [f"{name} is changed or gone" for name in own if after.get(name) != own[name]]
    for name in own:  # so that they are no leftovers of the run's
        top = name.split("/")[0] if not name.startswith("checkpoints/") else "/".join(name.split("/")[:2])
        path = run.workdir / top
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return _closed(run, wrong or differences(run, whole()))


def _refused(run: Run, words: str) -> list[str]:
    before = digests(run.workdir)
    ended = condition.end(run)
    wrong = ended.refused(2, words)
    if digests(run.workdir) != before:
        wrong.append("something in the folder is changed")
    return _closed(run, wrong)


def _closed(run: Run, wrong: list[str]) -> list[str]:
    if not wrong:
        shutil.rmtree(run.folder)
    return wrong


FAULTS = {"belongings": belongings}
