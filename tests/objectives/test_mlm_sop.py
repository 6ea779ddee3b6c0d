"""Sentence order: examples, labels, what is refused, and a run from text to an exported folder."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import bertjax
import bertjax.export
import bertjax.train
from bertjax.config import DataConfig, ModelConfig, PhaseConfig, RunConfig
from bertjax.data.stream.blocks import read_block
from bertjax.data.stream.pipeline import open_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import DataError
from bertjax.objectives import mlm_sop
from bertjax.objectives.pair_cautions import check_corpus, check_pairs, pair_lines, phase_pairs
from bertjax.objectives.registry import phase_settings
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import to_global
from bertjax.train.pretraining_job import make_job

SOP = mlm_sop.OBJECTIVE
SETTINGS = ExampleSettings(SOP.maker, sequence_length=32, max_predictions=5, short_seq_prob=0.0)


def corpus_of(lengths):
    """A corpus of documents given as the lengths of their sentences; its tokens count from 5."""
    flat = np.concatenate([np.asarray(document) for document in lengths])
    sentences = np.cumsum([0, *map(len, lengths)])
    before = np.concatenate([[0], np.cumsum(flat)])
    return SimpleNamespace(
        tokens=np.arange(5, 5 + before[-1], dtype=np.uint16),
        sentence_lengths=flat.astype(np.uint16),
        document_sentences=sentences.astype(np.int64),
        document_tokens=before[sentences].astype(np.int64),
        num_documents=len(lengths),
        num_sentences=len(flat),
        num_tokens=int(before[-1]),
    )


def examples_of(corpus, settings=SETTINGS, seed=0, epoch=0):
    table = read_block(corpus, settings.block_tokens, seed, epoch, 0)
    block, sentences = settings.maker.split(table, table.sentences, settings)
    return settings.maker.make(block, sentences, settings, seed, epoch)


def many(seed=0):
    random = np.random.default_rng(seed)
    return corpus_of([random.integers(2, 12, random.integers(1, 15)).tolist() for _ in range(300)])


def test_labels_say_which_text_stands_first():
    corpus, made = many(), examples_of(many())
    swapped = made.label == 1
    labelled = made.has_label
    assert (made.b_start > made.a_start)[labelled & ~swapped].all()
    assert (made.b_start < made.a_start)[labelled & swapped].all()
    document = lambda starts: np.searchsorted(corpus.document_tokens, starts, side="right")
    assert (document(made.a_start) == document(made.b_start))[labelled].all()
    assert (made.b_length[labelled] > 0).all() and (made.a_length > 0).all()
    assert (made.a_length + made.b_length <= SETTINGS.room).all()
    # Consecutive: what is between the two was truncated, and less than a sentence.
    first, second = np.where(swapped, made.b_start, made.a_start), np.where(swapped, made.a_start, made.b_start)
    first_length = np.where(swapped, made.b_length, made.a_length)
    assert ((second - first - first_length)[labelled] < 12).all()
    assert not made.b_length[~labelled].any() and not made.label[~labelled].any()


def test_labels_are_balanced_and_a_function_of_the_seed():
    corpus = many()
    made, again, other = examples_of(corpus), examples_of(corpus), examples_of(corpus, seed=1)
    assert np.array_equal(made.label, again.label) and np.array_equal(made.a_start, again.a_start)
    assert len(other) != len(made) or not np.array_equal(other.label, made.label)
    share = made.label[made.has_label].mean()
    assert made.has_label.sum() > 400 and abs(share - 0.5) < 3 * 0.5 / np.sqrt(made.has_label.sum())
    later = examples_of(corpus, epoch=1)
    assert len(later) != len(made) or not np.array_equal(later.label, made.label)


def test_every_sentence_is_in_exactly_one_example():
    made = examples_of(many())
    assert made.first_sentence[0] == 0
    assert (made.first_sentence[1:] == made.next_sentence[:-1]).all()


def test_batches_hold_the_labels_of_their_examples_and_continue_exactly(synthetic):
    corpus, tokenizer = synthetic
    settings = ExampleSettings(SOP.maker, sequence_length=64, max_predictions=10, block_tokens=1500)
    read = lambda cursor, count: [next(batches) for batches in [opened(cursor)] for _ in range(count)]
    opened = lambda cursor: open_batches(corpus, tokenizer, [settings], 3, 0, 8, cursor, prefetch=0)
    all_of_it = read(None, 12)
    for (batch, _), (again, _) in zip(all_of_it[5:], read(all_of_it[4][1], 7), strict=True):
        fields = {name: (len(field.dims), field.dtype) for name, field in SOP.maker.fields.items()}
        assert {name: (array.ndim, array.dtype) for name, array in batch.items()} == fields
        for name, field in batch.items():
            np.testing.assert_array_equal(field, again[name])
    weights = sum(batch["sentence_order_weights"].sum() for batch, _ in all_of_it)
    labels = sum(batch["sentence_order_labels"].sum() for batch, _ in all_of_it)
    assert 0.35 < labels / weights < 0.65
    assert "next_sentence_labels" not in all_of_it[0][0]


def test_text_without_order_is_refused_or_warned_of():
    alone = corpus_of([[9]] * 100)
    facts = phase_pairs(SOP, alone, {"phase1": SETTINGS})
    with pytest.raises(DataError, match=r"sentence-order prediction is impossible: no document .* second sentence"):
        check_pairs(SOP, alone, facts)
    assert "means nothing" in pair_lines(SOP, alone, facts)[0]
    few = corpus_of([[9]] * 60 + [[9, 9]] * 60)
    facts = phase_pairs(SOP, few, {"phase1": SETTINGS})
    check_pairs(SOP, few, facts)
    (line,) = pair_lines(SOP, few, facts)
    assert "50% of the examples are a single sentence" in line and "--config.data.objective=mlm" in line
    assert not pair_lines(SOP, many(), phase_pairs(SOP, many(), {"phase1": SETTINGS}))
    check_corpus(SOP, corpus_of([[9, 9]]))  # one document has an order
    with pytest.raises(DataError, match="only one sentence"):
        check_corpus(SOP, corpus_of([[9]]))


def ordered(config, path):
    """A config whose documents greet first and take leave at the end: what comes first can be told."""
    names = [f"name{number}" for number in range(30)]
    documents = [f"Hello dear {names[i % 30]}.\nFarewell my {names[i * 7 % 30]}." for i in range(240)]
    path.write_text("\n\n".join(documents))
    config.data.corpus, config.data.objective, config.data.masked_lm_prob = str(path), "mlm_sop", 0.1
    config.data.packing = False
    config.phases.phase1.update(steps=8, learning_rate=2e-3, warmup_steps=10, max_predictions=4)
    config.phases.phase2.steps = 0
    config.model.hidden_dropout_prob = config.model.attention_probs_dropout_prob = 0.0
    config.logging.every_steps = 1
    return config


def rows_of(workdir, kind="train"):
    rows = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def test_a_run_records_the_order_and_exports_no_next_sentence_head(config, tmp_path, capsys):
    config = ordered(config, tmp_path / "text.txt")
    said = []
    summary = bertjax.train.run(config, tmp_path / "run", say=said.append)
    train = rows_of(tmp_path / "run")
    assert not any(name.startswith("nsp") for name in train[0])
    assert set(summary["held_out"]) == {"mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy"}
    assert summary["sop_pairs"] > 0 and 0 < summary["sop_in_order_share"] < 1 and summary["sop_chance"] < 1
    assert any("sentence-order pairs an epoch" in line and "in order" in line for line in said)
    assert any("sentence-order accuracy" in line for line in said)
    assert any(re.match(r"step .* loss [\d.]+  mlm [\d.]+  sop [\d.]+", line) for line in said)
    page = (tmp_path / "run/report.html").read_text()
    assert "Sentence-order accuracy" in page and "sentence-order accuracy" in page and "in order" in page
    assert "sop pairs" not in page

    # The head tells order, not next sentences: whoever loads the folder is not given it as the other.
    output = tmp_path / "exported"
    assert bertjax.export.main(["--workdir", str(tmp_path / "run"), "--output", str(output)]) == 0
    for folder in (tmp_path / "run/model", output):
        assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
        with pytest.warns(UserWarning, match="has no next-sentence head: new weights"):
            bertjax.load_model(folder)

    # Nor is it taken over by a run that predicts next sentences.
    config.data.objective, config.init_from = "mlm_nsp", str(tmp_path / "run")
    config.phases.phase1.steps = 1
    said.clear()
    bertjax.train.run(config, tmp_path / "next", say=said.append)
    assert any("first weights from" in line and "new: next-sentence head" in line for line in said)


def test_a_run_goes_on_bit_for_bit(config, tmp_path):
    config = ordered(config, tmp_path / "text.txt")
    config.phases.phase1.steps = 12
    bertjax.train.run(config, tmp_path / "whole", say=lambda line: None)
    with pytest.raises(bertjax.train.Stopped):
        bertjax.train.run(config, tmp_path / "parts", say=lambda line: None, should_stop=lambda step: step >= 5)
    bertjax.train.run(config, tmp_path / "parts", say=lambda line: None)
    whole, parts = (tmp_path / name / "model/model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_training_learns_the_order_of_a_handful_of_pairs(synthetic):
    corpus, tokenizer = synthetic
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = ModelConfig(200, 32, 2, 4, 64, max_position_embeddings=64, **still)
    phase = PhaseConfig(32, 16, 400, max_predictions=5, learning_rate=5e-3, warmup_steps=5)
    run = RunConfig(precision="float32", model=model, data=DataConfig(objective="mlm_sop"), phases={"phase1": phase})
    job = make_job(run, make_mesh(1, 1, 1, jax.devices()[:1]))
    state, step = job.initial_state(), job.train_step(phase)
    with open_batches(corpus, tokenizer, [phase_settings(run, 0)], 0, 0, 16, prefetch=0) as batches:
        batch = to_global(next(batches)[0], job.mesh)
    losses = []
    for _ in range(100):
        state, metrics = step(state, batch)
        losses.append(float(metrics["sop_loss"]))
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert losses[-1] < 0.1 and float(metrics["sop_accuracy"]) > 0.95
