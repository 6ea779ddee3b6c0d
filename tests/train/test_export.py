"""Model folders out of a run's checkpoints, and runs that start from them."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

import bertjax
import bertjax.train
from bertjax.config import resolve
from bertjax.errors import ConfigError, ModelFileError
from bertjax.export import main
from bertjax.model.bert import split_params
from bertjax.model.block import BlockSpec
from bertjax.text.vocabulary import train_tokenizer
from bertjax.train.first_weights import _source_rows, _vocabulary_line, open_origin
from bertjax.workdir.stored_run import open_run


def params_of(model):
    return jax.tree.map(np.asarray, split_params(model)[1])


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_every_checkpoint_can_be_exported(finished, tmp_path, capsys):
    for step in (6, 9, 10):
        assert main([f"--workdir={finished}", f"--step={step}", f"--output={tmp_path / str(step)}"]) == 0
        assert f"step {step}" in capsys.readouterr().out
    stored = open_run(finished)
    assert equal(params_of(bertjax.load_model(tmp_path / "6")), stored.weights(6)[1])
    assert not equal(stored.weights(6)[1], stored.weights(10)[1])
    newest, result = tmp_path / "10/model.safetensors", finished / "model/model.safetensors"
    assert newest.read_bytes() == result.read_bytes()
    assert bertjax.load_tokenizer(tmp_path / "9").fingerprint == stored.tokenizer().fingerprint


def test_the_newest_is_the_default_and_an_older_folder_is_replaced(finished, tmp_path):
    assert main([f"--workdir={finished}", "--step=6", f"--output={tmp_path / 'm'}"]) == 0
    assert main([f"--workdir={finished}", f"--output={tmp_path / 'm'}"]) == 0
    assert equal(params_of(bertjax.load_model(tmp_path / "m")), open_run(finished).weights(10)[1])
    assert [child.name for child in tmp_path.iterdir()] == ["m"]


def test_mistakes_are_one_line(finished, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    for arguments, code, words in (
        ([f"--workdir={finished}"], 2, "--output"),
        ([f"--workdir={finished}", "--step=7", f"--output={tmp_path / 'x'}"], 3, "there are 6, 9, 10"),
        ([f"--workdir={tmp_path}", f"--output={tmp_path / 'x'}"], 3, "is not the workdir of a run"),
        ([f"--workdir={finished}", f"--output={tmp_path / 'mine'}"], 3, "holds thesis.txt"),
    ):
        assert main(arguments) == code
        err = capsys.readouterr().err
        assert err.startswith("error: ") and words in err and err.count("\n") == 1
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "x").exists()


def test_a_damaged_checkpoint_is_one_line(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    for path in (tmp_path / "run/checkpoints/10/state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert main([f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'x'}"]) == 3
    err = capsys.readouterr().err
    assert "cannot be read" in err and err.count("\n") == 1


def test_an_export_that_computes_something_else_does_not_count(finished, tmp_path, monkeypatch):
    from bertjax.interop import huggingface

    honest = huggingface.to_tensors
    monkeypatch.setattr(
        huggingface, "to_tensors", lambda params, config: honest(params, config) | mixed(honest(params, config))
    )
    mixed = lambda tensors: {
        "bert.encoder.layer.0.attention.self.query.weight": tensors["bert.encoder.layer.0.attention.self.key.weight"]
    }
    with pytest.raises(ModelFileError, match="differ from the model's own"):
        bertjax.save_model(bertjax.load_model(finished), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def first_loss(config, workdir):
    """Loss of the first step and everything that was said."""
    said = []
    config.phases.phase1.steps = 1
    config.phases.phase1.warmup_steps = 0
    config.phases.phase2.steps = 0
    bertjax.train.run(config, workdir, say=said.append)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return next(row["loss"] for row in rows if row["kind"] == "train"), "\n".join(said)


def test_a_run_starts_where_another_ended(finished, config, tmp_path):
    fresh, _ = first_loss(config, tmp_path / "fresh")
    losses = []
    for name, source in (("workdir", finished), ("folder", finished / "model")):
        config.init_from = str(source)
        loss, said = first_loss(config, tmp_path / name)
        losses.append(loss)
        vocabulary = open_run(finished).tokenizer().vocab_size
        assert f"first weights from {source}: {vocabulary} of" in said
    assert losses[0] == losses[1] < fresh - 0.05


def test_longer_positions_and_an_extended_vocabulary(finished, config, tmp_path):
    """The longer table repeats the shorter one; known pieces keep their rows wherever their ids went."""
    from bertjax.text.tokenizer import WordPieceTokenizer

    old = open_run(finished).tokenizer()
    pieces = [old.token(i) for i in range(old.vocab_size)]
    moved = [*pieces[:5], "zyx", *pieces[5:], "##wvu"]
    WordPieceTokenizer(moved).save(tmp_path / "tokenizer")
    config.init_from = str(finished)
    config.data.tokenizer = str(tmp_path / "tokenizer")
    config.model.vocab_size = len(moved)
    config.model.max_position_embeddings = 700
    config.optimizer.weight_decay = 0.0
    config.phases.phase1.learning_rate = 0.0
    _, said = first_loss(config, tmp_path / "run")
    assert f"{len(pieces)} of {len(moved)} vocabulary entries known" in said
    assert (
        f"to go on with its own: --config.data.tokenizer={finished}" in said and "; 700 positions from its 512" in said
    )
    before, after = (params_of(bertjax.load_model(path))["embeddings"] for path in (finished, tmp_path / "run"))
    words = after["word_embeddings"]
    np.testing.assert_array_equal(words[:5], before["word_embeddings"][:5])
    np.testing.assert_array_equal(words[6 : len(pieces) + 1], before["word_embeddings"][5 : len(pieces)])
    assert 0 < np.abs(words[5] - before["word_embeddings"][: len(pieces)].mean(0)).max() < 0.05
    np.testing.assert_array_equal(after["position_embeddings"][:512], before["position_embeddings"])
    np.testing.assert_array_equal(after["position_embeddings"][512:], before["position_embeddings"][:188])


def test_pieces_are_matched_over_kinds_of_tokenizers_and_casing_is_said(finished, config, tmp_path):
    """A piece that begins a word is none that continues one, however the two kinds write that."""
    config.init_from = str(finished)
    run = resolve(config)
    origin = open_origin(run)
    texts = ["The list is returned in the order of the items in the list, and so is the rest of it."] * 9
    other = train_tokenizer("sentencepiece", texts, 300, lowercase=False)
    rows = _source_rows(origin, replace(run.model, vocab_size=other.vocab_size), other)
    matched = {other.token(i): origin.tokenizer.token(row) for i, row in enumerate(rows) if row >= 0}
    assert matched["\u2581list"] == "list" and matched["s"] == "##s"
    for here, there in matched.items():
        if other.token_id(here) not in other.special_ids:
            assert there == (here.removeprefix("\u2581") if here.startswith("\u2581") else f"##{here}")
    assert rows[other.mask_id] == origin.tokenizer.mask_id
    line = _vocabulary_line(origin, run, other, 5)
    assert "kind = 'wordpiece', this one 'sentencepiece'" in line and "lowercase = True, this one False" in line


def test_a_damaged_tokenizer_is_no_absent_one(finished, config, tmp_path):
    shutil.copytree(finished / "model", tmp_path / "start")
    config.init_from = str(tmp_path / "start")
    (tmp_path / "start/tokenizer.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        bertjax.train.run(config, tmp_path / "a", say=lambda line: None)
    for path in (tmp_path / "start").iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    _, said = first_loss(config, tmp_path / "b")
    assert "it has no tokenizer to compare with, so the" in said


def test_a_start_that_does_not_fit_is_refused_before_anything_is_done(finished, config, tmp_path):
    config.init_from = str(finished)
    config.model.hidden_size = 32
    config.data.corpus = "nowhere.txt"
    with pytest.raises(ConfigError, match=r"hidden_size = 16, config\.model\.hidden_size = 32; use --config\.model"):
        bertjax.train.run(config, tmp_path / "a", say=lambda line: None)
    config.init_from = str(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="not a model folder"):
        bertjax.train.run(config, tmp_path / "b", say=lambda line: None)


def test_a_run_that_has_begun_does_not_look_at_its_start_again(finished, config, tmp_path):
    shutil.copytree(finished / "model", tmp_path / "start")
    config.init_from = str(tmp_path / "start")
    config.phases.phase1.steps = 4

    def stop(step):
        return step == 2

    with pytest.raises(bertjax.train.Stopped):
        bertjax.train.run(config, tmp_path / "run", should_stop=stop, say=lambda line: None)
    shutil.rmtree(tmp_path / "start")
    assert bertjax.train.run(config, tmp_path / "run", say=lambda line: None)["steps"] == 8


def test_a_workdir_is_a_model_and_a_tokenizer(finished, config, tmp_path):
    assert bertjax.load_tokenizer(finished).fingerprint == open_run(finished).tokenizer().fingerprint
    assert equal(params_of(bertjax.load_model(finished)), params_of(bertjax.load_model(finished / "model")))
    with pytest.raises(bertjax.train.Stopped):
        bertjax.train.run(config, tmp_path / "run", should_stop=lambda step: step == 2, say=lambda line: None)
    with pytest.raises(ModelFileError, match=r"has not finished; python -m bertjax\.export --workdir"):
        bertjax.load_model(tmp_path / "run")


def test_an_encoder_without_names_in_the_layout_ends_without_a_model_folder(config, tmp_path, monkeypatch):
    """Said before anything is compiled; the run has its summary all the same."""
    monkeypatch.setattr("bertjax.model.bert.bert", lambda config: BlockSpec(norm="pre"))
    config.model.hidden_act = "relu"  # no other test's: what is known of a config's tensors is kept
    config.phases.phase1.steps, config.phases.phase2.steps = 2, 0
    said = []
    bertjax.train.run(config, tmp_path / "run", say=said.append)
    (warning,) = (line for line in said if "without a model folder" in line)
    assert "encoder/layer_norm" in warning and said.index(warning) < next(
        index for index, line in enumerate(said) if line.startswith("step ")
    )
    assert (tmp_path / "run/summary.json").is_file() and not (tmp_path / "run/model").exists()
    assert not any("the model is in" in line for line in said)
