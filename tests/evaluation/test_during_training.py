"""Suites that a pretraining run measures itself with."""

import json

import jax
import numpy as np
import pytest

import bertjax
from bertjax.config import default_config, phase, resolve
from bertjax.data.corpus.prepared import prepare
from bertjax.engine.fit import Interrupted
from bertjax.engine.state import with_params
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation import blimp_suite, mlm_suite, sts_suite
from bertjax.evaluation.during_training import InlineSuites, over
from bertjax.parallel.mesh import make_mesh
from bertjax.train.pretraining_job import make_job

PAIRS = [("The function returns a list.", "The function return a list."), ("It is a number.", "It are a number.")]


@pytest.fixture
def config(corpus_file, tmp_path, monkeypatch):
    """Two phases of 4 and 2 steps; BLiMP every 3 steps, STS at the end of each phase."""
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    records = [{"sentence_good": good, "sentence_bad": bad, "UID": "agreement"} for good, bad in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "scores.csv").write_text("A list,The list,4\nA number,A function,2\nIt returns,A list,0\n")
    config = default_config()
    config.precision = "float32"
    config.model.update(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    config.model.intermediate_size = 32
    config.data.corpus = str(corpus_file)
    config.phases.phase1 = phase(
        sequence_length=32, batch_size=8, steps=4, max_predictions=5, learning_rate=1e-2, warmup_steps=1
    )
    config.phases.phase2 = phase(sequence_length=32, batch_size=8, steps=2, max_predictions=5)
    config.evaluation.max_rows = 16
    config.evaluation.blimp.update(data=str(tmp_path / "pairs.jsonl"), every_steps=3)
    config.evaluation.sts.data = str(tmp_path / "scores.csv")
    return config


def rows(workdir, kind):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_scores_are_in_the_rows_of_evaluations(config, tmp_path):
    said = []
    bertjax.train.run(config, tmp_path / "run", say=said.append)
    found = rows(tmp_path / "run", "eval")
    assert [row["step"] for row in found] == [3, 4, 6]
    assert all("blimp.accuracy" in row and "mlm_loss" in row for row in found)
    assert ["sts.spearman" in row for row in found] == [False, True, True]
    assert sum("blimp accuracy" in line for line in said) == 3

    # Those of the finished model are the ones of the command; and training went as without suites.
    last = found[-1]
    for suite, name in (("blimp", "accuracy"), ("sts", "pearson")):
        expected = bertjax.evaluate.run(tmp_path / "run", suite, config.evaluation[suite].data)
        assert last[f"{suite}.{name}"] == pytest.approx(expected["scores"][name]["value"], abs=1e-3)
    config.evaluation.blimp.data = config.evaluation.sts.data = None
    bertjax.train.run(config, tmp_path / "plain", say=lambda line: None)
    losses = lambda workdir: [row["loss"] for row in rows(workdir, "train")]
    assert losses(tmp_path / "plain") == losses(tmp_path / "run")
    assert [row["step"] for row in rows(tmp_path / "plain", "eval")] == [4, 6]


def test_suites_run_on_the_mesh_in_the_runs_precision(config, corpus_file, tmp_path, monkeypatch):
    """With the parameters where training has them: no device, and no process, ever holds all of them."""
    config.precision = "bfloat16"
    config.parallel.update(data=2, fsdp=2, tensor=2)
    config.evaluation.mlm.update(data=str(corpus_file), limit=20)
    config.phases.phase1.steps = config.phases.phase2.steps = 1
    scored, exporting = {}, []

    def spied(name, own_score):
        def score(model, *arguments, **placement):
            table = model.embeddings.word_embeddings[...]
            scored[name] = model.precision.operands, {shard.data.size for shard in table.addressable_shards}
            assert not exporting
            return own_score(model, *arguments, **placement)

        return score

    from bertjax.train.pretraining import gathered

    with monkeypatch.context() as patch:
        for name, module in {"mlm": mlm_suite, "blimp": blimp_suite, "sts": sts_suite}.items():
            patch.setattr(module, "score", spied(name, module.score))
        patch.setattr("bertjax.train.pretraining.gathered", lambda *tree: exporting.append(1) or gathered(*tree))
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
    assert exporting == [1]
    assert scored == dict.fromkeys(("mlm", "blimp", "sts"), (jax.numpy.bfloat16, {384 * 16 // 4}))
    (*_, last) = rows(tmp_path / "run", "eval")
    # The exported model, in float32 on one device: what differs is the rounding of bfloat16.
    expected = bertjax.evaluate.run(tmp_path / "run", "mlm", corpus_file, limit=20)
    assert last["mlm.loss"] == pytest.approx(expected["scores"]["loss"]["value"], rel=2e-3)


def test_scores_do_not_depend_on_the_devices(config, corpus_file, tmp_path):
    """float32: within 1e-5, as what differs is the order of sums."""
    config.model.initializer_range = 0.5  # so that the scores are not all the same
    config.evaluation.mlm.update(data=str(corpus_file), limit=50)
    run, found = resolve(config), []
    tokenizer = prepare([str(corpus_file)], tmp_path / "prepared", vocab_size=300).tokenizer
    suites = InlineSuites(run.evaluation, tokenizer, run.model)
    params = jax.device_get(make_job(run, make_mesh(1, 1, 1, jax.devices()[:1])).initial_state().params)
    for sizes in ((1, 1, 1), (8, 1, 1), (2, 2, 2)):
        job = make_job(run, make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))]))
        state = with_params(job.initial_state(), params)
        found.append(suites.scores(0, True, lambda job=job, state=state: job.model(state.params), over(job.mesh)))
    assert {name.split(".")[0] for name in found[0]} == {"mlm", "blimp", "sts"}
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_every_suite_stops_at_its_next_batch(number, config, corpus_file, tmp_path):
    """Of the one that asks for many batches, here the masked-LM loss, two are done."""
    config.evaluation.mlm.update(data=str(corpus_file), limit=50)
    run, asked = resolve(config), []
    tokenizer = prepare([str(corpus_file)], tmp_path / "prepared", vocab_size=300).tokenizer
    suites = InlineSuites(run.evaluation, tokenizer, run.model)
    job = make_job(run, make_mesh(1, 1, 1, jax.devices()[:1]))
    model = lambda: job.model(job.initial_state().params)
    with pytest.raises(Interrupted):
        suites.scores(0, True, model, over(job.mesh, lambda: asked.append(1) or len(asked) > number))
    assert len(asked) == number + 1


def test_bad_data_is_told_before_anything_is_compiled(config, tmp_path, monkeypatch):
    monkeypatch.setattr("bertjax.train.pretraining.make_job", lambda *_: pytest.fail("the model is being made"))
    (tmp_path / "scores.csv").write_text("A list,The list,much\n")
    with pytest.raises(DataError, match=r"scores\.csv:1: "):
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)


def test_keys_of_suites_are_checked_and_operational(config):
    from bertjax.config import identity_items

    assert not [key for key in identity_items(resolve(config)) if "evaluation" in key]
    config.evaluation.blimp.every_steps = -1
    with pytest.raises(ConfigError, match=r"config\.evaluation\.blimp\.every_steps = -1 is too small"):
        resolve(config)


def test_what_was_left_out_of_the_data_is_told(config, tokenizer, tmp_path):
    rows = "A list,The list,4\nA number,A function,2\n" * 60 + "It returns,,0\n"
    (tmp_path / "scores.csv").write_text(rows)
    config.evaluation.blimp.data = None
    run = resolve(config)
    (line,) = InlineSuites(run.evaluation, tokenizer, run.model).cautions
    assert line.startswith("sts: 1 of 121 examples left out: ") and "scores.csv:121: " in line
