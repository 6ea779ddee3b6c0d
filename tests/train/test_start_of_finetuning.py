"""A run of pretraining is a model to fine-tune: its result, or while it goes on its newest checkpoint."""

import json
import shutil

import numpy as np
import pytest

from bertjax.engine.checkpoint.record import FILE, ITEM, read_record, sealed
from bertjax.errors import ConfigError, ModelFileError
from bertjax.finetune.model_and_examples import open_start
from bertjax.finetune.settings import resolve
from bertjax.interop.task_models import load_task_model, save_task_model
from bertjax.model.bert import split_params
from bertjax.model.task import TaskConfig
from bertjax.text.tokenizer import WordPieceTokenizer
from bertjax.workdir.stored_run import open_run

TASK = TaskConfig("classification", ("no", "yes"), max_length=32)


def encoder_of(start):
    params = split_params(start.make(TASK, 3))[1]
    assert params["classifier"]["kernel"].shape == (16, 2) and set(params["bert"]) == {
        "embeddings",
        "encoder",
        "pooler",
    }
    return np.asarray(params["bert"]["encoder"]["layers"]["mlp"]["output"]["kernel"])


def test_a_finished_run_and_one_that_goes_on(finished, tmp_path):
    run = resolve({"task": "classification", "model": {"max_length": 32, "hidden_dropout_prob": 0.2}})
    whole = open_start(finished, run)
    assert whole.model.hidden_dropout_prob == 0.2 and whole.tokenizer.vocab_size == whole.model.vocab_size
    going = tmp_path / "going"
    shutil.copytree(finished, going)
    shutil.rmtree(going / "model")
    begun = open_start(going, run)
    newest = open_run(going).weights(10)[1]["encoder"]["layers"]["mlp"]["output"]["kernel"]
    for start in (whole, begun):
        np.testing.assert_array_equal(encoder_of(start), newest)
    assert begun.tokenizer.fingerprint == whole.tokenizer.fingerprint


def test_any_checkpoint_is_a_start(finished):
    run = resolve({"task": "classification", "model": {"max_length": 32}})
    early, late = (open_start(finished / "checkpoints" / step, run) for step in ("6", "10"))
    expected = open_run(finished).weights(6)[1]["encoder"]["layers"]["mlp"]["output"]["kernel"]
    np.testing.assert_array_equal(encoder_of(early), expected)
    assert early.fingerprint != late.fingerprint and not np.array_equal(encoder_of(late), expected)
    with pytest.raises(ModelFileError, match="no checkpoint of step 7; there are 6, 9, 10"):
        open_start(finished / "checkpoints" / "7", run)


def test_entries_that_stand_for_no_token_are_left_out(finished, tmp_path):
    """A vocabulary learned on little text may be smaller than the model's."""
    going = tmp_path / "going"
    shutil.copytree(finished, going, ignore=shutil.ignore_patterns("model"))
    whole = open_run(finished).tokenizer()
    shutil.rmtree(going / "tokenizer")
    fewer = WordPieceTokenizer([whole.token(i) for i in range(whole.vocab_size - 3)])
    fewer.save(going / "tokenizer")
    for step in (going / "checkpoints").iterdir():  # as if the run had been made with it
        record = sealed(read_record(step) | {"tokenizer": fewer.fingerprint})
        (step / ITEM / FILE).write_text(json.dumps(record))
    start = open_start(going, resolve({"task": "classification", "model": {"max_length": 32}}))
    assert start.model.vocab_size == start.tokenizer.vocab_size == whole.vocab_size - 3
    save_task_model(start.make(TASK, 3), tmp_path / "saved", start.tokenizer)
    assert load_task_model(tmp_path / "saved")[1].vocab_size == start.tokenizer.vocab_size


def test_rows_longer_than_the_model_are_refused(finished):
    with pytest.raises(ConfigError, match=r"max_length = 1024 is more than the 512 positions"):
        open_start(finished, resolve({"model": {"max_length": 1024}}))
