"""The secret of a run: private, new at every start, gone when all have met."""

import os
import stat
from pathlib import Path

import pytest

from bertjax.cluster import secret as secrets
from bertjax.cluster.secret import FILE, VARIABLE, shared_secret
from bertjax.errors import ConfigError


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_the_file_is_private_and_goes_when_all_have_met(tmp_path):
    workdir = tmp_path / "run"
    before = os.umask(0)
    try:
        with shared_secret(workdir, first=True, environ={}) as ours, shared_secret(workdir, False, {}) as theirs:
            assert ours() == theirs() and len(ours()) == 64
            assert stat.S_IMODE((workdir / FILE).stat().st_mode) == 0o600
            assert names(workdir) == [FILE]
    finally:
        os.umask(before)
    assert names(workdir) == []


def test_every_start_has_a_new_one_and_removes_only_its_own(tmp_path):
    with shared_secret(tmp_path, first=True, environ={}) as one:
        with shared_secret(tmp_path, first=False, environ={}) as late, shared_secret(tmp_path, True, {}) as other:
            assert one() != other() == late()
        with shared_secret(tmp_path, first=True, environ={}):
            (tmp_path / FILE).rename(tmp_path / "kept")
            (tmp_path / FILE).write_bytes(b"of somebody else")
            (tmp_path / FILE).chmod(0o600)
    assert (tmp_path / FILE).read_bytes() == b"of somebody else"


def test_the_variable_needs_no_file(tmp_path):
    with shared_secret(tmp_path, first=True, environ={VARIABLE: "a long random text"}) as read:
        assert read() == b"a long random text" and names(tmp_path) == []
    short = shared_secret(tmp_path, first=False, environ={VARIABLE: "short"})
    with pytest.raises(ConfigError, match=f"{VARIABLE} must have 16 characters"), short:
        pass


def linked(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: path.chmod(0o644), "mode 0644"),
        (lambda path: path.chmod(0o620), "mode 0620"),
        (lambda path: path.write_bytes(b""), "does not hold a secret"),
        (lambda path: (path.unlink(), path.mkdir()), "not a file"),
        (lambda path: (path.unlink(), os.mkfifo(path, 0o600)), "not a file"),
        (lambda path: path.unlink(), "No such file"),
        (linked, "symbolic links"),
    ],
)
def test_a_file_that_others_could_have_made_or_read_is_not_believed(harm, words, tmp_path):
    with shared_secret(tmp_path, first=True, environ={}), shared_secret(tmp_path, False, {}) as read:
        harm(tmp_path / FILE)
        with pytest.raises((OSError, ValueError), match=words):
            read()


def test_a_file_of_another_user_is_not_believed(tmp_path, monkeypatch):
    with shared_secret(tmp_path, first=True, environ={}), shared_secret(tmp_path, False, {}) as read:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(ValueError, match="not 0600 and 12345"):
            read()


def test_a_file_system_that_keeps_nothing_private_is_told(tmp_path, monkeypatch):
    make = secrets.tempfile.mkstemp

    def everybody_reads(**options):
        handle, name = make(**options)
        Path(name).chmod(0o644)
        return handle, name

    monkeypatch.setattr(secrets.tempfile, "mkstemp", everybody_reads)
    with pytest.raises(ConfigError, match=f"cannot keep a file private; set {VARIABLE}"):
        shared_secret(tmp_path, first=True, environ={}).__enter__()
    assert names(tmp_path) == []


@pytest.mark.parametrize("first", [True, False])
def test_a_workdir_that_cannot_be_written_is_told_by_each_process(first, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="cannot write to workdir"):
        shared_secret(tmp_path / "file" / "run", first, {}).__enter__()
