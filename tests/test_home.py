"""A user without a home: containers run under numbers that no passwd entry knows."""

from pathlib import Path

import pytest

from bertjax.data.corpus.placing import cache_folder
from bertjax.errors import ConfigError

TINY = f"--config={Path(__file__).parent.parent / 'configs' / 'tiny.py'}"


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME", "BERTJAX_CACHE", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


def test_the_cache_has_no_place(homeless, monkeypatch):
    with pytest.raises(ConfigError, match="BERTJAX_CACHE"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/bertjax")
    monkeypatch.setenv("BERTJAX_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


def test_training_names_the_variable(homeless, tmp_path, capsys):
    from bertjax.train.__main__ import main

    (tmp_path / "corpus.txt").write_text("One sentence. Another one.\n\nA third one. And a last.\n" * 50)
    assert main([TINY, "--config.data.corpus=corpus.txt", "--workdir=run"]) == 2
    assert "BERTJAX_CACHE" in one_line(capsys)


@pytest.mark.parametrize("source", ["tfds:some_set", "~/texts.txt", "~nobody-of-this-name/x.txt"])
def test_preparing_is_one_line(source, homeless, capsys):
    from bertjax.prepare import main

    assert main([f"--input={source}", "--output=corpus"]) in (2, 3)
    one_line(capsys)


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    from bertjax.train.__main__ import main

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    for name in ("XDG_CACHE_HOME", "BERTJAX_CACHE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "corpus.txt").write_text("One sentence. Another one.\n\nA third one. And a last.\n" * 50)
    arguments = [f"--config.data.corpus={tmp_path / 'corpus.txt'}", f"--workdir={tmp_path / 'run'}"]
    assert main([TINY, *arguments, "--config.model.vocab_size=60"]) == 3
    assert "BERTJAX_CACHE" in one_line(capsys)
