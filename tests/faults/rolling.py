"""Runs that roll back past damaged checkpoints, many in one process; loaded with jax by the process that tries.

What is a pure function of config and mesh is made and compiled once for all of them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import runpy
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rollbacks
import scene
import setbacks

import bertjax.train
from bertjax.config import resolve
from bertjax.engine.checkpoint import checkpoints
from bertjax.engine.checkpoint.record import whole_record
from bertjax.engine.checkpoint.step_folders import step_numbers
from bertjax.engine.checkpoint.stored_arrays import check_arrays, list_arrays
from bertjax.errors import exit_code
from bertjax.parallel.checksums import host_checksum
from bertjax.parallel.sharding import own_rows
from bertjax.train import pretraining


def try_all(trials: list[int], note: Callable[..., None], source: Path, config: Path) -> None:
    """See ``in_process.lines``. trials: the seeds; source: the workdir of the whole run."""
    tree = runpy.run_path(str(config))["get_config"]()
    tree.checkpoint.keep = 100
    run, read = resolve(tree), _Read()
    _compile_once()
    pretraining.open_batches = read.opening(pretraining.open_batches)
    workdir = scene.new_folder("rolling") / "run"
    for number, seed in enumerate(trials):
        plan = setbacks.drawn(seed)
        shutil.rmtree(workdir, ignore_errors=True)
        rollbacks.copy_from(source, workdir, plan.start)
        guarded = setbacks.install(workdir, plan.setbacks, harming=True)
        read.texts.clear()
        said: list[str] = []
        note(number, done=f"from step {plan.start}, {plan.setbacks}")
        try:
            bertjax.train.run(tree, workdir, say=said.append)
            wrong = _wrong(run, workdir, guarded.folders, read.texts)
            outcome, detail = ("WRONG", "; ".join(wrong)) if wrong else ("went on", "")
        except Exception as error:
            line = exit_code(error) in (3, 4) and "\n" not in str(error)
            detail = f"{type(error).__name__}: {error}" if line else traceback.format_exc()[-600:]
            outcome = "one line" if line else "unforeseen"
        done = f"from step {plan.start}, rolled back at {[s.step for s in plan.setbacks]}, {guarded.harmed}"
        note(number, done=done, outcome=outcome, detail=f"{detail} / {' / '.join(said[-4:])}")


def _compile_once() -> None:
    checkpoints.Checksums = functools.cache(checkpoints.Checksums)
    made: dict[str, Any] = {}
    make_job = pretraining.make_job

    def job_of(run, mesh):
        if "job" not in made:
            made["job"] = _Job(make_job(run, mesh))
        return made["job"]

    pretraining.make_job = job_of
    pretraining.export_params = lambda *_, **__: None
    pretraining.refresh_report = lambda *_: None


class _Job:
    """A job whose functions are made once."""

    def __init__(self, job: Any):
        self._job, self._steps = job, {}
        self.eval_step, self.state_shapes = functools.cache(job.eval_step), functools.cache(job.state_shapes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def train_step(self, phase: Any) -> Any:
        if (key := repr(phase)) not in self._steps:
            self._steps[key] = self._job.train_step(phase)
        return self._steps[key]


class _Read:
    """What the batches of a run say: a hash of the first text of every example, in the order in which it was read."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def opening(self, before: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *positional, **named: _Noted(before(*positional, **named), self.texts)


class _Noted:
    def __init__(self, batches: Any, texts: list[str]):
        self._batches, self._texts = batches, texts

    def __iter__(self) -> _Noted:
        return self

    def __next__(self) -> Any:
        placed, position = next(self._batches)
        batch = {name: own_rows(field) for name, field in placed.items()}
        ids = batch["input_ids"].copy()
        for row in range(len(ids)):  # as they were before masking
            chosen = batch["masked_lm_weights"][row] > 0
            ids[row, batch["masked_lm_positions"][row][chosen]] = batch["masked_lm_ids"][row][chosen]
        for row, example, kind in zip(ids, batch["example_ids"], batch["token_type_ids"], strict=True):
            for which in range(1, example.max() + 1):
                text = row[(example == which) & (kind == 0)]
                self._texts.append(hashlib.blake2b(text.tobytes(), digest_size=8).hexdigest())
        return placed, position

    def __enter__(self) -> _Noted:
        self._batches.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._batches.__exit__(*error)


def _wrong(run: Any, workdir: Path, harmed: set[int], texts: list[str]) -> list[str]:
    """What is not as it should be in a run that has come to its end."""
    wrong = []
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    if steps != list(range(1, scene.STEPS + 1)):
        wrong.append(f"train rows of steps {steps}")
    if len(set(texts)) < len(texts):
        wrong.append(f"{len(texts) - len(set(texts))} of {len(texts)} texts were read twice")
    there = step_numbers(workdir / "checkpoints")
    if not there or there[-1] != scene.STEPS:
        wrong.append(f"checkpoints of steps {there}")
    for step in there:
        folder = workdir / "checkpoints" / str(step)
        if folder.stat().st_ino in harmed:
            continue  # nobody has looked at it since
        record, found = whole_record(folder, step), list_arrays(folder)
        check_arrays(found, record)
        if record["phase"] != run.phase_at(step - 1):
            wrong.append(f"step {step} is said to be of phase {record['phase']}")
        sums = {name: host_checksum(array.read()) for name, array in found.items()}
        wrong += [f"{name} of step {step}" for name in sums if sums[name] != record["arrays"][name]["checksum"]]
    return wrong
