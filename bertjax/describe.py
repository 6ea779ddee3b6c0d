"""python -m bertjax.describe PATH [--json]: what a model folder, a checkpoint or a workdir holds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.command import ArgumentParser, guarded
from bertjax.described_finetuning import (
    describe_finetuning,
    in_words,
    is_finetuning,
    model_settings,
    show_finetuning,
    task_of,
)
from bertjax.showing import plain

if TYPE_CHECKING:
    from bertjax.config import RunConfig

_EPILOG = """\
PATH is one of
  a model folder           config.json and .safetensors files, under the names that are stored there
  WORKDIR/checkpoints/N    parameters, and the optimizer's state counted beside them
  WORKDIR                  the run: its phases or trials, checkpoints and scores, and the tensors of its model

Only headers are read, no weights; a checkpoint's are compared with its record, and so are the config and the tokenizer
of its run. A model that bertjax cannot load is described, too, with the reason.

Exit codes: 0 done; 2 usage; 3 there is nothing to describe, or its files are damaged."""

_COLUMNS = ("tensor", "dtype", "shape", "parameters")
_LONGEST_VALUE = 100


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.describe", "Says what a folder of bertjax holds.", _EPILOG)
    parser.add_argument("path", metavar="PATH", help="model folder, checkpoint or workdir")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser.run(argv, lambda options: guarded(lambda: _run(options)))


def _run(options: argparse.Namespace) -> None:
    from bertjax.inference.strict_json import with_words_for_numbers
    from bertjax.interop import ModelFileError

    found = describe(options.path)
    try:
        text = json.dumps(with_words_for_numbers(found), indent=2, allow_nan=False)
    except RecursionError:
        raise ModelFileError(f"{options.path}: its config is nested too deeply to be shown") from None
    if options.json:
        print(text)
    else:
        _show(found)


def describe(path: str | Path) -> dict[str, Any]:
    """What is at ``path``, as JSON values; ``kind`` is "model", "checkpoint" or "workdir". Raises ModelFileError."""
    from bertjax.interop import ModelFileError
    from bertjax.paths import given_path

    folder = given_path(path, "PATH", ModelFileError)
    try:
        names = {child.name for child in folder.iterdir()}
    except OSError as error:
        raise ModelFileError(f"{_plain(path)} cannot be described: {error.strerror}") from None
    has_weights = any(name.endswith(".safetensors") for name in names)
    if not has_weights and is_finetuning(folder):
        return describe_finetuning(folder, _contents)
    if (folder / "checkpoints").is_dir() and not has_weights:
        return _workdir(folder)
    if {"_CHECKPOINT_METADATA", "state"} <= names:
        return _checkpoint(folder)
    if "config.json" in names or has_weights:
        return _model(folder)
    raise ModelFileError(
        f"{_plain(path)} holds neither a model (config.json, model.safetensors), nor a run (checkpoints/), nor is it a "
        f"checkpoint (WORKDIR/checkpoints/STEP)"
    )


def _model(folder: Path) -> dict[str, Any]:
    from bertjax.interop import ModelFileError
    from bertjax.interop.huggingface import open_folder
    from bertjax.interop.names import BUFFERS, HEADS, TIED, canonical
    from bertjax.interop.safetensors_files import INDEX, list_tensors, read_json, tensors_in
    from bertjax.interop.task_config import architecture, head_of
    from bertjax.interop.task_models import task_of

    whole = (folder / "model.safetensors").is_file() or (folder / INDEX).is_file()
    files = [] if whole else sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    tensors = list_tensors(folder) if whole else {}
    for file in files:
        tensors |= tensors_in(file)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    stored = {canonical(name) for name in tensors}
    rows = []
    for name, info in sorted(tensors.items()):
        # Buffers are no parameters, and what is tied is one parameter however often it is stored.
        again = canonical(name) in BUFFERS or TIED.get(canonical(name)) in stored
        count = 0 if again else math.prod(info.shape)
        rows.append(_row(name, info.dtype, info.shape, count) | {"file": info.file.name})
    missing, task, why_not = [], None, None
    try:
        opened = open_folder(folder)
        missing = [HEADS[part] for part in opened.missing_heads]
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


def _checkpoint(folder: Path) -> dict[str, Any]:
    from bertjax.interop import ModelFileError
    from bertjax.train.record import Damaged
    from bertjax.train.step_folders import step_number
    from bertjax.train.stored_arrays import check_arrays, list_arrays

    workdir = folder.parent.parent
    record = _checked_record(folder, step_number(folder.name))
    try:
        found = list_arrays(folder)
        check_arrays(found, record)
    except Damaged as damage:
        raise ModelFileError(f"{folder} is no whole checkpoint: {_plain(damage, longest=300)}") from None
    arrays = [_row(array.name, array.dtype, array.shape, math.prod(array.shape)) for array in found.values()]
    params = [array for array in arrays if array["name"].startswith("params/")]
    if not params:
        raise ModelFileError(f"{folder} is no whole checkpoint: it holds no parameters")
    optimizer = [array for array in arrays if array["name"].startswith("opt_state/")]
    return {
        "kind": "checkpoint",
        "path": str(folder),
        "step": step_number(folder.name),
        "config": _model_settings(workdir),
        "tensors": params,
        "parameters": sum(array["parameters"] for array in params),
        "optimizer": {"arrays": len(optimizer), "numbers": sum(array["parameters"] for array in optimizer)},
    }


def _model_settings(workdir: Path) -> dict[str, Any]:
    if task_of(workdir):
        return model_settings(workdir)
    return _recorded(workdir / "config.json")["model"] if (workdir / "config.json").is_file() else {}


def _checked_record(folder: Path, step: int | None) -> dict[str, Any]:
    """The record of a checkpoint, of which config and tokenizer of the run are. Raises ModelFileError."""
    from bertjax.config import ConfigError
    from bertjax.interop import ModelFileError
    from bertjax.interop.safetensors_files import read_json
    from bertjax.text.tokenizer import load_tokenizer
    from bertjax.train import CheckpointError
    from bertjax.train.provenance import check_config, check_tokenizer
    from bertjax.train.record import Damaged, whole_record

    workdir = folder.parent.parent
    config, tokenizer = workdir / "config.json", workdir / "tokenizer"
    try:
        record = whole_record(folder, step)
        if config.is_file():
            run = None if task_of(workdir) else _resolved(config)
            check_config(read_json(config), run, record, workdir)
        if tokenizer.is_dir():
            check_tokenizer(load_tokenizer(tokenizer).has_fingerprint, record, workdir)
    except (Damaged, CheckpointError) as error:
        raise ModelFileError(f"{folder} is no whole checkpoint: {_plain(error, longest=300)}") from None
    except ConfigError as error:
        raise ModelFileError(str(error)) from None
    return record


def _contents(folder: Path) -> dict[str, Any] | None:
    """The model of a workdir, or else its newest checkpoint, of which a run that goes on may be deleting some."""
    from bertjax.interop import ModelFileError
    from bertjax.train.step_folders import newest_that_stays, step_numbers

    has_model, contents = (folder / "model" / "config.json").is_file(), None
    if step_numbers(folder / "checkpoints"):
        look = _checked_record if has_model else lambda path, step: _checkpoint(path)
        of_step = lambda step: look(folder / "checkpoints" / str(step), step)
        contents = newest_that_stays(folder / "checkpoints", of_step, (ModelFileError,))
    return _model(folder / "model") if has_model else contents


def _workdir(folder: Path) -> dict[str, Any]:
    from bertjax.interop.safetensors_files import read_json
    from bertjax.train.step_folders import step_numbers

    config = _recorded(folder / "config.json") if (folder / "config.json").is_file() else {}
    summary = read_json(folder / "summary.json") if (folder / "summary.json").is_file() else {}
    phases, contents = config.get("phases", {}), _contents(folder)
    steps = step_numbers(folder / "checkpoints")
    return {
        "kind": "workdir",
        "path": str(folder),
        "name": config.get("name"),
        "phases": [{"name": name, **phase} for name, phase in phases.items()],
        "total_steps": sum(phase["steps"] for phase in phases.values()),
        "newest_step": steps[-1] if steps else None,
        "checkpoints": steps,
        "held_out": summary.get("held_out"),
        "contents": contents,
    }


def _recorded(path: Path) -> dict[str, Any]:
    """The config of a run from its config.json, checked. Raises ModelFileError."""
    from bertjax.config import to_dict

    return to_dict(_resolved(path))


def _resolved(path: Path) -> RunConfig:
    from bertjax.config import ConfigError, resolve
    from bertjax.interop import ModelFileError
    from bertjax.interop.safetensors_files import read_json
    from bertjax.keys import translated_tree

    recorded = read_json(path).get("config")
    if not isinstance(recorded, dict):
        raise ModelFileError(f"{path} is no config of a run")
    try:
        return resolve(translated_tree(recorded))
    except (ConfigError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{path}: {_plain(error, longest=300)}") from None


def _row(name: str, dtype: str, shape: Iterable[int], parameters: int) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape), "parameters": parameters}


def _show(found: dict[str, Any]) -> None:
    _SHOWN[found["kind"]](found)


def _show_workdir(found: dict[str, Any]) -> None:
    (show_finetuning if "task" in found else _show_run)(found)
    if found["contents"] is not None:
        print()
        _show(found["contents"])


def _show_run(found: dict[str, Any]) -> None:
    print(f"{_plain(found['path'])}: run {_plain(found['name'] or 'without a config')}")
    for phase in found["phases"]:
        rows = f"{phase['batch_size']:,} rows of {phase['sequence_length']:,} tokens"
        print(f"  {_plain(phase['name'])}: {phase['steps']:,} steps of {rows}")
    newest = "none yet" if found["newest_step"] is None else f"newest {found['newest_step']:,}"
    print(f"  {found['total_steps']:,} steps in all; checkpoints: {newest}", end="")
    print(f" of {', '.join(map(str, found['checkpoints']))}" if found["checkpoints"] else "")
    if isinstance(found["held_out"], dict):
        print(in_words("  held out: ", found["held_out"]) or "  held out: nothing")


def _show_checkpoint(found: dict[str, Any]) -> None:
    print(f"{_plain(found['path'])}: checkpoint after {found['step']} steps")
    _show_config(found["config"])
    _show_tensors(found)
    optimizer = found["optimizer"]
    print(f"optimizer state: {optimizer['numbers']:,} numbers in {optimizer['arrays']:,} arrays")
    print("The vocabulary is padded to a multiple of 128 here, and layers are stacked; an export has neither.")


def _show_model(found: dict[str, Any]) -> None:
    print(f"{_plain(found['path'])}: model in the Hugging Face layout")
    if not found["loadable"]:
        print(f"  bertjax cannot load it: {_plain(found['why_not'], longest=600)}")
    if found["missing_heads"]:
        print(f"  without {', '.join(found['missing_heads'])}")
    if found["task"]:
        print(f"  for {found['task']['kind']} {_plain(', '.join(found['task']['labels']), longest=600)}".rstrip())
    _show_config(found["config"])
    _show_tensors(found)


def _show_config(config: dict[str, Any]) -> None:
    for name, value in config.items():
        print(f"  {_plain(name)} = {_plain(json.dumps(value))}")


def _show_tensors(found: dict[str, Any]) -> None:
    rows = [(plain(r["name"]), plain(r["dtype"]), str(r["shape"]), f"{r['parameters']:,}") for r in found["tensors"]]
    rows.append(("total", "", "", f"{found['parameters']:,}"))
    draw = _draw_table if sys.stdout.isatty() else _print_columns
    draw(rows)


def _draw_table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column == "parameters" else "left", overflow="fold")
    for index, row in enumerate(rows):
        table.add_row(*map(Text, row), end_section=index == len(rows) - 2)
    Console().print(table)


def _print_columns(rows: list[tuple[str, ...]]) -> None:
    rows = [_COLUMNS, *rows]
    *widths, last = (max(map(len, column)) for column in zip(*rows, strict=True))
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join(["", *cells, row[-1].rjust(last)]))


def _plain(value: object, longest: int = _LONGEST_VALUE) -> str:
    """Text from a file or a command line as one line that any terminal takes."""
    text = str(value)
    return plain(text[:longest]) + (" ..." if len(text) > longest else "")


_SHOWN: dict[str, Callable[[dict[str, Any]], None]] = {
    "workdir": _show_workdir,
    "checkpoint": _show_checkpoint,
    "model": _show_model,
}


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("describe")
