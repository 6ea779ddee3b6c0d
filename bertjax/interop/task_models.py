"""Models for tasks, from and to folders: an encoder with a head for classes, tags or answers, or without one."""

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.errors import ConfigError, ModelFileError
from bertjax.interop.huggingface import ModelFolder, export_model, open_folder
from bertjax.interop.models import check_computes_same, model_folder, new_parts, open_pair, with_params
from bertjax.interop.safetensors_files import read_json
from bertjax.interop.sentence_transformers import embedding_settings, has_modules, write_modules
from bertjax.interop.task_config import ARCHITECTURES, architecture, from_task_values, head_of, to_task_values
from bertjax.model.bert import split_params
from bertjax.model.heads import HEADS
from bertjax.model.task import POOLED, TaskConfig, TaskModel, head_name
from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer


def load_task_model(path: str | Path) -> tuple[TaskModel, Tokenizer]:
    """A fine-tuned model and its tokenizer, from a Hugging Face folder or a finished run's workdir, in float32.

    The folder holds transformers' BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering
    or BertModel (embeddings) and the tokenizer. Raises ModelFileError (a ValueError) for a missing head, labels that do
    not fit the classifier, another architecture, and what ``load_model`` refuses.
    """
    folder, tokenizer = open_pair(path)
    task, params = _read(folder)
    return _model(folder.config, task, params), tokenizer


def is_task_model(path: str | Path) -> bool:
    """Whether ``load_task_model`` reads a model folder or workdir: by the architecture in its config.json, or as a
    folder of sentence-transformers."""
    file = model_folder(path) / "config.json"
    return file.is_file() and (has_modules(file.parent) or architecture(read_json(file)) in ARCHITECTURES)


def save_task_model(model: TaskModel, path: str | Path, tokenizer: Tokenizer, *, overwrite: bool = False) -> None:
    """Writes a folder that ``transformers.AutoModelForSequenceClassification``, ``...TokenClassification``,
    ``...QuestionAnswering`` or ``AutoModel`` load as it is, and ``load_task_model``.

    It is read back, compared and put in place as by ``save_model``. Raises ModelFileError.
    """
    check_is_tokenizer(tokenizer)
    task = model.task
    params: dict[str, Any] = jax.tree.map(np.asarray, split_params(model)[1])
    values = to_task_values(task)
    encoder = dict(params["bert"])
    if task.kind not in (*POOLED, "embedding"):
        del encoder["pooler"]
    head = {}
    if task.kind != "embedding":
        name = head_name(task.kind)
        head[f"{name}.weight"] = np.ascontiguousarray(params[name]["kernel"].T.astype(np.float32))
        head[f"{name}.bias"] = params[name]["bias"].astype(np.float32)

    def verify(written: Path) -> None:
        opened = open_folder(written)
        read = _model(opened.config, *_read(opened))
        if read.task != task:
            raise ModelFileError(f"{written}: the written task is not the model's own")
        check_computes_same(written, read, _model(model.config, task, params))

    def write_beside(folder: Path) -> None:
        if task.kind == "embedding":
            write_modules(folder, task, model.config.hidden_size)

    export_model(path, model.config, encoder, tokenizer, verify, values, head, overwrite, write_beside)


def new_task_model(path: str | Path, task: TaskConfig, seed: int) -> tuple[TaskModel, Tokenizer]:
    """The encoder of any model folder or finished run's workdir with a new head, and the folder's tokenizer.

    The weights of the head, and of a missing pooler, come from ``seed``. Raises ModelFileError and ConfigError.
    """
    folder, tokenizer = open_pair(path)
    encoder = folder.read(skip=tuple(HEADS))
    if "pooler" in folder.missing_heads:
        encoder |= new_parts(folder.config, ("pooler",), seed)
        if task.kind in POOLED:
            warnings.warn(f"{folder.path} has no pooler: it gets new weights, to be trained", stacklevel=2)
    return with_new_head(folder.config, encoder, task, seed), tokenizer


def with_new_head(config: ModelConfig, encoder: dict[str, Any], task: TaskConfig, seed: int) -> TaskModel:
    """A model for a task on nested parameters of ``Bert``, without its pretraining heads. Raises ConfigError if the
    encoder has fewer positions than ``task.max_length``."""
    if task.max_length > config.max_position_embeddings:
        raise ConfigError(
            f"max_length = {task.max_length} is more than the model's {config.max_position_embeddings} positions"
        )
    params: dict[str, Any] = {"bert": {part: encoder[part] for part in encoder if part not in HEADS}}
    if task.kind != "embedding":
        name = head_name(task.kind)
        make = lambda: split_params(TaskModel(config, task, nnx.Rngs(seed)))[1][name]
        params[name] = jax.jit(make)()  # under jit only the head is computed
    return _model(config, task, params)


def task_of(folder: ModelFolder) -> TaskConfig:
    """The task of an opened folder. Reads no weights. Raises ModelFileError, also for a missing or unfitting head or
    pooler."""
    origin, name = str(folder.path), head_of(architecture(folder.values))
    shapes = {part: info.shape for part, info in folder.head.items()}
    for part in ("weight", "bias") if name else ():
        if part not in shapes:
            raise ModelFileError(f"{origin} has no {name}.{part}, the head of a {architecture(folder.values)}")
    outputs = shapes["weight"][0] if len(shapes.get("weight", ())) == 2 else None
    positions, values = folder.config.max_position_embeddings, folder.values
    if name is None:  # by whoever wrote there last: sentence-transformers keeps the keys of config.json as they are
        own = values.get("bertjax", {})
        says_more = has_modules(folder.path) or "bertjax" not in values
        more = embedding_settings(folder.path, positions) if says_more else {}
        values = values | {"bertjax": own | more if isinstance(own, dict) else own}
    if has_modules(folder.path) and architecture(values) not in ARCHITECTURES:
        values = values | {"architectures": ["BertModel"]}
    task = from_task_values(values, outputs, positions, f"{origin}/config.json")
    if "pooler" in folder.missing_heads and task.kind in POOLED:
        raise ModelFileError(f"{origin} has no weights of a pooler, which a {architecture(folder.values)} needs")
    outputs = 2 if task.kind == "answering" else len(task.labels)
    wanted = {"weight": (outputs, folder.config.hidden_size), "bias": (outputs,)} if name else {}
    for part, shape in wanted.items():
        if shapes[part] != shape:
            raise ModelFileError(f"{origin}: {name}.{part} has shape {list(shapes[part])}, not {list(shape)}")
    return task


def _read(folder: ModelFolder) -> tuple[TaskConfig, dict[str, Any]]:
    task = task_of(folder)
    encoder = folder.read(skip=tuple(HEADS))
    if "pooler" in folder.missing_heads:
        encoder |= new_parts(folder.config, ("pooler",), 0)  # of no effect
    if task.kind == "embedding":
        return task, {"bert": encoder}
    weight, bias = (folder.head[part].read().astype(np.float32) for part in ("weight", "bias"))
    return task, {"bert": encoder, head_name(task.kind): {"kernel": np.ascontiguousarray(weight.T), "bias": bias}}


def _model(config: ModelConfig, task: TaskConfig, params: dict[str, Any]) -> TaskModel:
    return with_params(lambda: TaskModel(config, task, nnx.Rngs(0)), params)
