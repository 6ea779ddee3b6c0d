"""Data of suites and labelled files: the same paths as everywhere (tests/test_paths.py)."""

import os

import pytest

import bertjax.evaluate
from bertjax.errors import DataError, ModelFileError
from bertjax.finetune.model_and_examples import read_examples
from bertjax.finetune.settings import resolve

BAD = {"gs://bucket/x.jsonl": "an address", f"{'x' * 300}.jsonl": "too long: a name of", "pipe.jsonl": "is a pipe"}


@pytest.mark.parametrize("suite", ["mlm", "blimp", "sts"])
@pytest.mark.parametrize(("path", "said"), BAD.items(), ids=["address", "long", "pipe"])
def test_data_of_suites(suite, path, said, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    os.mkfifo("pipe.jsonl")
    arguments = [f"--model={folder}", f"--suite={suite}"]
    assert bertjax.evaluate.main([*arguments, f"--data={path}"]) == 3
    assert said in capsys.readouterr().err
    assert bertjax.evaluate.main([*arguments, "--data=~/not-there.jsonl"]) == 3
    assert f"{tmp_path}/not-there.jsonl" in capsys.readouterr().err or suite == "mlm"
    assert {child.name for child in tmp_path.iterdir()} == {"pipe.jsonl"}


@pytest.mark.parametrize("task", ["classification", "tagging", "answering"])
@pytest.mark.parametrize(("path", "said"), BAD.items(), ids=["address", "long", "pipe"])
def test_labelled_files(task, path, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ending = {"classification": ".jsonl", "tagging": ".conll", "answering": ".json"}[task]
    os.mkfifo(f"pipe{ending}")
    run = resolve({"task": task})
    with pytest.raises((DataError, ModelFileError), match=said):
        read_examples(path.replace(".jsonl", ending), run, held_out=False)
    with pytest.raises(DataError, match=f"{tmp_path}/not-there"):
        read_examples(f"~/not-there{ending}", run, held_out=False)
