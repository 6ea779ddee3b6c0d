"""FLOPs by formula: windows, and the optimizer's numbers that memory is reckoned with."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from bertjax.config import ModelConfig, UpdateConfig
from bertjax.engine.optimizers import values_a_parameter
from bertjax.model.bert import Bert
from bertjax.model.block import BlockSpec
from bertjax.model.flops import train_flops_per_row

SMALL = ModelConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256)


@pytest.mark.parametrize("num_positions", [None, 5])
def test_a_window_leaves_the_pairs_inside_it(num_positions):
    length, windows = 40, (None, 8, 8)
    places = np.arange(length)
    near = np.abs(places[:, None] - places[None, :]) <= 4
    last = near[:num_positions]
    full, windowed = (
        train_flops_per_row(SMALL, length, 6, num_positions, spec) for spec in (None, BlockSpec(windows=windows))
    )
    apart = np.count_nonzero(~near) + np.count_nonzero(~last)
    assert full - windowed == 3 * 4 * SMALL.hidden_size * apart


@pytest.mark.parametrize(("name", "least", "most"), [("adamw", 2.0, 2.0), ("muon", 1.0, 1.99)])
def test_the_optimizers_numbers_for_a_parameter(name, least, most):
    update = dataclasses.replace(UpdateConfig(), name=name)
    model = nnx.eval_shape(lambda: Bert(SMALL, nnx.Rngs(0)))
    assert least <= round(values_a_parameter(update, model), 3) <= most
