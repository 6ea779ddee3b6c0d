"""What is compiled is kept: where, for whom, how much of it; and what a second start compiles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertjax import compile_cache
from bertjax.compile_cache import (
    FOLDER,
    forget_compiled_programs,
    is_private,
    keep_compiled_programs,
    programs_folder,
    remove_damaged,
)

zstandard = pytest.importorskip("zstandard")
ROOT = Path(__file__).parent.parent
SETTINGS = (
    FOLDER,
    "JAX_COMPILATION_CACHE_MAX_SIZE",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An environment in which nobody has chosen a folder for programs; the cache folder."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is restored at the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def add(folder, name, content=b"program" * 1000, last_use=None, cut=None):
    entry = folder / f"{name}-cache"
    entry.write_bytes(zstandard.ZstdCompressor().compress(content)[:cut])
    if last_use is not None:
        stamp = folder / f"{name}-atime"
        stamp.write_bytes(b"12345678")
        os.utime(stamp, (last_use, last_use))
    return entry


def names(folder):
    return sorted(path.name.removesuffix("-cache") for path in folder.glob("*-cache"))


def test_a_private_folder_is_made_and_named_to_jax(fresh):
    keep_compiled_programs()
    folder = Path(os.environ[FOLDER])
    assert folder == programs_folder() and folder.parent == fresh
    assert folder.stat().st_mode & 0o777 == 0o700
    assert int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"]) == compile_cache.MOST_BYTES
    forget_compiled_programs()
    assert FOLDER not in os.environ


def test_the_users_own_folder_is_left_alone(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path / "own"))
    keep_compiled_programs()
    forget_compiled_programs()
    assert os.environ[FOLDER] == str(tmp_path / "own")
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ
    assert not fresh.exists()


def test_a_folder_that_cannot_be_made_is_no_error(fresh):
    fresh.write_text("a file")
    keep_compiled_programs()
    assert FOLDER not in os.environ


def test_a_user_without_a_home(fresh, monkeypatch):
    monkeypatch.delenv("BERTJAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    keep_compiled_programs()
    forget_compiled_programs()
    assert FOLDER not in os.environ


def test_programs_of_others_are_not_loaded(fresh):
    folder = programs_folder()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert not is_private(folder)
    keep_compiled_programs()
    assert FOLDER not in os.environ
    folder.chmod(0o700)
    assert is_private(folder)
    (fresh / "link").symlink_to(folder)
    assert not is_private(fresh / "link")


def test_machines_of_another_kind_have_another_folder(fresh, monkeypatch):
    here = programs_folder()
    monkeypatch.setattr(compile_cache.platform, "machine", lambda: "another")
    assert programs_folder() != here


def test_what_a_killed_process_left_is_removed(tmp_path):
    add(tmp_path, "whole", last_use=1e9)
    add(tmp_path, "half", content=os.urandom(100_000), last_use=1e9, cut=50_000)
    add(tmp_path, "empty", last_use=1e9, cut=0)
    add(tmp_path, "without-stamp")
    assert remove_damaged(tmp_path)
    assert names(tmp_path) == ["whole"]
    assert not (tmp_path / "half-atime").exists()


def test_entries_are_read_once(tmp_path, monkeypatch):
    old = add(tmp_path, "old", last_use=1e9)
    os.utime(old, (1e9, 1e9))
    read, is_whole = [], compile_cache._is_whole
    monkeypatch.setattr(compile_cache, "_is_whole", lambda entry: read.append(entry.name) or is_whole(entry))
    remove_damaged(tmp_path)
    add(tmp_path, "new", last_use=1e9)
    remove_damaged(tmp_path)
    assert read == ["old-cache", "new-cache"]


def test_the_entries_longest_unused_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "MOST_ENTRIES", 2)
    for age, name in enumerate("dbac"):
        add(tmp_path, name, last_use=2e9 - age)
    remove_damaged(tmp_path)
    assert names(tmp_path) == ["b", "d"]


def test_a_folder_in_use_is_not_waited_for(tmp_path):
    import filelock

    add(tmp_path, "half", last_use=1e9, cut=3)
    with filelock.FileLock(tmp_path / ".lockfile"):
        assert remove_damaged(tmp_path)
    assert names(tmp_path) == ["half"]


def test_a_second_start_compiles_nothing_and_trains_the_same(fresh, tmp_path):
    """Every compile request that finds no entry leaves one, as no program is too small."""
    text = "".join(f"Document {n} says something. It goes on here. And ends so.\n\n" for n in range(300))
    (tmp_path / "corpus.txt").write_text(text)
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"  # the last counts
    environment = os.environ | {"XLA_FLAGS": flags}
    sizes = ("vocab_size=300", "hidden_size=16", "intermediate_size=16", "num_hidden_layers=1")
    command = [
        *(sys.executable, "-m", "bertjax.train", "--config=tiny", f"--config.data.corpus={tmp_path / 'corpus.txt'}"),
        *(f"--config.model.{size}" for size in sizes),
        *("--config.data.held_out_fraction=0.2", "--config.phases.phase1.steps=3", "--config.phases.phase2.steps=2"),
    ]

    def start(name):
        done = subprocess.run(
            [*command, f"--workdir={tmp_path / name}"],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning: Error" not in done.stderr
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        deterministic = [
            {key: value for key, value in row.items() if key not in ("seconds", "tokens_per_second", "mfu")}
            for row in rows
        ]
        return deterministic, (tmp_path / name / "model" / "model.safetensors").read_bytes()

    folder = programs_folder()
    first, kept = start("first"), names(folder)
    assert any("train_step" in name for name in kept)
    assert start("second") == first
    assert names(folder) == kept
