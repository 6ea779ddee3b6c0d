"""New models by preset or by dimensions."""

import pytest

from bertjax.errors import ConfigError
from bertjax.model.create import PRESETS, create_model, model_config


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_the_published_dimensions(preset):
    config = model_config(preset, {})
    published = {
        "bert-tiny": (2, 128, 2, 512),
        "bert-mini": (4, 256, 4, 1024),
        "bert-small": (4, 512, 8, 2048),
        "bert-medium": (8, 512, 8, 2048),
        "bert-base": (12, 768, 12, 3072),
        "bert-large": (24, 1024, 16, 4096),
    }[preset]
    ours = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size)
    assert ours == published
    assert (config.vocab_size, config.max_position_embeddings) == (30522, 512)


@pytest.mark.parametrize(
    ("preset", "dimensions", "words"),
    [
        ("bert-bas", {}, ["bert-bas", "'bert-base'"]),
        ("bert-tiny", {"hiden_size": 64}, ["hiden_size", "'hidden_size'"]),
        ("bert-tiny", {"hidden_size": "64"}, ["hidden_size", "int", "str"]),
        ("bert-tiny", {"vocab_size": 1000.0}, ["vocab_size", "int", "float"]),
        ("bert-tiny", {"vocab_size": True}, ["vocab_size", "int", "bool"]),
        ("bert-tiny", {"num_hidden_layers": 0}, ["num_hidden_layers", "1"]),
        ("bert-tiny", {"hidden_act": "swish"}, ["hidden_act", "swish", "gelu"]),
        (None, {"hidden_size": 30, "num_attention_heads": 4}, ["num_attention_heads = 4", "30", "3 would"]),
        (None, {"hidden_size": 15, "num_attention_heads": 3, "position_embedding_type": "sinusoidal"}, ["even"]),
    ],
)
def test_mistakes_in_new_models_are_named(preset, dimensions, words):
    with pytest.raises(ConfigError) as error:
        create_model(preset, **dimensions)
    for word in words:
        assert word in str(error.value)
