from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bertjax.prepare import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text("\n\n".join(f"Document {i} is here. It says little." for i in range(20)))
    return tmp_path


def test_prepares_and_says_what(text, capsys):
    assert main(["--input=a.txt", "--output=out", "--vocab_size=100"]) == 0
    printed = capsys.readouterr()
    assert "out: wordpiece tokenizer of 100 entries" in printed.out
    assert "18 documents, 36 sentences" in printed.out and "2 documents, 4 sentences" in printed.out
    assert "reading ..." in printed.err  # plain lines: standard error is no terminal here
    assert (text / "out/manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--output=out"], 2, "--input"),
        (["--input=a.txt"], 2, "--output"),
        (["--input=a.txt", "--output=out", "--vocab_size=many"], 2, "--vocab_size"),
        (["--input=a.txt", "--output=out", "--vocab_size=7"], 2, "too small"),
        (["--input=a.txt", "--output=out", "--lowercase=maybe"], 2, "must be true or false"),
        (["--input=a.txt", "--output=out", "--held_out_fraction=2"], 2, "from 0 to 0.5"),
        (["--input=a.txt", "--output=out", "--character_coverage=0.5"], 2, "from 0.9 to 1"),
        (["--input=a.txt", "--output=out", "--inptu=b.txt"], 2, "unrecognized arguments"),
        (["--input=a.txt", "--output=out", "--tokenizer=nowhere"], 2, "nowhere does not exist"),
        (["--input=b.txt", "--output=out"], 3, "corpus b.txt does not exist"),
        (["--input=empty.txt", "--output=out"], 3, "the corpus is empty"),
        (["--input=bad.jsonl", "--output=out"], 3, "none of its 1 lines"),
    ],
)
def test_mistakes_take_one_line(text, capsys, arguments, code, message):
    (text / "empty.txt").write_text("")
    (text / "bad.jsonl").write_text("no json\n")
    assert main(arguments) == code
    errors = [line for line in capsys.readouterr().err.split("\n") if line and not line.endswith("...")]
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert not (text / "out").exists()


def test_invalid_bytes_are_told(text, capsys):
    (text / "c.txt").write_bytes(b"One \xff here.\n\nTwo \x00 there.\n\n" + b"And so on. " * 50)
    assert main(["--input=c.txt", "--output=out", "--vocab_size=100"]) == 0
    assert "2 invalid bytes were replaced" in capsys.readouterr().out


def test_help_answers_at_once():
    begin = time.monotonic()
    command = [sys.executable, "-m", "bertjax.prepare", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    assert time.monotonic() - begin < 2
    assert "installed-docs" in done.stdout and "tfds:NAME" in done.stdout
