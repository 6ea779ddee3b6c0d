"""Runs on text without next sentences: refused at once, and never a score that means nothing."""

import numpy as np
import pytest

import bertjax.train
from bertjax.config import resolve
from bertjax.errors import DataError
from bertjax.inference.batches import ONE_DEVICE
from bertjax.objectives import mlm_nsp
from bertjax.train import pretraining
from bertjax.train.pretraining import evaluate, evaluation_line, summarise, summary_lines

LOSSES = mlm_nsp.OBJECTIVE.losses


class Built(Exception):
    """The run got as far as its model."""


@pytest.fixture
def lonely(config, tmp_path, monkeypatch):
    """A config on documents of one sentence, and a run that ends where the model would be built."""
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join(f"Sentence number {i} speaks of a river" for i in range(60)))
    config.data.corpus = str(path)

    def build(run, mesh):
        raise Built

    monkeypatch.setattr(pretraining, "make_job", build)
    return config


def test_a_run_without_next_sentences_is_refused_before_anything_is_built(lonely, tmp_path):
    with pytest.raises(DataError, match=r"no document of the corpus has a second sentence.*objective=mlm") as error:
        bertjax.train.run(lonely, tmp_path / "run", say=lambda line: None)
    assert "\n" not in str(error.value)
    lonely.data.objective = "mlm"  # as the line says
    with pytest.raises(Built):
        bertjax.train.run(lonely, tmp_path / "run", say=lambda line: None)


def test_a_phase_without_steps_needs_no_pairs(lonely, tmp_path):
    """Lines of 30 tokens are split into pairs in rows of 24, and fill rows of 64 alone."""
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join(" ".join(f"word{(i * j) % 40}" for j in range(1, 31)) for i in range(60)))
    lonely.phases.phase1.sequence_length, lonely.phases.phase2.sequence_length = 24, 64
    with pytest.raises(DataError, match="impossible in phase2: no document"):
        bertjax.train.run(lonely, tmp_path / "run", say=lambda line: None)
    lonely.phases.phase2.steps = 0
    with pytest.raises(Built):
        bertjax.train.run(lonely, tmp_path / "run", say=lambda line: None)


def test_lines_of_one_document_are_the_other_way_out(lonely, tmp_path):
    path = tmp_path / "together.txt"
    documents = ["\n".join(f"Sentence number {i} of {n} speaks." for i in range(9)) for n in range(12)]
    path.write_text("\n\n".join(documents))
    lonely.data.corpus = str(path)
    with pytest.raises(Built):
        bertjax.train.run(lonely, tmp_path / "run", say=lambda line: None)


def scored(labels):
    """What a held-out evaluation gives on pairs of these labels."""
    weights = np.ones((1, len(labels)), np.float32)
    batch = {
        "next_sentence_labels": np.array([labels]),
        "next_sentence_weights": weights,
        "masked_lm_ids": np.zeros((1, 2), int),
        "masked_lm_weights": np.ones((1, 2), np.float32),
    }
    sums = {"mlm_loss": 4.0, "mlm_hits": 1.0, "mlm_weight": 2.0}
    sums |= {"nsp_loss": 0.5 * len(labels), "nsp_hits": float(len(labels)), "nsp_weight": float(len(labels))}
    return evaluate(lambda params, batch: sums, None, [batch], ONE_DEVICE, np.zeros(5), LOSSES)


@pytest.mark.parametrize("label", [0, 1])
def test_pairs_of_one_kind_are_counted_but_not_scored(label):
    values = scored([label] * 4)
    assert (values["nsp_pairs"], values["nsp_next_share"]) == (4, 1 - label)
    assert not {"nsp_accuracy", "nsp_loss", "nsp_chance"} & set(values)
    assert values["loss"] == values["mlm_loss"]
    line = evaluation_line(7, "phase1", values, LOSSES)
    assert line.endswith(f"nsp accuracy not scored (of 4 pairs, {1 - label:.1%} of them real next ones)")


def test_the_pairs_behind_chance_are_told(config, tmp_path):
    values = scored([1, 0, 1, 1, 0])
    assert evaluation_line(7, "phase1", values, LOSSES).endswith(
        "nsp accuracy 100.0% (chance 60.0% of 5 pairs, 40.0% of them real next ones)"
    )
    run = resolve(config)
    totals = {"seconds": 1.0, "real_tokens": 100}
    summary = summarise(run, LOSSES, values, totals, "documents")
    assert (summary["nsp_chance"], summary["nsp_pairs"], summary["nsp_next_share"]) == (0.6, 5, 0.4)
    told = "\n".join(summary_lines(summary, LOSSES, tmp_path))
    assert "next-sentence accuracy 100.0%, chance 60.0% of 5 pairs, 40.0% of them real next ones" in told
    alone = summarise(run, LOSSES, scored([1, 1]), totals, "documents")
    assert alone["nsp_chance"] is None and "nsp_accuracy" not in alone["held_out"]
    assert "accuracy is not scored: of 2 pairs, 0.0% of them real" in "\n".join(summary_lines(alone, LOSSES, tmp_path))
