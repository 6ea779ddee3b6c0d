"""Names that are not UTF-8, which file systems allow: read everywhere, refused at once where nothing can be written."""

import os
from pathlib import Path

import pytest

TINY = f"--config={Path(__file__).parent.parent / 'configs' / 'tiny.py'}"
FINETUNE = f"--config={Path(__file__).parent.parent / 'configs' / 'finetune' / 'classification.py'}"
TEXT = "One sentence. Another one.\n\nA third one. And a last.\n" * 50


@pytest.fixture
def odd(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9\x1b[2J")
    try:
        folder.mkdir()
    except (OSError, UnicodeEncodeError):
        pytest.skip("a file system that takes UTF-8 alone")
    (folder / "corpus.txt").write_text(TEXT)
    return folder


def refused(capsys, code, words):
    assert code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert "caf\\udce9\\x1b[2J" in err and "is not UTF-8" in err


@pytest.mark.parametrize("how", ["given", "current folder"])
def test_a_workdir_where_no_checkpoint_can_be_written(how, odd, capsys, monkeypatch):
    from bertjax.finetune.__main__ import main as finetune
    from bertjax.train.__main__ import main as train

    monkeypatch.chdir(odd)
    workdir = f"--workdir={odd / 'run'}" if how == "given" else "--workdir=run"
    refused(capsys, train([TINY, "--config.data.corpus=corpus.txt", workdir]), "workdir")
    refused(capsys, finetune([FINETUNE, "--model=m", "--train=t", "--eval=t", workdir]), "workdir")
    assert not (odd / "run").exists()


def test_a_corpus_that_cannot_be_written_there_and_one_that_is_read_there(odd, tmp_path, capsys, monkeypatch):
    from bertjax.prepare import main as prepare
    from bertjax.train.__main__ import main as train

    arguments = [f"--input={odd / 'corpus.txt'}", "--vocab_size=60"]
    refused(capsys, prepare([*arguments, f"--output={odd / 'corpus'}"]), "output")
    assert prepare([*arguments, f"--output={tmp_path / 'corpus'}"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("BERTJAX_CACHE", str(odd / "cache"))
    command = [TINY, f"--config.data.corpus={odd / 'corpus.txt'}", f"--workdir={tmp_path / 'run'}"]
    refused(capsys, train([*command, "--config.model.vocab_size=60"]), "cache folder")
