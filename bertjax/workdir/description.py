"""What a model folder, a checkpoint or a workdir holds: from headers and records, as JSON values and as text."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bertjax.cli.paths import given_path
from bertjax.cli.showing import plain, say, short
from bertjax.config import RunConfig, resolve, to_dict
from bertjax.config_schema import translated_record
from bertjax.engine.checkpoint.record import Damaged, whole_record
from bertjax.engine.checkpoint.step_folders import newest_that_stays, step_number, step_numbers
from bertjax.engine.checkpoint.stored_arrays import check_arrays, list_arrays
from bertjax.errors import CheckpointError, ConfigError, ModelFileError
from bertjax.interop.huggingface import open_folder
from bertjax.interop.safetensors_files import INDEX, list_tensors, read_json, tensors_in
from bertjax.interop.task_config import architecture, head_of
from bertjax.interop.task_models import task_of
from bertjax.interop.weights import BUFFERS, TIED, canonical
from bertjax.model.heads import part_title
from bertjax.text.tokenizer import load_tokenizer
from bertjax.workdir.config_json import check_config, check_tokenizer

_MOST_TRIALS = 40  # that are shown
_COLUMNS = ("tensor", "dtype", "shape", "parameters")


def describe(path: str | Path) -> dict[str, Any]:
    """What is at ``path``, as JSON values; ``kind`` is "model", "checkpoint" or "workdir". Raises ModelFileError."""
    folder = given_path(path, "PATH", ModelFileError)
    try:
        names = {child.name for child in folder.iterdir()}
    except OSError as error:
        raise ModelFileError(f"{short(path)} cannot be described: {error.strerror}") from None
    has_weights = any(name.endswith(".safetensors") for name in names)
    if not has_weights and _is_finetuning(folder):
        return _finetuning(folder)
    if not has_weights and (folder / "checkpoints").is_dir():
        return _pretraining(folder)
    if {"_CHECKPOINT_METADATA", "state"} <= names:
        return _checkpoint(folder, step_number(folder.name))
    if "config.json" in names or has_weights:
        return _model(folder)
    raise ModelFileError(
        f"{short(path)} holds neither a model (config.json, model.safetensors), nor a run (checkpoints/), nor is it a "
        f"checkpoint (WORKDIR/checkpoints/STEP)"
    )


def show(found: dict[str, Any]) -> None:
    if found["kind"] == "workdir":
        (_show_finetuning if "task" in found else _show_pretraining)(found)
        if found["contents"] is not None:
            print()
            show(found["contents"])
        return
    if found["kind"] == "checkpoint":
        say(f"{short(found['path'])}: checkpoint after {found['step']} steps")
    else:
        say(f"{short(found['path'])}: model in the Hugging Face layout")
        if not found["loadable"]:
            say(f"  bertjax cannot load it: {short(found['why_not'], 600)}")
        if found["missing_heads"]:
            say(f"  without {', '.join(found['missing_heads'])}")
        if found["task"]:
            say(f"  for {found['task']['kind']} {short(', '.join(found['task']['labels']), 600)}".rstrip())
    for name, value in found["config"].items():
        say(f"  {short(name)} = {short(json.dumps(value))}")
    _show_tensors(found)
    if found["kind"] == "checkpoint":
        optimizer = found["optimizer"]
        say(f"optimizer state: {optimizer['numbers']:,} numbers in {optimizer['arrays']:,} arrays")
        say("The vocabulary is padded to a multiple of 128 here, and layers are stacked; an export has neither.")


# --- Models and checkpoints -------------------------------------------------------------------------------------------


def _model(folder: Path) -> dict[str, Any]:
    if (folder / "model.safetensors").is_file() or (folder / INDEX).is_file():
        tensors = list_tensors(folder)
    else:  # of a model in pieces that no index names
        files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
        tensors = {name: info for file in files for name, info in tensors_in(file).items()}
    config = _json(folder / "config.json")
    stored = {canonical(name) for name in tensors}
    rows = []
    for name, info in sorted(tensors.items()):
        # Buffers are not parameters, and tied ones are a single parameter however often they are stored.
        again = canonical(name) in BUFFERS or TIED.get(canonical(name)) in stored
        rows.append(_row(name, info.dtype, info.shape, not again) | {"file": info.file.name})
    missing, task, why_not = [], None, None
    try:
        opened = open_folder(folder)
        missing = [part_title(part) for part in opened.missing_heads]
        if head_of(architecture(config)):
            task, missing = dataclasses.asdict(task_of(opened)), []
    except ModelFileError as error:
        missing, why_not = [], str(error)
    return {
        "kind": "model",
        "path": str(folder),
        "loadable": why_not is None,
        "why_not": why_not,
        "missing_heads": missing,
        "task": task,
        "config": config,
        "tensors": rows,
        "parameters": sum(row["parameters"] for row in rows),
    }


def _checkpoint(folder: Path, step: int | None) -> dict[str, Any]:
    workdir = folder.parent.parent
    record = _checked_record(folder, step)
    try:
        found = list_arrays(folder)
        check_arrays(found, record)
        arrays = [_row(array.name, array.dtype, array.shape) for array in found.values()]
        params = [array for array in arrays if array["name"].startswith("params/")]
        if not params:
            raise Damaged("it holds no parameters")
    except Damaged as damage:
        raise ModelFileError(f"{folder} is not a complete checkpoint: {short(damage, 300)}") from None
    optimizer = [array for array in arrays if array["name"].startswith("opt_state/")]
    return {
        "kind": "checkpoint",
        "path": str(folder),
        "step": step,
        "config": _mapping((_config(workdir) if _task(workdir) else _checked_config(workdir)).get("model")),
        "tensors": params,
        "parameters": sum(array["parameters"] for array in params),
        "optimizer": {"arrays": len(optimizer), "numbers": sum(array["parameters"] for array in optimizer)},
    }


def _checked_record(folder: Path, step: int | None) -> dict[str, Any]:
    """The record of a checkpoint, checked against the run's config and tokenizer. Raises ModelFileError."""
    workdir = folder.parent.parent
    config, tokenizer = workdir / "config.json", workdir / "tokenizer"
    try:
        record = whole_record(folder, step)
        if config.is_file():
            check_config(read_json(config), None if _task(workdir) else _resolved(config), record, workdir)
        if tokenizer.is_dir():
            check_tokenizer(load_tokenizer(tokenizer).has_fingerprint, record, workdir)
    except (Damaged, CheckpointError) as error:
        raise ModelFileError(f"{folder} is not a complete checkpoint: {short(error, 300)}") from None
    except ConfigError as error:
        raise ModelFileError(str(error)) from None
    return record


