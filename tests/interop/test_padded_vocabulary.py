"""Embeddings with more rows than the tokenizer has entries: the number is often rounded up, to 64 or 128."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.config import default_config, phase, resolve
from bertjax.errors import ModelFileError
from bertjax.finetune.model_and_examples import open_start
from bertjax.finetune.settings import default_config as finetune_config
from bertjax.finetune.settings import resolve as resolve_finetune
from bertjax.inference.embed import embed
from bertjax.inference.fill_mask import fill_mask
from bertjax.interop.models import load_model, load_pair, save_model
from bertjax.interop.task_models import load_task_model, new_task_model, save_task_model
from bertjax.model.bert import split_params
from bertjax.model.create import create_model
from bertjax.model.task import TaskConfig
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer
from bertjax.train.first_weights import initial_params, open_origin

DIMENSIONS = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
}
TOKENIZER = WordPieceTokenizer([*WORDPIECE_SPECIALS, *(f"w{chr(97 + i)}" for i in range(25)), *map(str, range(10))])
ENTRIES = TOKENIZER.vocab_size  # 40
TEXTS = ["wa [MASK] wc", "wd we [MASK]"]
HUGE = 50.0  # a bias that would win every prediction


def pad(folder, rows: int) -> None:
    """Makes of a folder what somebody saved who rounded the number of rows up; the new ones would win everywhere."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    tensors = load_file(weights)
    for name, array in tensors.items():
        if name.endswith("word_embeddings.weight"):
            tensors[name] = np.concatenate([array, np.full((rows - len(array), array.shape[1]), 0.5, np.float32)])
        elif name == "cls.predictions.bias":
            tensors[name] = np.concatenate([array, np.full(rows - len(array), HUGE, np.float32)])
    save_file(tensors, weights)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": rows}))


@pytest.fixture
def plain():
    return create_model(vocab_size=ENTRIES, **DIMENSIONS)


@pytest.fixture
def folder(plain, tmp_path):
    save_model(plain, tmp_path / "model", TOKENIZER)
    pad(tmp_path / "model", 64)
    return tmp_path / "model"


def finetuned(folder, rows=None, kind="classification"):
    task = TaskConfig(kind, ("a", "b") if kind == "classification" else (), max_length=16)
    save_model(create_model(vocab_size=ENTRIES, **DIMENSIONS), folder.with_name("encoder"), TOKENIZER)
    model, tokenizer = new_task_model(folder.with_name("encoder"), task, 0)
    save_task_model(model, folder, tokenizer)
    if rows:
        pad(folder, rows)
    return folder


@pytest.mark.parametrize("rows", [64, 128, 256, 1024])
def test_what_stands_for_no_entry_is_never_predicted(plain, folder, rows):
    pad(folder, rows) if rows > 64 else None
    model, tokenizer = load_pair(folder, for_pretraining=True)
    assert model.config.vocab_size == ENTRIES
    fillings = fill_mask(model, tokenizer, TEXTS, top_k=ENTRIES)
    expected = fill_mask(plain, tokenizer, TEXTS, top_k=ENTRIES)
    assert [[f.token_id for f in found] for found in fillings] == [[f.token_id for f in found] for found in expected]
    assert sum(f.score for f in fillings[0]) == pytest.approx(1.0)
    np.testing.assert_allclose(embed(model, tokenizer, TEXTS), embed(plain, tokenizer, TEXTS), atol=1e-6)
    assert load_model(folder).config.vocab_size == ENTRIES


def test_a_model_without_its_tokenizer_keeps_all_rows(folder):
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer.json").write_text("damaged")
    assert load_model(folder).config.vocab_size == 64


def test_tasks_start_from_it_and_are_read_from_it(folder, tmp_path):
    model, tokenizer = new_task_model(folder, TaskConfig("classification", ("a", "b"), max_length=16), 0)
    assert model.config.vocab_size == tokenizer.vocab_size == ENTRIES
    config = finetune_config("classification")
    config.model.max_length = 16
    assert open_start(folder, resolve_finetune(config)).model.vocab_size == ENTRIES
    for kind in ("classification", "embedding"):
        model, tokenizer = load_task_model(finetuned(tmp_path / kind, 128, kind))
        assert model.config.vocab_size == tokenizer.vocab_size == ENTRIES


def run_config(folder):
    config = default_config()
    config.init_from = str(folder)
    config.model.update(vocab_size=ENTRIES, **DIMENSIONS)
    config.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=1, learning_rate=1e-3, warmup_steps=0)
    return resolve(config)


def test_a_run_begins_with_its_weights(plain, folder):
    run = run_config(folder)
    params = initial_params(open_origin(run), run, TOKENIZER, lambda line: None)
    words = np.asarray(params["embeddings"]["word_embeddings"])
    np.testing.assert_array_equal(
        words[:ENTRIES], np.asarray(split_params(plain)[1]["embeddings"]["word_embeddings"])[:ENTRIES]
    )
    assert not words[ENTRIES:].any()
    assert np.asarray(params["mlm_head"]["bias"]).max() < HUGE


def test_what_is_exported_again_has_a_row_an_entry(folder, tmp_path):
    model, tokenizer = load_pair(folder, for_pretraining=True)
    save_model(model, tmp_path / "again", tokenizer)
    assert json.loads((tmp_path / "again/config.json").read_text())["vocab_size"] == ENTRIES
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    peer = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "again")
    assert peer.get_output_embeddings().weight.shape == (ENTRIES, 8)
    assert len(transformers.AutoTokenizer.from_pretrained(tmp_path / "again")) == ENTRIES


@pytest.mark.parametrize(
    ("rows", "line"), [(39, "too few"), (45, "more than"), (192, "more than rounding up"), (30522, "more than")]
)
def test_another_models_tokenizer_is_refused_everywhere(rows, line, tmp_path):
    folder, task_folder = tmp_path / "model", tmp_path / "task"
    save_model(create_model(vocab_size=rows, **DIMENSIONS), folder)
    TOKENIZER.save(folder)
    task = TaskConfig("classification", ("a", "b"), max_length=16)
    config = finetune_config("classification")
    config.model.max_length = 16
    attempts = [
        lambda: load_pair(folder, for_pretraining=True),
        lambda: new_task_model(folder, task, 0),
        lambda: open_start(folder, resolve_finetune(config)),
        lambda: open_origin(run_config(folder)),
    ]
    if rows > ENTRIES:
        attempts.append(lambda: load_task_model(finetuned(task_folder, rows)))
    for attempt in attempts:
        with pytest.raises(ModelFileError, match=f"40 entries, the model's embeddings have {rows}: {line}") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert load_model(folder).config.vocab_size == rows
