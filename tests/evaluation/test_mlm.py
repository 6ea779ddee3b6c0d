"""Masked tokens of held-out text: the same masks whatever the batches, sums against the plain computation."""

import lzma

import numpy as np
import pytest

import bertjax
from bertjax.data.corpus.prepared import open_prepared, prepare
from bertjax.data.stream.pipeline import evaluation_batches
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation import mlm_suite
from bertjax.evaluation.suite import Options

TEXTS = [f"The cat number {i} sat on the mat. Then the dog laughed, and the log was {i * 7} feet." for i in range(60)]


def run(model, tokenizer, data, **options):
    return bertjax.evaluate.run(model, "mlm", data, tokenizer=tokenizer, max_length=32, **options)


@pytest.fixture(scope="module")
def result(model, tokenizer):
    return run(model, tokenizer, TEXTS)


def test_scores_are_means_over_the_masked_tokens(model, tokenizer, result):
    text, _ = mlm_suite.read(TEXTS, tokenizer, model, Options(max_length=32))
    losses, hits, ids = [], [], []
    for batch in evaluation_batches(text.corpus, tokenizer, text.settings, 4, 2**62):
        masked = batch["masked_lm_weights"] > 0
        logits = np.asarray(model.on_batch(batch).mlm_logits, np.float64)[masked]
        target = batch["masked_lm_ids"][masked]
        losses += list(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(target)), target])
        hits += list(logits.argmax(-1) == target)
        ids += list(target)
    scores = {name: score["value"] for name, score in result["scores"].items()}
    assert scores["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    assert scores["accuracy"] == np.mean(hits)
    # The baseline on the same positions, with the text's own frequencies.
    counts = np.bincount(text.corpus.tokens)
    assert scores["unigram_loss"] == pytest.approx(np.mean(-np.log(counts[ids] / counts.sum())))
    assert scores["gain"] == pytest.approx(scores["unigram_loss"] - scores["loss"])
    assert result["facts"]["masked_tokens"] == len(ids) and result["facts"]["documents"] == 60
    for score in result["scores"].values():
        assert score["low"] <= score["value"] <= score["high"] and score["count"] == result["facts"]["rows"]


def test_the_batch_size_has_no_say(model, tokenizer, result):
    other = run(model, tokenizer, TEXTS, batch_tokens=96)
    assert other["facts"] == result["facts"]
    for name, score in other["scores"].items():
        assert score["value"] == pytest.approx(result["scores"][name]["value"], rel=1e-5)


def test_the_seed_and_nothing_else_changes_the_masks(model, tokenizer, result):
    again, other = run(model, tokenizer, TEXTS, seed=0), run(model, tokenizer, TEXTS, seed=1)
    assert again["scores"] == result["scores"]
    assert other["scores"]["unigram_loss"]["value"] != result["scores"]["unigram_loss"]["value"]


def test_limit_counts_rows(model, tokenizer):
    assert run(model, tokenizer, TEXTS, limit=3)["facts"]["rows"] == 3


def test_files_are_the_same_as_texts(model, tokenizer, folder, result, tmp_path):
    import json

    plain, packed = tmp_path / "text.txt", tmp_path / "text.jsonl.xz"
    plain.write_text("\n\n".join(TEXTS))
    packed.write_bytes(lzma.compress("\n".join(json.dumps({"text": text}) for text in TEXTS).encode()))
    for path in (plain, packed):
        found = bertjax.evaluate.run(folder, "mlm", path, max_length=32)
        for name, score in found["scores"].items():
            assert score["value"] == pytest.approx(result["scores"][name]["value"], rel=1e-5)


def test_of_a_prepared_corpus_the_held_out_part_is_taken(model, tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS))
    tokenizer.save(tmp_path / "tokenizer")
    prepared = prepare(tmp_path / "text.txt", tmp_path / "corpus", tokenizer=tmp_path / "tokenizer")
    found = run(model, tokenizer, tmp_path / "corpus")
    assert found["facts"]["tokens"] == prepared.held_out.num_tokens < prepared.train.num_tokens
    assert found["facts"]["held_out_kind"] == "documents"
    text, _ = mlm_suite.read(str(tmp_path / "corpus"), tokenizer, model, Options())
    counts = open_prepared(tmp_path / "corpus").token_counts + 1.0
    np.testing.assert_allclose(text.unigram, np.log(counts / counts.sum()))
    prepare(tmp_path / "text.txt", tmp_path / "other", vocab_size=90)
    with pytest.raises(DataError, match="other was made with another tokenizer than the model's"):
        run(model, tokenizer, tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "there is no text in it"), (b"\n \n", "there is no text in it"), (None, "does not exist")],
)
def test_no_text_is_an_error(model, tokenizer, tmp_path, content, words):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        run(model, tokenizer, path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_replaced_and_counted_as_in_training(model, tokenizer, tmp_path):
    (tmp_path / "text.txt").write_bytes("\n\n".join(TEXTS).encode() + b" \xff\xfe cats.")
    assert run(model, tokenizer, tmp_path / "text.txt")["facts"]["replaced_bytes"] == 2


def test_mistakes_in_the_call_are_named(model, headless, tokenizer):
    with pytest.raises(ConfigError, match="max_length = 41 is longer than the model, which takes 40 tokens"):
        bertjax.evaluate.run(model, "mlm", TEXTS, tokenizer=tokenizer, max_length=41)
    with pytest.raises(ConfigError, match="no masked-LM head"):
        run(headless, tokenizer, TEXTS)
    with pytest.raises(DataError, match="strings only"):
        run(model, tokenizer, ["a", 3])
