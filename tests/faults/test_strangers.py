"""Some seconds of strangers at two processes that add up numbers, and at none: what they train is the catalogue's."""

import contextlib
import subprocess
import sys
import time

from runs import _free_port
from scene import ROOT
from strangers import Crowd, Most, held_more, noise

SECONDS = 5.0


class Adding:
    """The two processes."""

    def __init__(self, folder):
        folder.mkdir()
        self.port, self.most = _free_port(), [Most(), Most()]
        self.logs = [folder / f"log{index}" for index in range(2)]
        script = ROOT / "tests" / "faults" / "adding.py"
        self.processes = []
        for index, log in enumerate(self.logs):
            arguments = [str(script), str(self.port), str(index), str(folder / "run"), str(SECONDS)]
            with log.open("w") as output:
                command = [sys.executable, *arguments]
                self.processes.append(subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output))

    def runs(self):
        return any(process.poll() is None for process in self.processes)

    def look(self):
        for one, process in zip(self.most, self.processes, strict=True):
            one.look(process.pid)

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def sums(self):
        return [[line for line in log.read_text().split("\n") if "0x" in line] for log in self.logs]


def test_strangers_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XLA_FLAGS", "")  # one device a process
    crowd, alone, run = Crowd(0, 300), Adding(tmp_path / "alone"), Adding(tmp_path / "run")
    with contextlib.ExitStack() as after:
        after.callback(alone.end)
        after.callback(run.end)
        after.enter_context(crowd.at(run.port + 1))
        limit = time.monotonic() + 100
        while (alone.runs() or run.runs()) and time.monotonic() < limit:
            alone.look()
            run.look()
            time.sleep(0.1)
    logs = [log.read_text() for log in (*alone.logs, *run.logs)]
    assert [process.returncode for process in (*alone.processes, *run.processes)] == [0] * 4, logs
    assert run.sums() == alone.sums() and list(map(len, run.sums())) == [20, 20]
    assert [*held_more(run.most, alone.most), *noise(logs[2]), *crowd.missed()] == []
