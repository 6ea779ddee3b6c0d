"""Layer-wise decay and frozen layers: how far each parameter moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from bertjax.config import ModelConfig
from bertjax.finetune.trial_job import held, multipliers, scale_by_rates
from bertjax.model.bert import split_params
from bertjax.model.task import TaskConfig, TaskModel

MODEL = ModelConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
)


@pytest.fixture(scope="module")
def params():
    return split_params(TaskModel(MODEL, TaskConfig("classification", ("a", "b")), nnx.Rngs(0)))[1]


def rates_of(params, **settings):
    kind = settings.pop("kind", "classification")
    values = {"layer_decay": 1.0, "frozen_layers": None} | settings
    return flatten_dict(multipliers(params, MODEL, kind, **values), sep="/")


def test_each_layer_learns_slower_than_the_one_above(params):
    rates = rates_of(params, layer_decay=0.5)
    assert rates["classifier/kernel"] == rates["bert/pooler/dense/bias"] == 1.0
    assert rates["bert/encoder/layers/mlp/output/kernel"].ravel().tolist() == [0.125, 0.25, 0.5]
    assert rates["bert/encoder/layers/mlp/output/kernel"].shape == (3, 1, 1)
    assert rates["bert/embeddings/word_embeddings"] == rates["bert/embeddings/layer_norm/scale"] == 0.0625


def test_frozen_layers_and_embeddings_stand_still(params):
    rates = rates_of(params, frozen_layers=2)
    assert rates["bert/embeddings/position_embeddings"] == 0.0
    assert rates["bert/encoder/layers/attention/query/bias"].ravel().tolist() == [0.0, 0.0, 1.0]
    assert rates["classifier/bias"] == 1.0
    assert rates_of(params, frozen_layers=0)["bert/encoder/layers/attention/query/bias"].ravel().tolist() == [1, 1, 1]
    assert rates_of(params, kind="tagging")["bert/pooler/dense/kernel"] == 0.0


def test_gradients_of_what_is_frozen_are_zero_and_the_others_as_they_were(params):
    rates = multipliers(params, MODEL, "classification", 1.0, 2)
    total = lambda p: sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(p))
    free, frozen = jax.grad(total)(params), jax.grad(lambda p: total(held(p, rates)))(params)
    for path, rate in flatten_dict(rates, sep="/").items():
        one, other = (np.asarray(flatten_dict(tree, sep="/")[path]) for tree in (free, frozen))
        np.testing.assert_array_equal(other, one * (np.asarray(rate) != 0))


def test_updates_are_multiplied_weight_decay_included(params):
    rates = multipliers(params, MODEL, "classification", 0.5, 1)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = scale_by_rates(rates).update(ones, scale_by_rates(rates).init(params))
    kernel = np.asarray(updates["bert"]["encoder"]["layers"]["mlp"]["output"]["kernel"])
    assert kernel[:, 0, 0].tolist() == [0.0, 0.25, 0.5]
