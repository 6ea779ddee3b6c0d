"""Paths as users give them, by every option and key that takes one."""

import os

import pytest

import bertjax.describe
import bertjax.evaluate
import bertjax.export
import bertjax.finetune.__main__
import bertjax.predict
import bertjax.prepare
import bertjax.train.__main__
from bertjax.cli.paths import given_path
from bertjax.errors import ConfigError

CONFIG = """
from bertjax.config import default_config, phase

def get_config():
    config = default_config()
    config.data.corpus = "nowhere.txt"
    config.model.update(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=1)
    config.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=1, learning_rate=1e-2, warmup_steps=0)
    return config
"""
FINETUNE = """
from bertjax.finetune.settings import default_config

def get_config():
    return default_config("classification")
"""
_TRAIN = ["--config=config.py", "--workdir=w"]
_FINETUNE = ["--config=finetune.py", "--workdir=w"]
_ROWS = ["--train=rows.jsonl", "--eval=rows.jsonl"]
# Every option and key that takes a path: (module, the other arguments, the option).
OPTIONS = {
    "train --config": (bertjax.train.__main__, ["--workdir=w"], "--config"),
    "train --workdir": (bertjax.train.__main__, ["--config=config.py"], "--workdir"),
    "data.corpus": (bertjax.train.__main__, _TRAIN, "--config.data.corpus"),
    "data.tokenizer": (
        bertjax.train.__main__,
        [*_TRAIN, "--config.data.corpus=text.txt"],
        "--config.data.tokenizer",
    ),
    "init_from": (bertjax.train.__main__, [*_TRAIN, "--config.data.corpus=text.txt"], "--config.init_from"),
    "prepare --input": (bertjax.prepare, ["--output=out"], "--input"),
    "prepare --input, a glob": (bertjax.prepare, ["--output=out", "--input=text.txt"], "--input"),
    "prepare --output": (bertjax.prepare, ["--input=text.txt"], "--output"),
    "prepare --tokenizer": (bertjax.prepare, ["--input=text.txt", "--output=out"], "--tokenizer"),
    "finetune --config": (bertjax.finetune.__main__, ["--workdir=w"], "--config"),
    "finetune --workdir": (bertjax.finetune.__main__, ["--config=finetune.py", "--model=m", *_ROWS], "--workdir"),
    "finetune --model": (bertjax.finetune.__main__, [*_FINETUNE, *_ROWS], "--model"),
    "evaluate --model": (bertjax.evaluate, ["--suite=blimp", "--data=rows.jsonl"], "--model"),
    "evaluate --output": (bertjax.evaluate, ["--suite=blimp", "--data=rows.jsonl", "--model=m"], "--output"),
    "predict --model": (bertjax.predict, ["fill-mask", "A [MASK]."], "--model"),
    "export --workdir": (bertjax.export, ["--output=out"], "--workdir"),
    "export --output": (bertjax.export, ["--workdir=w"], "--output"),
    "describe": (bertjax.describe, [], None),
}


_ONLY_WITH_A_MODEL = ("evaluate --output", "export --output")
# What can be used is used: prepare does the same as far as names go, and does not train.
_NOT_TRIED_FOR_REAL = (*_ONLY_WITH_A_MODEL, "data.corpus")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, and what is in it."""
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "finetune.py").write_text(FINETUNE)
    (tmp_path / "text.txt").write_text("\n\n".join(f"Document {i} is here. It has text." for i in range(30)))
    (tmp_path / "rows.jsonl").write_text('{"text": "A", "label": "a"}\n{"text": "B", "label": "b"}\n')
    return tmp_path


def run(option, value, capsys):
    """(exit code, what was said on standard error) of a command with a value for its option."""
    program, others, name = OPTIONS[option]
    capsys.readouterr()
    code = program.main([*others, value if name is None else f"{name}={value}"])
    return code, [line for line in capsys.readouterr().err.splitlines() if not line.endswith("...")]


@pytest.mark.parametrize("option", OPTIONS)
def test_addresses_and_impossible_names_are_refused_in_one_line(option, place, capsys):
    for value in ("gs://bucket/some/where", "s3://bucket/x.txt", "https://example.org/x.jsonl", "hf://someone/model"):
        code, said = run(option, value, capsys)
        assert code in (2, 3) and len(said) == 1 and f"{value!r}, an address" in said[0], (value, code, said)
    for value in (f"{'x' * 300}.txt", "/".join(["y" * 200] * 30)):
        code, said = run(option, value, capsys)
        assert code in (2, 3) and len(said) == 1 and "which is too long: a name of" in said[0], (value, code, said)
        assert len(said[0]) < 300
    made = {path.name for path in place.iterdir()}
    assert made <= {"config.py", "finetune.py", "text.txt", "rows.jsonl", "cache", "w"}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "describe"])
def test_an_empty_path_is_not_the_current_folder(option, place, capsys):
    """As a shell gives it whose variable is not set."""
    before = sorted(place.iterdir())
    code, said = run(option, "", capsys)
    assert code in (2, 3) and len(said) == 1, (code, said)
    assert set(place.iterdir()) - set(before) <= {place / "cache", place / "w"}


@pytest.mark.parametrize("option", OPTIONS)
def test_the_home(option, place, capsys, monkeypatch):
    """What is not there is said to be missing in the home, or what is made is made there."""
    monkeypatch.setenv("HOME", str(place / "home"))
    (place / "home").mkdir()
    code, said = run(option, "~/not-there.txt", capsys)
    assert not (place / "~").exists()
    made = [path.name for path in (place / "home").iterdir()]
    if option not in _ONLY_WITH_A_MODEL and made != ["not-there.txt"]:
        assert code in (2, 3) and ("home" in said[0] or "~/not-there.txt" in said[0]), said
    code, said = run(option, "~nobody-of-this-name/x.txt", capsys)
    assert code in (2, 3) and len(said) == 1 and "home directory" in said[0], said


@pytest.mark.parametrize("option", [o for o in OPTIONS if "config" not in o and o not in _NOT_TRIED_FOR_REAL])
def test_names_that_are_not_utf8(option, place, capsys):
    name = os.fsdecode(b"caf\xe9.txt")
    try:
        (place / name).write_text("\n\n".join(f"Document {i} is here. It has text." for i in range(30)))
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    code, said = run(option, name, capsys)
    assert code in (0, 2, 3) and len(said) <= 1, said
    for line in said:
        assert "caf" in line and line.isascii(), line


def test_a_path():
    assert given_path("a/b", "x") == given_path(given_path("./a/b", "x"), "x")
    assert str(given_path("a:b", "x")) == "a:b" and str(given_path("/data/a://b", "x")) == "/data/a:/b"
    for bad in ("", "gs://b/x", "a\0b", "GS://b", "file:///tmp/x", "x" * 256, "é" * 128):
        with pytest.raises(ConfigError, match="--some is ") as caught:
            given_path(bad, "--some")
        assert caught.value.args[0].isprintable()
    assert given_path("é" * 127, "x").name == "é" * 127


def test_the_cache_is_no_address(place, capsys, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", "gs://bucket/cache")
    assert bertjax.train.__main__.main([*_TRAIN, "--config.data.corpus=text.txt"]) == 2
    assert "BERTJAX_CACHE is 'gs://bucket/cache', an address" in capsys.readouterr().err
    assert not (place / "gs:").exists()