def _row(name: str, dtype: str, shape: Iterable[int], is_counted: bool = True) -> dict[str, Any]:
    shape = list(shape)
    return {"name": name, "dtype": dtype, "shape": shape, "parameters": math.prod(shape) if is_counted else 0}


def _show_tensors(found: dict[str, Any]) -> None:
    rows = [(plain(r["name"]), plain(r["dtype"]), str(r["shape"]), f"{r['parameters']:,}") for r in found["tensors"]]
    rows.append(("total", "", "", f"{found['parameters']:,}"))
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()  # elsewhere no line is folded
    table = Table() if is_terminal else Table(box=None, padding=(0, 0, 0, 2))
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column == "parameters" else "left", overflow="fold")
    for index, row in enumerate(rows):
        table.add_row(*map(Text, row), end_section=index == len(rows) - 2)
    Console(width=None if is_terminal else 10**6).print(table)


# --- Workdirs ---------------------------------------------------------------------------------------------------------


def _workdir(folder: Path, name: Any, **own: Any) -> dict[str, Any]:
    """What is said of every workdir. ``contents``: its model, or else its newest checkpoint, of which a running job may
    be deleting some."""
    checkpoints, has_model, contents = folder / "checkpoints", (folder / "model" / "config.json").is_file(), None
    steps = step_numbers(checkpoints)
    if steps:
        look = _checked_record if has_model else _checkpoint
        contents = newest_that_stays(checkpoints, lambda step: look(checkpoints / str(step), step), (ModelFileError,))
    return {
        "kind": "workdir",
        "path": str(folder),
        "name": name,
        "newest_step": steps[-1] if steps else None,
        "checkpoints": steps,
        **own,
        "contents": _model(folder / "model") if has_model else contents,
    }


def _pretraining(folder: Path) -> dict[str, Any]:
    config = _checked_config(folder)
    phases = config.get("phases", {})
    return _workdir(
        folder,
        config.get("name"),
        phases=[{"name": name, **phase} for name, phase in phases.items()],
        total_steps=sum(phase["steps"] for phase in phases.values()),
        held_out=_json(folder / "summary.json").get("held_out"),
    )


