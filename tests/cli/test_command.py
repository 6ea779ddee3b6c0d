"""Known mistakes are one line and an exit code."""

import errno
import runpy
import subprocess
import sys

import pytest

from bertjax import __main__ as console
from bertjax import memory
from bertjax.cli.command import guarded
from bertjax.errors import DATA, STOPPED, USAGE, ConfigError, Stopped


def raising(error):
    def job():
        raise error

    return guarded(job)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("no such\n  key"), USAGE, "error: no such key\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            DATA,
            "error: cannot open a/b: Permission denied\n",
        ),
        (OSError(errno.ENOSPC, "No space left", "a/b"), DATA, "error: cannot write a/b: No space left\n"),
        (OSError(errno.ENOSPC, "No space left"), DATA, "error: cannot write: No space left\n"),
        (OSError(errno.EISDIR, "Is a directory", "a/b"), DATA, "error: cannot write a/b: Is a directory\n"),
        (OSError(errno.ESTALE, "Stale file handle"), DATA, "error: cannot write: Stale file handle\n"),
    ],
)
def test_one_line_on_standard_error(error, code, said, capsys):
    assert raising(error) == code
    assert capsys.readouterr() == ("", said)


def test_a_stop_is_no_error(capsys):
    assert raising(Stopped("saved at step 3")) == STOPPED
    assert capsys.readouterr() == ("saved at step 3\n", "")


def test_what_nobody_has_foreseen_keeps_its_traceback():
    with pytest.raises(OSError, match="strange"):
        raising(OSError(errno.EIO, "strange"))


FILLS_TWICE = """
import resource, sys, threading
import numpy as np
from bertjax.memory import keep_memory

if sys.argv[1] == "kept":
    keep_memory()

def faults_of_filling():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(64 << 20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def twice():
    faults_of_filling()
    print(faults_of_filling())

thread = threading.Thread(target=twice)  # as XLA's are
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
@pytest.mark.parametrize(("how", "few"), [("kept", True), ("default", False)])
def test_pages_of_a_freed_block_are_there_for_the_next(how, few, monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    # Small pages only, as on most machines: one page of 2 MB would be one fault.
    monkeypatch.setenv("NUMPY_MADVISE_HUGEPAGE", "0")
    result = subprocess.run([sys.executable, "-c", FILLS_TWICE, how], capture_output=True, text=True, check=True)
    faults = int(result.stdout)
    assert faults < 1000 if few else faults > 10_000


def as_module(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["python", "--help"])
    runpy.run_module(f"bertjax.{name}", run_name="__main__", alter_sys=False)


def as_console_script(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bertjax", name, "--help"])
    console.script()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # of runpy: other tests have imported it
@pytest.mark.parametrize("name", console.COMMANDS)
def test_a_command_is_the_same_however_it_is_called(name, monkeypatch, capsys):
    seen = []
    for start in (as_module, as_console_script):
        heaps = []
        monkeypatch.setattr(memory, "_set_heaps", heaps.append)
        with pytest.raises(SystemExit) as left:
            start(name, monkeypatch)
        seen.append((heaps, left.value.code, capsys.readouterr()))
    assert seen[0] == seen[1] and seen[0][1] == 0
    assert bool(seen[0][0]) == (name in ("train", "finetune"))


def test_a_function_that_is_called_from_python_leaves_the_heaps_alone(monkeypatch, capsys):
    monkeypatch.setattr(memory, "_set_heaps", lambda settings: pytest.fail("the caller's process is its own"))
    assert console.main(["train", "--help"]) == 0
