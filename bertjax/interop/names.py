"""Which tensor of the Hugging Face layout is which parameter here: one table, with the shapes it must have."""

from __future__ import annotations

import re
from typing import NamedTuple


class Entry(NamedTuple):
    """A tensor of the layout. ``{layer}`` in its name runs over the leading axis on which layers are stacked here.

    dims: its shape there, as names of ModelConfig. transposed: PyTorch keeps a kernel as [out, in].
    """

    name: str
    dims: tuple[str, ...]
    transposed: bool = False


_H, _F, _V = "hidden_size", "intermediate_size", "vocab_size"
_EMBEDDINGS = {
    "embeddings/word_embeddings": Entry("bert.embeddings.word_embeddings.weight", (_V, _H)),
    "embeddings/position_embeddings": Entry(
        "bert.embeddings.position_embeddings.weight", ("max_position_embeddings", _H)
    ),
    "embeddings/token_type_embeddings": Entry("bert.embeddings.token_type_embeddings.weight", ("type_vocab_size", _H)),
}
# Path here -> (name there, outputs, inputs).
_LINEARS = {
    "encoder/layers/attention/query": ("bert.encoder.layer.{layer}.attention.self.query", (_H, _H)),
    "encoder/layers/attention/key": ("bert.encoder.layer.{layer}.attention.self.key", (_H, _H)),
    "encoder/layers/attention/value": ("bert.encoder.layer.{layer}.attention.self.value", (_H, _H)),
    "encoder/layers/attention/output": ("bert.encoder.layer.{layer}.attention.output.dense", (_H, _H)),
    "encoder/layers/mlp/intermediate": ("bert.encoder.layer.{layer}.intermediate.dense", (_F, _H)),
    "encoder/layers/mlp/output": ("bert.encoder.layer.{layer}.output.dense", (_H, _F)),
    "pooler/dense": ("bert.pooler.dense", (_H, _H)),
    "mlm_head/transform": ("cls.predictions.transform.dense", (_H, _H)),
    "nsp_head/dense": ("cls.seq_relationship", ("2", _H)),
}
_LAYER_NORMS = {
    "embeddings/layer_norm": "bert.embeddings.LayerNorm",
    "encoder/layers/attention/layer_norm": "bert.encoder.layer.{layer}.attention.output.LayerNorm",
    "encoder/layers/mlp/layer_norm": "bert.encoder.layer.{layer}.output.LayerNorm",
    "mlm_head/layer_norm": "cls.predictions.transform.LayerNorm",
}

# Path of a parameter here -> its tensor there.
NAMES: dict[str, Entry] = (
    _EMBEDDINGS
    | {"mlm_head/bias": Entry("cls.predictions.bias", (_V,))}
    | {f"{ours}/kernel": Entry(f"{theirs}.weight", dims, True) for ours, (theirs, dims) in _LINEARS.items()}
    | {f"{ours}/bias": Entry(f"{theirs}.bias", dims[:1]) for ours, (theirs, dims) in _LINEARS.items()}
    | {f"{ours}/scale": Entry(f"{theirs}.weight", (_H,)) for ours, theirs in _LAYER_NORMS.items()}
    | {f"{ours}/bias": Entry(f"{theirs}.bias", (_H,)) for ours, theirs in _LAYER_NORMS.items()}
)
# Parts that a folder may lack as a whole, by the first part of their paths here.
HEADS = {"pooler": "pooler", "mlm_head": "masked-LM head", "nsp_head": "next-sentence head"}
# Never parameters: what old versions of transformers stored besides.
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
# The output matrix is the word embeddings and its bias is the head's, whether or not they are stored a second time.
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


def layers_in(names: set[str]) -> set[int]:
    """Numbers of the encoder layers that tensors with these (canonical) names belong to."""
    return {int(match[1]) for name in names if (match := _LAYER.match(name))}
