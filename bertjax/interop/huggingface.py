"""The Hugging Face layout of a BERT: parameter names, config.json, model.safetensors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import save_file

from bertjax.config import ModelConfig
from bertjax.model.embeddings import sinusoidal_positions

# Path of a parameter here -> name there. ``{layer}`` runs over the stacked leading axis. Names that end in
# ``weight`` and come from a ``kernel`` are transposed: PyTorch keeps [out, in].
EMBEDDINGS = {
    "embeddings/word_embeddings": "bert.embeddings.word_embeddings.weight",
    "embeddings/position_embeddings": "bert.embeddings.position_embeddings.weight",
    "embeddings/token_type_embeddings": "bert.embeddings.token_type_embeddings.weight",
}
LINEARS = {
    "encoder/layers/attention/query": "bert.encoder.layer.{layer}.attention.self.query",
    "encoder/layers/attention/key": "bert.encoder.layer.{layer}.attention.self.key",
    "encoder/layers/attention/value": "bert.encoder.layer.{layer}.attention.self.value",
    "encoder/layers/attention/output": "bert.encoder.layer.{layer}.attention.output.dense",
    "encoder/layers/mlp/intermediate": "bert.encoder.layer.{layer}.intermediate.dense",
    "encoder/layers/mlp/output": "bert.encoder.layer.{layer}.output.dense",
    "pooler/dense": "bert.pooler.dense",
    "mlm_head/transform": "cls.predictions.transform.dense",
    "nsp_head/dense": "cls.seq_relationship",
}
LAYER_NORMS = {
    "embeddings/layer_norm": "bert.embeddings.LayerNorm",
    "encoder/layers/attention/layer_norm": "bert.encoder.layer.{layer}.attention.output.LayerNorm",
    "encoder/layers/mlp/layer_norm": "bert.encoder.layer.{layer}.output.LayerNorm",
    "mlm_head/layer_norm": "cls.predictions.transform.LayerNorm",
}
# The decoder's matrix is the word embeddings (tied) and is not stored a second time.
VOCABULARY_BIAS = {"mlm_head/bias": "cls.predictions.bias"}

NAMES: dict[str, tuple[str, bool]] = (
    {ours: (theirs, False) for ours, theirs in (EMBEDDINGS | VOCABULARY_BIAS).items()}
    | {f"{ours}/kernel": (f"{theirs}.weight", True) for ours, theirs in LINEARS.items()}
    | {f"{ours}/bias": (f"{theirs}.bias", False) for ours, theirs in LINEARS.items()}
    | {f"{ours}/scale": (f"{theirs}.weight", False) for ours, theirs in LAYER_NORMS.items()}
    | {f"{ours}/bias": (f"{theirs}.bias", False) for ours, theirs in LAYER_NORMS.items()}
)
# Arrays with a row a token: cut to the vocabulary's true size.
BY_VOCABULARY = ("embeddings/word_embeddings", "mlm_head/bias")


def to_tensors(params: dict[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Nested parameters -> float32 tensors under their Hugging Face names, vocabulary padding stripped."""
    tensors: dict[str, np.ndarray] = {}
    for path, array in flatten_dict(params, sep="/").items():
        name, transpose = NAMES[path]
        array = np.asarray(array, np.float32)
        if path in BY_VOCABULARY:
            array = array[: config.vocab_size]
        slices = enumerate(array) if "{layer}" in name else [(0, array)]
        for layer, part in slices:
            tensors[name.format(layer=layer)] = np.ascontiguousarray(part.T if transpose else part)
    if config.position_embedding_type == "sinusoidal":
        # There it is a learned table; ours goes out as the values that it would have to hold.
        table = sinusoidal_positions(config.max_position_embeddings, config.hidden_size)
        tensors[EMBEDDINGS["embeddings/position_embeddings"]] = np.asarray(table)
    return dict(sorted(tensors.items()))


def to_config(config: ModelConfig, pad_token_id: int) -> dict[str, Any]:
    """config.json of ``transformers.BertForPreTraining``."""
    names = (
        "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act "
        "hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings type_vocab_size "
        "initializer_range layer_norm_eps"
    )
    return {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        **{name: getattr(config, name) for name in names.split()},
        "position_embedding_type": "absolute",
        "pad_token_id": pad_token_id,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def export_model(directory: Path, config: ModelConfig, params: dict[str, Any], tokenizer: Any) -> None:
    """Writes a model folder: config.json, model.safetensors, the tokenizer's files.

    It appears under its name only when it is whole and has been read back; an older one is replaced.
    Equal parameters give equal bytes.
    """
    building = directory.with_name(directory.name + ".tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    tokenizer.save(building)
    (building / "config.json").write_text(json.dumps(to_config(config, tokenizer.pad_id), indent=2) + "\n")
    tensors = to_tensors(params, config)
    save_file(tensors, building / "model.safetensors", metadata={"format": "pt"})
    (building / "model.safetensors").chmod(0o644)  # the writer leaves it to its owner alone
    _check_written(building / "model.safetensors", tensors)
    retired = directory.with_name(directory.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if directory.exists():
        directory.replace(retired)
    building.replace(directory)
    shutil.rmtree(retired, ignore_errors=True)


def _check_written(path: Path, tensors: dict[str, np.ndarray]) -> None:
    with safe_open(path, framework="numpy") as file:
        if set(file.keys()) != set(tensors):
            raise OSError(f"{path} does not hold the tensors that were written")
        for name, tensor in tensors.items():
            if file.get_tensor(name).tobytes() != tensor.tobytes():
                raise OSError(f"{path}: tensor {name} does not read back as it was written")
