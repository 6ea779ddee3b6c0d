"""Tensors of the Hugging Face layout <-> nested parameters."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from bertjax.cli.showing import listed, short
from bertjax.config import ModelConfig
from bertjax.errors import ModelFileError
from bertjax.model.bert import Bert, split_params
from bertjax.model.embeddings import padded_rows, sinusoidal_positions
from bertjax.model.heads import HEADS, PRETRAINING_HEADS
from bertjax.model.parameters import ParameterSpec, parameter_specs

# Parts that a folder may lack, by the first part of their parameters' paths; a model gets new ones then.
OPTIONAL_PARTS = ("pooler", *PRETRAINING_HEADS)
# Stored by old versions of transformers; not parameters.
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
# Copies that a folder may hold: the output matrix is the word embeddings, its bias is the head's.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

_LAYER = re.compile(r"^bert\.encoder\.layer\.(\d{1,6})\.")


def canonical(name: str) -> str:
    """A tensor's name in its newest form: with the prefix ``bert.``, ``weight`` and ``bias`` for gamma and beta."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        name = name.removesuffix(old) + new if name.endswith(f"LayerNorm{old}") else name
    without_prefix = name.startswith(("embeddings.", "encoder.", "pooler."))
    return f"bert.{name}" if without_prefix else name


class Entry(NamedTuple):
    """A tensor of the layout, or one for each layer. shape: of one tensor there. spec: what describes the parameter."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    spec: ParameterSpec


@functools.lru_cache(maxsize=64)
def entries(config: ModelConfig, model_type: str = "bert") -> dict[str, Entry]:
    """Path of every parameter of a model with all heads -> its tensor, as the parameters declare; without heads that
    have no names there."""
    model = nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0), heads=tuple(HEADS)))
    shapes, specs = (flatten_dict(tree, sep="/") for tree in (split_params(model)[1], parameter_specs(model)))
    found = {}
    for path, spec in specs.items():
        sizes = dict(zip(spec.axes, shapes[path].shape, strict=True)) | {"vocab": config.vocab_size}
        shape = [sizes[axis] for axis in spec.axes if axis != "layers"]
        shape = tuple(shape[::-1] if spec.transposed else shape)
        name = dict(spec.names).get(model_type)
        if name is None and path.split("/")[0] in HEADS:
            continue
        if name is None:
            raise ModelFileError(
                f"parameter {path} has no name in the Hugging Face layout of a {model_type!r} model; give it "
                f"one where it is declared"
            )
        names = tuple(name.format(layer=layer) for layer in range(sizes.get("layers", 1)))
        found[path] = Entry(names, shape, spec)
    return found


def to_tensors(params: dict[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Nested parameters -> float32 tensors under their Hugging Face names, vocabulary padding stripped."""
    tensors: dict[str, np.ndarray] = {}
    absolute = dataclasses.replace(config, position_embedding_type="absolute")
    for path, array in flatten_dict(params, sep="/").items():
        entry, array = entries(absolute)[path], np.asarray(array, np.float32)
        if "vocab" in entry.spec.axes:
            array = array[: config.vocab_size]
        for name, part in zip(entry.names, array if "layers" in entry.spec.axes else [array], strict=True):
            tensors[name] = np.ascontiguousarray(part.T if entry.spec.transposed else part)
    if config.position_embedding_type == "sinusoidal":
        # The layout has a learned table, which gets the fixed values.
        table = sinusoidal_positions(config.max_position_embeddings, config.hidden_size)
        tensors[entries(absolute)["embeddings/position_embeddings"].names[0]] = np.asarray(table)
    return dict(sorted(tensors.items()))


def check_tensors(shapes: dict[str, tuple[int, ...]], config: ModelConfig, origin: str) -> list[str]:
    """Compares the tensors of a folder, canonical name -> shape, with what its config needs.

    Returns the ``OPTIONAL_PARTS`` that are missing altogether. Raises ModelFileError that names missing
    or unexpected tensors, or one of another shape.
    """
    layers = {int(match[1]) for name in shapes if (match := _LAYER.match(name))}
    # Checked first, because everything below loops over the layers of the config, whatever their number.
    if layers != set(range(config.num_hidden_layers)) or not layers:
        raise ModelFileError(f"{origin} holds {len(layers)} encoder layers, its config says {config.num_hidden_layers}")
    stored = dict(shapes)
    for copy, original in TIED.items():
        if copy in stored:
            stored.setdefault(original, stored[copy])
            if stored.pop(copy) != stored[original]:
                raise ModelFileError(f"{origin}: {copy} is not of the shape of {original}, which it should equal")
    for name in BUFFERS:
        stored.pop(name, None)

    missing_heads = []
    needed: dict[str, tuple[int, ...]] = {}
    for part in ("embeddings", "encoder", "pooler", *HEADS):
        own = [entry for path, entry in entries(config).items() if path.split("/")[0] == part]
        tensors = {name: entry.shape for entry in own for name in entry.names}
        if part in ("pooler", *HEADS) and not set(tensors) & set(stored):
            missing_heads += [part] if part in OPTIONAL_PARTS else []
        else:
            needed |= tensors
    for what, names in (("lacks", set(needed) - set(stored)), ("holds unexpected", set(stored) - set(needed))):
        if names:
            shown = listed([repr(short(name)) for name in sorted(names)], 4)
            raise ModelFileError(f"{origin} {what} tensor{'s' * (len(names) > 1)} {shown}")
    for name, shape in sorted(needed.items(), key=lambda item: -len(item[1])):  # a matrix says more than a bias
        if stored[name] != shape:
            raise ModelFileError(f"{origin}: {name} has shape {list(stored[name])}, the config asks for {list(shape)}")
    return missing_heads


def from_tensors(
    read: Callable[[str], np.ndarray], names: set[str], config: ModelConfig, skip: Iterable[str], origin: str
) -> dict[str, Any]:
    """Tensors that passed ``check_tensors`` -> nested float32 parameters; no missing parts, nor those in ``skip``.
    read: the tensor of a canonical name."""
    for copy, original in TIED.items():
        if copy in names and original in names and not np.array_equal(read(copy), read(original)):
            raise ModelFileError(f"{origin}: {copy} differs from {original}; bertjax ties them")
    aliases = {original: copy for copy, original in TIED.items() if copy in names and original not in names}
    params = {}
    for path, entry in entries(config).items():
        if path.split("/")[0] in skip or not names.union(aliases).issuperset(entry.names):
            continue
        tensors = [read(aliases.get(name, name)).astype(np.float32) for name in entry.names]
        tensors = [tensor.T for tensor in tensors] if entry.spec.transposed else tensors
        if "layers" in entry.spec.axes:
            params[path] = np.stack(tensors)
        else:
            # The folder may have rows that stand for no entry of the vocabulary.
            is_vocabulary = "vocab" in entry.spec.axes
            tensor = padded_rows(tensors[0][: config.vocab_size]) if is_vocabulary else tensors[0]
            params[path] = np.ascontiguousarray(tensor)
    return unflatten_dict(params, sep="/")
