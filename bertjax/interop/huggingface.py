"""Model folders in the Hugging Face layout: config.json, model.safetensors, the tokenizer's files."""

import json
import os
import shutil
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from bertjax import unfinished
from bertjax.cli.showing import short
from bertjax.config import ModelConfig, resolve_model
from bertjax.errors import ConfigError, ModelFileError
from bertjax.interop import exported
from bertjax.interop.exported import MODEL_FILES, TOKENIZER_FILES, check_replaceable, folder_path, is_shard
from bertjax.interop.safetensors_files import INDEX, TensorInfo, checksums_of, list_tensors, read_json
from bertjax.interop.task_config import architecture, head_of
from bertjax.interop.weights import canonical, check_tensors, from_tensors, to_tensors

_REQUIRED = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
]
# With the defaults of ModelConfig, which are those of transformers; the configs of 2018 lack the last two.
_OPTIONAL = ["hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps"]
# Other names of the activations there are.
_ACTIVATIONS = {"gelu_python": "gelu", "gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
# What a BERT may say about itself, and what it must say there to be one that bertjax computes.
_FIXED = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def to_config(
    config: ModelConfig, pad_token_id: int, heads: Container[str] = ("mlm_head", "nsp_head")
) -> dict[str, Any]:
    """config.json of ``transformers.BertForPreTraining``, or with fewer heads ``BertForMaskedLM`` or ``BertModel``."""
    with_mlm = "BertForPreTraining" if "nsp_head" in heads else "BertForMaskedLM"
    return {
        "architectures": [with_mlm if "mlm_head" in heads else "BertModel"],
        **{name: getattr(config, name) for name in (*_REQUIRED, *_OPTIONAL)},
        **_FIXED,
        "pad_token_id": pad_token_id,
        "dtype": "float32",
    }


def from_config(values: Any, origin: str) -> ModelConfig:
    """The ModelConfig of a parsed config.json. Raises ModelFileError that starts with ``origin``."""
    if not isinstance(values, dict):
        raise ModelFileError(f"{origin} holds no JSON object")
    if missing := [name for name in _REQUIRED if name not in values]:
        raise ModelFileError(f"{origin} lacks {', '.join(missing)}; is it the config of a BERT?")
    for name in (*_REQUIRED, *_OPTIONAL, *_FIXED):
        value = values.get(name)
        # Beyond 2**63 an integer may not fit in a float, nor its digits in a message.
        if isinstance(value, list | dict) or (isinstance(value, int) and abs(value) >= 1 << 63):
            raise ModelFileError(f"{origin}: {name} must be a word, a truth value or a number below 2**63")
    for name, wanted in _FIXED.items():
        if values.get(name, wanted) != wanted:
            raise ModelFileError(f"{origin}: {name} = {short(repr(values[name]))}, and bertjax reads only {wanted!r}")
    known = {name: values[name] for name in (*_REQUIRED, *_OPTIONAL) if name in values}
    if isinstance(known["hidden_act"], str):
        known["hidden_act"] = _ACTIVATIONS.get(known["hidden_act"], known["hidden_act"])
    try:
        return resolve_model(known)
    except ConfigError as error:
        raise ModelFileError(f"{origin}: {short(error, 200)}") from None


_NOTHING: Mapping[str, Any] = {}
_INTEGERS = ("I64", "I32")  # of buffers that old versions of transformers stored
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class ModelFolder:
    """What a folder holds; no weights have been read. tensors: by canonical name. values: the parsed config.json. head:
    "weight" and "bias" of a task's head, unchecked."""

    path: Path
    config: ModelConfig
    tensors: dict[str, TensorInfo]
    missing_heads: list[str]
    values: dict[str, Any]
    head: dict[str, TensorInfo]

    def read(self, skip: tuple[str, ...] = ()) -> dict[str, Any]:
        """The nested float32 parameters, but for missing heads and those in ``skip``. Raises ModelFileError."""
        read = lambda name: self.tensors[name].read()
        return from_tensors(read, set(self.tensors), self.config, skip, str(self.path))


def open_folder(path: str | Path) -> ModelFolder:
    """Opens a Hugging Face BERT folder and checks that it is complete, or raises ModelFileError."""
    path, exists = folder_path(path)
    if not exists:
        raise ModelFileError(
            f"{path} is not a model folder. bertjax downloads nothing: `hf download google-bert/bert-base-uncased "
            f"--local-dir bert-base-uncased` gets a folder; bertjax.create_model('bert-base') makes new weights"
        )
    if not (path / "config.json").is_file():
        raise ModelFileError(f"{path} holds no config.json; a model folder has that and model.safetensors")
    if not (path / "model.safetensors").is_file() and not (path / INDEX).is_file():
        if not any((path / name).is_file() for name in _PICKLED):
            raise ModelFileError(f"{path} holds no model.safetensors")
        raise ModelFileError(
            f"{path} has only pickled weights, which can run any code and are not read; convert them once: "
            f'python -c "from transformers import AutoModelForPreTraining as M; '
            f"M.from_pretrained('{path}').save_pretrained('{path}-safe')\", and copy the tokenizer's files there"
        )
    values = read_json(path / "config.json")
    config = from_config(values, str(path / "config.json"))
    tensors: dict[str, TensorInfo] = {}
    for name, info in list_tensors(path).items():
        if not info.is_float and info.dtype not in _INTEGERS:
            raise ModelFileError(f"{path}: tensor {name} is {info.dtype}; bertjax reads F32, F16 and BF16")
        if canonical(name) in tensors:
            raise ModelFileError(f"{path}: {tensors[canonical(name)].name} and {name} are one and the same")
        tensors[canonical(name)] = info
    prefix = head_of(architecture(values))
    head = {part: tensors.pop(f"{prefix}.{part}") for part in ("weight", "bias") if f"{prefix}.{part}" in tensors}
    missing_heads = check_tensors({name: info.shape for name, info in tensors.items()}, config, str(path))
    for name, info in (tensors | head).items():
        if not info.is_float and not name.endswith("_ids"):
            raise ModelFileError(f"{path}: tensor {info.name} holds integers; weights are F32, F16 or BF16")
    return ModelFolder(path, config, tensors, missing_heads, values, head)


def check_entries(tokenizer: Any, config: ModelConfig) -> None:
    if tokenizer is not None and tokenizer.vocab_size != config.vocab_size:
        raise ModelFileError(f"the tokenizer has {tokenizer.vocab_size} entries, the model {config.vocab_size}")


def export_model(
    directory: str | Path,
    config: ModelConfig,
    params: dict[str, Any],
    tokenizer: Any,
    verify: Callable[[Path], None] = lambda folder: None,
    values: Mapping[str, Any] = _NOTHING,
    head: Mapping[str, np.ndarray] = _NOTHING,
    overwrite: bool = False,
    write_beside: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Writes a model folder. ``tokenizer`` may be None. Equal parameters give equal bytes.

    values: what a task adds to config.json; head: the tensors of its head, by their names there; write_beside(folder)
    writes other ``MODEL_FILES``. The folder appears under its name once the tensors have been read back and
    ``verify(folder)`` has not raised. In a folder that exists, model files are replaced if they are an unchanged export
    of bertjax, others only with ``overwrite``; everything else stays: a README, and without a ``tokenizer`` the
    tokenizer's files. Raises ModelFileError, also for a folder that holds anything but a model, without ``overwrite``,
    and for a tokenizer that does not have ``config.vocab_size`` entries.
    """
    check_entries(tokenizer, config)
    replaced = [*MODEL_FILES, *(TOKENIZER_FILES if tokenizer is not None else [])]
    of_before = exported.is_without_record(folder_path(directory)[0])  # compared with the new files below
    directory = check_replaceable(directory, overwrite or of_before, replaced)
    aside: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        unfinished.clear_abandoned(directory)
        aside = unfinished.new_name(directory)  # beside the folder, so that a rename puts it in place
        aside.mkdir()
        building = aside / "new"
        building.mkdir()
        if tokenizer is not None:
            tokenizer.save(building)
            settings = building / "tokenizer_config.json"
            longest = {"model_max_length": config.max_position_embeddings}  # where ``transformers`` truncates texts
            written = json.loads(settings.read_text(encoding="utf-8")) | longest
            settings.write_text(json.dumps(written, ensure_ascii=False, indent=2) + "\n")
        pad_id = 0 if tokenizer is None else tokenizer.pad_id
        written = to_config(config, pad_id, params) | dict(values)
        (building / "config.json").write_text(json.dumps(written, indent=2) + "\n")
        write_beside(building)
        tensors = dict(sorted({**to_tensors(params, config), **head}.items()))
        written_files = [child.name for child in building.iterdir()]
        if directory.exists():
            _carry_over(directory, building, replaced)
        ours = [*written_files, *(exported.vouched(directory) - set(replaced))]
        weights = building / exported.WEIGHTS
        save_file(tensors, weights, metadata=exported.header(building, ours) | checksums_of(tensors))
        exported.sort_header(weights)
        weights.chmod((building / "config.json").stat().st_mode)  # the writer makes it private
        for tensor in list_tensors(building).values():
            tensor.read()  # compares it with its checksum
        verify(building)
        check_replaceable(directory, overwrite, replaced, [building])
        put_in_place(building, directory, aside / unfinished.REPLACED, [*written_files, exported.WEIGHTS])
    except (OSError, SafetensorError) as error:  # the latter for a full disk
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"{directory} cannot be written: {reason}") from None
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _carry_over(old: Path, new: Path, replaced: list[str]) -> None:
    """Links what stays into the new folder, so that the old one is complete whatever happens."""
    for child in old.iterdir():
        if child.name not in replaced and not is_shard(child.name) and not (new / child.name).exists():
            if child.is_dir() and not child.is_symlink():
                shutil.copytree(child, new / child.name, symlinks=True, copy_function=_link)
            else:
                _link(child, new / child.name)


def _link(old: Any, new: Any) -> None:
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(old, new, follow_symlinks=False)


def put_in_place(building: Path, directory: Path, retired: Path, written: list[str]) -> None:
    """Renames ``building`` to ``directory``, and what was there to ``retired``; undone if it fails."""
    paths = [path for name in written for path in (*(building / name).glob("*"), building / name)]
    for path in (*paths, building):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    try:
        if directory.exists():
            directory.replace(retired)
        building.replace(directory)
    except BaseException:
        if retired.exists() and not directory.exists():
            retired.replace(directory)
        raise
