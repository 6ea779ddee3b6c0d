"""New models: by preset or by dimensions."""

from typing import Any

from flax import nnx

from bertjax.config import ModelConfig, nearest, resolve_model
from bertjax.errors import ConfigError
from bertjax.memory import host_memory
from bertjax.model.bert import Bert
from bertjax.model.flops import parameter_count
from bertjax.model.heads import PRETRAINING_HEADS

# layers, hidden size, heads; intermediate size is 4 x hidden. Base and large: Devlin et al. 2018; the others:
# Turc et al. 2019, "Well-Read Students Learn Better".
PRESETS = {
    "bert-tiny": (2, 128, 2),
    "bert-mini": (4, 256, 4),
    "bert-small": (4, 512, 8),
    "bert-medium": (8, 512, 8),
    "bert-base": (12, 768, 12),
    "bert-large": (24, 1024, 16),
}


def create_model(preset: str | None = None, *, for_pretraining: bool = True, seed: int = 0, **dimensions: Any) -> Bert:
    """A BERT with new weights, in float32.

    preset: the dimensions of bert-tiny, bert-mini, bert-small, bert-medium, bert-base or bert-large. dimensions: fields
    of ``ModelConfig``, such as vocab_size, hidden_size or position_embedding_type="sinusoidal"; they override the
    preset. By default intermediate_size is 4 * hidden_size, and there is one attention head per 64 of hidden_size.
    for_pretraining: with the masked-LM and next-sentence heads.

    Raises ConfigError (a ValueError) that names the argument.
    """
    config = model_config(preset, dimensions)
    needed, there = 4 * parameter_count(config), host_memory()
    if needed > there:
        raise ConfigError(
            f"a model of {parameter_count(config):,} parameters takes {needed / 2**30:,.1f} GiB, more than the "
            f"{there / 2**30:,.1f} GiB of this machine; take smaller dimensions"
        )
    return Bert(config, nnx.Rngs(seed), heads=PRETRAINING_HEADS if for_pretraining else ())


def model_config(preset: str | None, dimensions: dict[str, Any]) -> ModelConfig:
    """The checked config behind ``create_model``."""
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"no preset {preset!r}; {nearest(str(preset), PRESETS)}")
        layers, hidden, heads = PRESETS[preset]
        values = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads}
    hidden = dimensions.get("hidden_size", values.get("hidden_size"))
    if type(hidden) is int:
        values["intermediate_size"] = 4 * hidden
        if "hidden_size" in dimensions and hidden % 64 == 0:
            values["num_attention_heads"] = max(1, hidden // 64)
    return resolve_model(values | dimensions)
