"""Output that goes away, whichever way, ends nothing; closed files are never mistaken for others."""

import io
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from bertjax import __main__ as console
from bertjax.cli.command import printing
from bertjax.cli.progress import Display
from bertjax.cli.streams import LastingStream, prepared_streams
from bertjax.cluster.training_command import run_in_cluster
from bertjax.errors import DATA, INTERRUPTED

ROOT = Path(__file__).parent.parent.parent
ROW = {"phase": "phase1", "step": 3, "loss": 1.0, "learning_rate": 1e-3}


def hung_up():
    """A stream on a terminal that is gone."""
    terminal, screen = pty.openpty()
    os.close(terminal)
    return os.fdopen(screen, "w")


def full():
    return Path("/dev/full").open("w")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.fixture(params=["broken pipe", "terminal that hung up", "full disk", "closed by the caller", "None"])
def gone(request, broken_pipe):
    if request.param == "full disk" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    makers = {"terminal that hung up": hung_up, "full disk": full, "closed by the caller": closed}
    makers |= {"broken pipe": lambda: broken_pipe, "None": lambda: None}
    stream = makers[request.param]()
    yield stream
    if stream is not None:
        stream.close()  # what was written must not fail now either


def test_a_stream_that_nobody_reads(gone):
    stream = LastingStream(gone)
    for _ in range(3):
        assert print("x" * 100_000, file=stream, flush=True) is None
    assert stream.isatty() is False and stream.encoding


def test_a_display_goes_on_without_its_terminal(gone, monkeypatch):
    monkeypatch.setattr("sys.stdout", gone)
    display = Display()
    display.say("begins")
    display.begin(0, 10)
    display.show(ROW, milestone=True)
    display.end()


def test_a_live_display_goes_on_when_its_terminal_hangs_up(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, screen = pty.openpty()
    with os.fdopen(screen, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        display = Display()
        display.begin(0, 10)
        assert display._progress is not None
        display.show(ROW | {"phase": "[/odd] \x1b[2J"}, milestone=True)
        display._progress.refresh()
        seen = ""
        while "[/odd] \\x1b[2J" not in seen:  # as much as there is comes at a time
            assert select.select([terminal], [], [], 20)[0], seen
            seen += os.read(terminal, 65536).decode()
        os.close(terminal)
        display.show(ROW, milestone=True)
        display._progress.refresh()
        display.end()


def test_a_job_ends_with_its_own_exit_code_whoever_watches(gone, monkeypatch):
    for name in ("sys.stdout", "sys.stderr"):
        monkeypatch.setattr(name, gone)
    done = []

    def job(stop):
        print("on standard output", flush=True)
        print("on standard error", file=sys.stderr, flush=True)
        done.append(True)

    assert run_in_cluster(None, job) == 0 and done


def test_streams_are_given_back(capsys):
    before = sys.stdout, sys.stderr
    with prepared_streams("stderr", "stdout"):
        print("seen", flush=True)
        print("caf\u00e9 \udcff")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "seen\ncaf\u00e9 \\udcff\n"


def test_a_narrow_standard_output_takes_any_character(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", narrow)
    assert run_in_cluster(None, lambda stop: print("café \udcff")) == 0
    assert narrow.buffer.getvalue() == b"caf\\xe9 \\udcff\n"


@pytest.mark.parametrize("name", [None, *console.COMMANDS])
def test_help_for_a_full_disk_or_nobody(name, broken_pipe, capsys):
    for stream, code, said in ((full(), DATA, "error: cannot write: No space left on device\n"), (broken_pipe, 0, "")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", stream)
            assert console.main([*([name] if name else []), "--help"]) == code
        assert capsys.readouterr() == ("", said)
        stream.close()


OPENS = """
import os, sys
from bertjax.cli.command import run_as_process
def main():
    print("into nothing", flush=True)
    print("into nothing", file=sys.stderr, flush=True)
    with open(sys.argv[1], "w") as file:
        os.write(1, b"a library's message")
        os.write(2, b"a library's message")
        file.write(str(file.fileno() > 2))
    return 5
run_as_process(main)
"""


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_file_never_becomes_a_closed_standard_output(closing, tmp_path):
    """Else what is printed goes into a checkpoint."""
    script = f'exec {closing} "$0" -c "$1" "$2"'
    command = ["bash", "-c", script, sys.executable, OPENS, str(tmp_path / "file")]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 5
    assert (tmp_path / "file").read_text() == "True"


def test_ctrl_c_is_one_line(capsys):
    def job():
        raise KeyboardInterrupt

    assert printing(job) == INTERRUPTED
    assert capsys.readouterr() == ("", "error: interrupted\n")
