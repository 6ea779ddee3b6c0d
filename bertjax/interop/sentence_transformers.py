"""Files of the library sentence-transformers beside a model: the modules that make an embedding, and the length that
texts are truncated to."""

import json
from pathlib import Path
from typing import Any

from bertjax.cli.showing import short
from bertjax.errors import ModelFileError
from bertjax.interop.exported import LENGTH_FILE, MODULES_FILE, POOLING_FOLDER
from bertjax.interop.safetensors_files import read_json
from bertjax.model.task import TaskConfig

_PACKAGE = "sentence_transformers."
# Ways to pool, by the keys of early versions; bertjax computes the first two.
_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_COMPUTED = ("mean", "cls")
_NORMALIZED = "sentence_embedding"  # what Normalize works on; another may be named


def has_modules(folder: Path) -> bool:
    """Whether sentence-transformers wrote a model folder."""
    return (folder / MODULES_FILE).is_file()


def embedding_settings(folder: Path, positions: int) -> dict[str, Any]:
    """``pooling``, ``normalize`` and ``max_length`` of a folder, those that its files name. Raises ModelFileError for a
    module or a way to pool that bertjax does not compute."""
    settings: dict[str, Any] = {}
    pooling = folder / POOLING_FOLDER
    if has_modules(folder):
        pooling, settings["normalize"] = _modules(folder)
    if (pooling / "config.json").is_file():
        settings["pooling"] = _pooling(pooling / "config.json")
    longest = read_json(folder / LENGTH_FILE).get("max_seq_length") if (folder / LENGTH_FILE).is_file() else None
    if longest is None and has_modules(folder) and (folder / "tokenizer_config.json").is_file():
        longest = read_json(folder / "tokenizer_config.json").get("model_max_length")
    if type(longest) is int and longest > 0:
        settings["max_length"] = min(longest, positions)
    return settings


def _modules(folder: Path) -> tuple[Path, bool]:
    """(folder of the pooling, whether vectors are normalised) by modules.json."""
    path = folder / MODULES_FILE
    modules = read_json(path, list)
    for module in modules:
        parts = [module.get(key) for key in ("path", "type")] if isinstance(module, dict) else [None]
        if not all(isinstance(part, str) for part in parts) or ".." in Path(str(parts[0])).parts:
            raise ModelFileError(f"{path} must be a list of modules, each with a path in the folder and a type")
    # The classes of the library; "" for any other.
    kinds = [m["type"].rpartition(".")[2] if m["type"].startswith(_PACKAGE) else "" for m in modules]
    for module, kind in zip(modules, kinds, strict=True):
        if kind not in ("Transformer", "Pooling", "Normalize"):
            what = module["path"] or "a module"
            raise ModelFileError(
                f"{path} has {short(what)}, a {short(module['type'])}, which bertjax does not compute; the vectors "
                f"would be those before it"
            )
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0]["path"]:
        raise ModelFileError(
            f"{path} has the modules {', '.join(kinds) or 'none'}; bertjax reads a Transformer in the folder itself, "
            f"one Pooling and perhaps Normalize, in this order"
        )
    normalizing = folder / modules[-1]["path"] / "config.json"
    if len(kinds) == 3 and normalizing.is_file():
        named = read_json(normalizing)
        if any(named.get(f"module_{side}_name") not in (None, _NORMALIZED) for side in ("input", "output")):
            raise ModelFileError(f"{normalizing} normalises something else than the {_NORMALIZED}")
    return folder / modules[1]["path"], len(kinds) == 3


def _pooling(path: Path) -> str:
    values = read_json(path)
    modes = values.get("pooling_mode")
    if modes is None:
        given = [name for name in values if name.startswith("pooling_mode_")]
        modes = [_MODES.get(name, name) for name in given if values[name]] if given else "mean"
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in _COMPUTED:
        shown = " and ".join(short(mode) for mode in modes) or "nothing"
        raise ModelFileError(f"{path} has vectors pooled otherwise than by {' or '.join(_COMPUTED)}: by {shown}")
    return modes[0]


def write_modules(folder: Path, task: TaskConfig, hidden_size: int) -> None:
    """Writes the files that sentence-transformers needs, as all its versions read them."""
    kinds = [("", "Transformer"), (POOLING_FOLDER, "Pooling"), *([("2_Normalize", "Normalize")] * task.normalize)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{_PACKAGE}models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    every = list(_MODES.items())[:4]  # the keys that its first versions know
    pooling = {"word_embedding_dimension": hidden_size, **{key: mode == task.pooling for key, mode in every}}
    length = {"max_seq_length": task.max_length, "do_lower_case": False}
    (folder / POOLING_FOLDER).mkdir()
    files = {MODULES_FILE: modules, f"{POOLING_FOLDER}/config.json": pooling, LENGTH_FILE: length}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
