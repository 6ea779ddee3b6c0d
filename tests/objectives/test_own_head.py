"""An objective with a head of its own is one file in ``objectives`` and a row in ``model.heads.HEADS``; nothing else
knows of either."""

import dataclasses
import json
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bertjax
import bertjax.objectives
import bertjax.train
from bertjax.interop.weights import entries
from bertjax.model.heads import HEADS, Head
from bertjax.model.layers import Linear
from bertjax.workdir.stored_run import open_run

OBJECTIVE = '''
"""Masked LM, and the length of each example modulo 3."""

import dataclasses

import numpy as np

from bertjax.data.stream.examples import split_runs
from bertjax.data.stream.settings import ExampleMaker
from bertjax.objectives.mlm import MASKED_LM, make_runs
from bertjax.objectives.objective import CrossEntropy, PretrainingObjective


def make(block, sentences, settings, seed, epoch):
    made = make_runs(block, sentences, settings, seed, epoch)
    return dataclasses.replace(made, label=made.a_length % 3, has_label=np.ones(len(made), bool))


LENGTH = CrossEntropy("length", "length", "length_logits", "length_labels", "length_weights", least=1.0)
OBJECTIVE = PretrainingObjective(
    ExampleMaker("mlm_length", 2, split_runs, make, LENGTH.labels, LENGTH.weights),
    (MASKED_LM, LENGTH),
)
'''


def head(**names):
    class LengthHead(nnx.Module):
        def __init__(self, config, make):
            self.dense = Linear(make.sized(labels=3), "hidden", "labels", **names)

        def __call__(self, encoded, precision):
            return self.dense(encoded.pooled, precision).astype(jnp.float32)

    return Head("length head", LengthHead, "length_logits")


@pytest.fixture
def objective(monkeypatch, tmp_path):
    """Both are there for one test; returns the function that adds the head, with its Hugging Face names."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/mlm_length.py").write_text(OBJECTIVE)
    monkeypatch.setattr(bertjax.objectives, "__path__", [*bertjax.objectives.__path__, str(tmp_path / "code")])
    monkeypatch.delitem(sys.modules, "bertjax.objectives.mlm_length", raising=False)
    entries.cache_clear()
    yield lambda **names: monkeypatch.setitem(HEADS, "length_head", head(**names))
    entries.cache_clear()
    sys.modules.pop("bertjax.objectives.mlm_length", None)


@pytest.fixture
def of_length(config):
    config.data.objective = "mlm_length"
    config.phases.phase1.steps, config.phases.phase2.steps = 4, 0
    return config


def test_a_run_trains_resumes_and_exports_without_a_head_that_has_no_name_there(objective, of_length, tmp_path):
    objective()
    said = []
    summary = bertjax.train.run(of_length, tmp_path / "run", say=said.append)
    assert set(summary["held_out"]) == {"mlm_loss", "mlm_accuracy", "length_loss", "length_accuracy"}
    assert any("length loss" in line for line in said)
    _, params = open_run(tmp_path / "run").weights(4)
    assert params["length_head"]["dense"]["kernel"].shape[1] == 3 and "nsp_head" not in params
    folder = tmp_path / "run/model"
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    with pytest.warns(UserWarning, match="has no next-sentence head: new weights"):
        assert bertjax.load_model(folder).heads == ("mlm_head", "nsp_head")

    with pytest.raises(bertjax.train.Stopped):
        bertjax.train.run(of_length, tmp_path / "parts", say=said.append, should_stop=lambda step: step >= 2)
    bertjax.train.run(of_length, tmp_path / "parts", say=said.append)
    assert (tmp_path / "parts/model/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()

    # A run of another objective starts from it, and one of this objective from a model without the head.
    of_length.init_from = str(tmp_path / "run")
    of_length.data.objective = "mlm_nsp"
    bertjax.train.run(of_length, tmp_path / "next", say=said.append)
    assert said[-1] is not None and any("; new: next-sentence head" in line for line in said)
    of_length.init_from = str(tmp_path / "next")
    of_length.data.objective = "mlm_length"
    bertjax.train.run(of_length, tmp_path / "back", say=said.append)
    assert any("; new: length head" in line for line in said)


def test_a_head_with_a_name_there_is_exported_and_read(objective, of_length, tmp_path):
    objective(bert="cls.length")
    bertjax.train.run(of_length, tmp_path / "run", say=lambda line: None)
    with warnings.catch_warnings(action="ignore"):  # of the next-sentence head
        model = bertjax.load_model(tmp_path / "run/model")
    assert model.heads == ("mlm_head", "nsp_head", "length_head")
    output = model(np.array([[5, 6, 7]]))
    assert output.length_logits.shape == output["length_logits"].shape == (1, 3)
    kernel = open_run(tmp_path / "run").weights(4)[1]["length_head"]["dense"]["kernel"]
    np.testing.assert_array_equal(model.length_head.dense.kernel[...], kernel)
    bertjax.save_model(model, tmp_path / "saved")
    assert bertjax.load_model(tmp_path / "saved").heads == model.heads
    assert bertjax.load_model(tmp_path / "saved", for_pretraining=False).heads == ()


def test_models_without_the_head_are_as_before(objective):
    plain = bertjax.create_model(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    objective()
    again = bertjax.create_model(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    assert again.heads == plain.heads
    first, second = (dataclasses.asdict(model([[5, 6]])) for model in (plain, again))
    np.testing.assert_array_equal(first["logits"]["nsp_logits"], second["logits"]["nsp_logits"])