def _finetuning(folder: Path) -> dict[str, Any]:
    trials = _trials(folder)
    config = _config(folder) or (_config(trials[0]) if trials else {})
    summary, training = _json(folder / "summary.json"), _mapping(config.get("training"))
    settings = {name: summary.get(name, training.get(name)) for name in ("epochs", "learning_rate", "seed")}
    return _workdir(
        folder,
        config.get("name"),
        task=config.get("task"),
        **settings,
        best_step=summary.get("best_step"),
        scores=_mapping(summary.get("scores")),
        trials=[
            {
                "name": trial.name,
                "newest_step": max(step_numbers(trial / "checkpoints"), default=None),
                "scores": _mapping(_json(trial / "summary.json").get("scores")),
            }
            for trial in trials
        ],
    )


def _is_finetuning(workdir: Path) -> bool:
    """Whether it is the workdir of a fine-tuning run, or of a search over several."""
    if (workdir / "config.json").is_file():
        return bool(_task(workdir))
    return not (workdir / "checkpoints").is_dir() and any(map(_task, _trials(workdir)))


def _trials(workdir: Path) -> list[Path]:
    return sorted(path.parent for path in (workdir / "runs").glob("*/config.json"))


def _task(workdir: Path) -> str | None:
    task = _config(workdir).get("task")
    return task if isinstance(task, str) else None


def _config(workdir: Path) -> dict[str, Any]:
    return _mapping(translated_record(_json(workdir / "config.json")).get("config"))


def _checked_config(workdir: Path) -> dict[str, Any]:
    """The config of a pretraining run, with all keys; {} without one."""
    path = workdir / "config.json"
    return to_dict(_resolved(path)) if path.is_file() else {}


def _resolved(path: Path) -> RunConfig:
    config = _config(path.parent)
    if not config:
        raise ModelFileError(f"{path} is not the config of a run")
    try:
        return resolve(config)
    except (ConfigError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{path}: {short(error, 300)}") from None


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _show_pretraining(found: dict[str, Any]) -> None:
    say(f"{short(found['path'])}: run {short(found['name'] or 'without a config')}")
    for phase in found["phases"]:
        rows = f"{phase['batch_size']:,} rows of {phase['sequence_length']:,} tokens"
        say(f"  {short(phase['name'])}: {phase['steps']:,} steps of {rows}")
    say(f"  {found['total_steps']:,} steps in all; {_checkpoints(found)}")
    if isinstance(found["held_out"], dict):
        say(f"  held out: {_scores(found['held_out']) or 'nothing'}")


def _show_finetuning(found: dict[str, Any]) -> None:
    say(f"{short(found['path'])}: fine-tuning {short(found['name'] or 'without a name')} for {short(found['task'])}")
    if found["trials"]:
        say(f"  {len(found['trials'])} trials:")
    else:
        say(f"  {_checkpoints(found)}")
    for trial in found["trials"][:_MOST_TRIALS]:
        newest = "no checkpoint yet" if trial["newest_step"] is None else f"step {trial['newest_step']:,}"
        say(f"    {short(trial['name'])}: " + ", ".join(filter(None, (newest, _scores(trial["scores"])))))
    if len(found["trials"]) > _MOST_TRIALS:
        say(f"    and {len(found['trials']) - _MOST_TRIALS:,} more")
    values = {name.replace("_", " "): found[name] for name in ("epochs", "learning_rate", "seed")}
    # A config lists what a search tries; a single run has one of each.
    only = {name: v[0] if isinstance(v, list) and len(v) == 1 else v for name, v in values.items()}
    say("  " + ", ".join(f"{name} {short(value)}" for name, value in only.items()))
    if found["scores"]:
        scores = _scores(found["scores"])
        say(f"  best at step {short(found['best_step'])}" + (f": {scores}" if scores else ""))


def _checkpoints(found: dict[str, Any]) -> str:
    if not found["checkpoints"]:
        return "checkpoints: none yet"
    return f"checkpoints: newest {found['newest_step']:,} of {', '.join(map(str, found['checkpoints']))}"


def _scores(scores: dict[str, Any]) -> str:
    """Those that are numbers a float holds."""
    fits = lambda value: isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)
    return ", ".join(f"{short(name)} {value:.4g}" for name, value in scores.items() if fits(value))
