"""What a workdir of fine-tuning holds, one trial or several, read from its files alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertjax.showing import plain, say

_RUNS = "runs"
_MOST_SHOWN = 40  # trials


def is_finetuning(workdir: Path) -> bool:
    """Whether the folder is the workdir of a fine-tuning run, of a search, or of one of its trials. Raises
    ModelFileError where a config.json cannot be read."""
    if (workdir / "config.json").is_file():
        return task_of(workdir) is not None
    return not (workdir / "checkpoints").is_dir() and any(task_of(trial) is not None for trial in _trials(workdir))


def task_of(workdir: Path) -> str | None:
    """The kind of task in a workdir's config.json; None where it is of no fine-tuning. Raises ModelFileError."""
    task = _recorded(workdir).get("task")
    return task if isinstance(task, str) else None


def model_settings(workdir: Path) -> dict[str, Any]:
    """The section ``model`` of a trial's config."""
    return _mapping(_recorded(workdir).get("model"))


def describe_finetuning(workdir: Path, contents_of: Callable[[Path], Any]) -> dict[str, Any]:
    """contents_of: describes the model in a workdir, or else a checkpoint. Raises ModelFileError."""
    from bertjax.interop.safetensors_files import read_json
    from bertjax.train.step_folders import step_numbers

    trials = _trials(workdir)
    config = _recorded(workdir) or (_recorded(trials[0]) if trials else {})
    summary = read_json(workdir / "summary.json") if (workdir / "summary.json").is_file() else {}
    contents, training = contents_of(workdir), _mapping(config.get("training"))
    steps = step_numbers(workdir / "checkpoints")
    return {
        "kind": "workdir",
        "path": str(workdir),
        "name": config.get("name"),
        "task": config.get("task"),
        "epochs": summary.get("epochs", training.get("epochs")),
        "learning_rate": summary.get("learning_rate", training.get("learning_rate")),
        "seed": summary.get("seed", training.get("seed")),
        "newest_step": steps[-1] if steps else None,
        "checkpoints": steps,
        "best_step": summary.get("best_step"),
        "scores": _mapping(summary.get("scores")),
        "trials": [_trial(trial, step_numbers(trial / "checkpoints")) for trial in trials],
        "contents": contents,
    }


def show_finetuning(found: dict[str, Any]) -> None:
    """For a person, without what ``contents`` holds."""
    say(f"{found['path']}: fine-tuning {_short(found['name'] or 'without a name')} for {_short(found['task'])}")
    if found["trials"]:
        say(f"  {len(found['trials'])} trials:")
        for trial in found["trials"][:_MOST_SHOWN]:
            newest = "no checkpoint yet" if trial["newest_step"] is None else f"step {trial['newest_step']:,}"
            say(f"    {_short(trial['name'])}: {newest}{in_words(', ', trial['scores'])}")
        if len(found["trials"]) > _MOST_SHOWN:
            say(f"    and {len(found['trials']) - _MOST_SHOWN:,} more")
    else:
        newest = "none yet" if found["newest_step"] is None else f"newest {found['newest_step']:,}"
        say(
            f"  checkpoints: {newest}"
            + (f" of {', '.join(map(str, found['checkpoints']))}" * bool(found["checkpoints"]))
        )
    settings = {name.replace("_", " "): found[name] for name in ("epochs", "learning_rate", "seed")}
    say("  " + ", ".join(f"{name} {_short(_only(value))}" for name, value in settings.items()))
    if found["scores"]:
        say(f"  best at step {_short(found['best_step'])}{in_words(': ', found['scores'])}")


def _trial(workdir: Path, steps: list[int]) -> dict[str, Any]:
    from bertjax.interop.safetensors_files import read_json

    summary = read_json(workdir / "summary.json") if (workdir / "summary.json").is_file() else {}
    newest = steps[-1] if steps else None
    return {"name": workdir.name, "newest_step": newest, "scores": _mapping(summary.get("scores"))}


def _trials(workdir: Path) -> list[Path]:
    return sorted(path.parent for path in (workdir / _RUNS).glob("*/config.json"))


def _recorded(workdir: Path) -> dict[str, Any]:
    from bertjax.interop.safetensors_files import read_json

    path = workdir / "config.json"
    return _mapping(read_json(path).get("config")) if path.is_file() else {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _only(value: Any) -> Any:
    """A config lists what a search tries; a trial has one of each."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def in_words(before: str, scores: dict[str, Any]) -> str:
    """``before`` and the scores that are numbers; nothing where there are none."""
    shown = [f"{_short(name)} {value:.4g}" for name, value in scores.items() if _fits_a_float(value)]
    return before * bool(shown) + ", ".join(shown)


def _fits_a_float(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)


def _short(value: object, longest: int = 100) -> str:
    text = plain(value)
    return text if len(text) <= longest else f"{text[:longest]} ..."
