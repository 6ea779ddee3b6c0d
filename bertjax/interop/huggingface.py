"""Model folders in the Hugging Face layout: config.json, model.safetensors, the tokenizer's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from bertjax.config import ModelConfig
from bertjax.interop import ModelFileError
from bertjax.interop.model_config import from_config, to_config
from bertjax.interop.names import HEADS, canonical
from bertjax.interop.safetensors_files import INDEX, TensorInfo, list_tensors, read_json
from bertjax.interop.weights import check_tensors, from_tensors, to_tensors

# Everything that a model folder of transformers or bertjax may hold: only such a folder is ever replaced.
_OURS = ["config.json", "generation_config.json", "model.safetensors", "README.md", ".gitattributes"]
_TOKENIZER = [
    "vocab.txt",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
]
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class ModelFolder:
    """What a folder holds, before any weight is read. ``tensors``: by canonical name."""

    path: Path
    config: ModelConfig
    tensors: dict[str, TensorInfo]
    missing_heads: list[str]

    def read(self, skip: tuple[str, ...] = ()) -> dict[str, Any]:
        """The nested float32 parameters, without missing heads and those in ``skip``. Raises ModelFileError."""
        read = lambda name: self.tensors[name].read()
        skip = (*self.missing_heads, *skip)
        return from_tensors(read, set(self.tensors), self.config, skip, str(self.path))


def open_folder(path: str | Path) -> ModelFolder:
    """Opens a Hugging Face BERT folder and checks that it is whole, or raises ModelFileError."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise ModelFileError(
            f"{path} is no model folder. bertjax downloads nothing: `hf download google-bert/bert-base-uncased "
            f"--local-dir bert-base-uncased` gets a folder; bertjax.create_model('bert-base') makes new weights"
        )
    if not (path / "config.json").is_file():
        raise ModelFileError(f"{path} holds no config.json; a model folder has that and model.safetensors")
    if not (path / "model.safetensors").is_file() and not (path / INDEX).is_file():
        raise ModelFileError(_without_weights(path))
    config = from_config(read_json(path / "config.json"), str(path / "config.json"))
    tensors: dict[str, TensorInfo] = {}
    for name, info in list_tensors(path).items():
        if canonical(name) in tensors:
            raise ModelFileError(f"{path}: {tensors[canonical(name)].name} and {name} are one and the same")
        tensors[canonical(name)] = info
    missing_heads = check_tensors({name: info.shape for name, info in tensors.items()}, config, str(path))
    not_floats = [info.name for name, info in tensors.items() if not info.is_float and not name.endswith("_ids")]
    if not_floats:
        raise ModelFileError(f"{path}: tensor {not_floats[0]} holds integers; weights are F32, F16 or BF16")
    return ModelFolder(path, config, tensors, missing_heads)


def _without_weights(path: Path) -> str:
    if any((path / name).is_file() for name in _PICKLED):
        return (
            f"{path} has only pickled weights, which can run any code and are not read; convert them once: "
            f'python -c "from transformers import AutoModelForPreTraining as M; '
            f"M.from_pretrained('{path}').save_pretrained('{path}-safe')\", and copy the tokenizer's files there"
        )
    return f"{path} holds no model.safetensors"


def export_model(
    directory: str | Path,
    config: ModelConfig,
    params: dict[str, Any],
    tokenizer: Any,
    verify: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Writes a model folder. ``tokenizer`` may be None. Equal parameters give equal bytes.

    Where the tokenizer has fewer entries than the model (a vocabulary learned on little text), the rows that stand
    for no token are stripped like the padding of the vocabulary.
    It appears under its name only when it is whole: the tensors have been read back and found equal, and
    ``verify(folder)`` raised nothing. An older model folder is replaced, a folder of anything else is not
    (ModelFileError).
    """
    directory = Path(directory).expanduser()
    check_replaceable(directory)
    building = directory.with_name(directory.name + ".tmp")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        if tokenizer is not None:
            tokenizer.save(building)
            config = replace(config, vocab_size=min(config.vocab_size, tokenizer.vocab_size))
        pad_id = 0 if tokenizer is None else tokenizer.pad_id
        written = to_config(config, pad_id, for_pretraining="mlm_head" in params)
        (building / "config.json").write_text(json.dumps(written, indent=2) + "\n")
        tensors = to_tensors(params, config)
        save_file(tensors, building / "model.safetensors", metadata={"format": "pt"})
        (building / "model.safetensors").chmod(0o644)  # the writer leaves it to its owner alone
        _check_written(building, tensors)
        verify(building)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise ModelFileError(f"{directory} cannot be written: {error.strerror or error}") from None
    except ModelFileError:
        shutil.rmtree(building, ignore_errors=True)
        raise
    retired = directory.with_name(directory.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if directory.exists():
        directory.replace(retired)
    building.replace(directory)
    shutil.rmtree(retired, ignore_errors=True)


def check_replaceable(directory: Path) -> None:
    """Raises ModelFileError where a model folder cannot be put at ``directory`` without losing something else."""
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise ModelFileError(f"{directory} is no folder; choose another place for the model")
    if not directory.is_dir():
        return
    others = sorted(child.name for child in directory.iterdir() if child.name not in (*_OURS, *_TOKENIZER))
    if others:
        raise ModelFileError(f"{directory} holds {others[0]}, which a model would replace; choose another folder")


def _check_written(folder: Path, tensors: dict[str, Any]) -> None:
    stored = list_tensors(folder)
    if set(stored) != set(tensors):
        raise ModelFileError(f"{folder} does not hold the tensors that were written")
    for name, tensor in tensors.items():
        if stored[name].read().tobytes() != tensor.tobytes():
            raise ModelFileError(f"{folder}: tensor {name} does not read back as it was written")


def missing_heads_message(folder: ModelFolder) -> str:
    """The warning for heads that a folder lacks."""
    names = ", ".join(HEADS[part] for part in folder.missing_heads)
    return f"{folder.path} has no {names}: new weights, which must be trained before they mean anything"
