"""A model's config.json in the Hugging Face layout, in and out."""

from __future__ import annotations

from typing import Any

from bertjax.cli.showing import short
from bertjax.config import ModelConfig, resolve_model
from bertjax.errors import ConfigError, ModelFileError

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


def to_config(config: ModelConfig, pad_token_id: int, for_pretraining: bool = True) -> dict[str, Any]:
    """config.json of ``transformers.BertForPreTraining`` or ``BertModel``."""
    return {
        "architectures": ["BertForPreTraining" if for_pretraining else "BertModel"],
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
