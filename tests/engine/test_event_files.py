"""TensorBoard's files: a disk that refuses, hangs, or a clock that jumps, never holds a run up or ends it."""

import threading
import time

import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from bertjax.engine import event_files
from bertjax.engine.event_files import EventFiles
from bertjax.engine.metrics_log import MetricsLog


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    for name, seconds in (("TOGETHER_SECONDS", 0.01), ("RETRY_SECONDS", 0.05), ("CLOSE_SECONDS", 2.0)):
        monkeypatch.setattr(event_files, name, seconds)


def events(folder):
    """(tag, step) of every scalar, and the steps from which earlier events are hidden, in all files of a folder."""
    scalars, hidden = [], []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while len(content) >= 12:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            scalars += [(value.tag, event.step) for value in event.summary.value]
            hidden += [event.step] * event.HasField("session_log")
    return scalars, hidden


def until(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_rows_become_scalars(tmp_path):
    log = MetricsLog(tmp_path, from_step=0, tensorboard=True)
    log.write({"kind": "train", "step": 1, "loss": 1.0, "phase": "phase1", "mfu": None, "good": True})
    log.rewind(0)
    log.write({"kind": "train", "step": 1, "loss": 2.0})
    log.close()
    assert events(tmp_path / "tensorboard") == ([("train/loss", 1), ("train/loss", 1)], [1, 1])


def test_two_logs_within_a_second_do_not_write_over_each_other(tmp_path):
    for step in (1, 2, 3):
        log = MetricsLog(tmp_path, from_step=step - 1, tensorboard=True)
        log.write({"kind": "train", "step": step, "loss": 1.0})
        log.close()
    assert sorted(events(tmp_path / "tensorboard")[0]) == [("train/loss", step) for step in (1, 2, 3)]


class Disk:
    """A writer's file on a disk that is full until there is room."""

    def __init__(self, path, is_full):
        self._writer, self._is_full = EventsWriter(str(path / "events"), f".{id(self)}"), is_full

    def write_event(self, event):
        self._writer.write_event(event)

    def flush(self):
        if self._is_full():
            raise OSError(28, "No space left on device")
        self._writer.flush()

    def close(self):
        self._writer.close()


def test_a_full_disk_is_one_warning_and_the_events_come_once_there_is_room(tmp_path, monkeypatch):
    full, said = threading.Event(), []
    full.set()
    monkeypatch.setattr(event_files, "_new_file", lambda folder: Disk(folder, full.is_set))
    (tmp_path / "tensorboard").mkdir()
    log = MetricsLog(tmp_path, from_step=0, tensorboard=True, say=said.append)
    for step in range(1, 101):
        log.write({"kind": "train", "step": step, "loss": 1.0})
        time.sleep(0.002)
    assert len(said) == 1 and "No space left on device); the run goes on, and they are written again" in said[0]
    full.clear()
    until(lambda: len(set(events(tmp_path / "tensorboard")[0])) == 100)
    log.close()
    assert len(said) == 1


def test_a_full_disk_keeps_no_more_than_it_should(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "MOST_WAITING", 50)
    full = threading.Event()
    full.set()
    files = EventFiles(tmp_path, 0, lambda folder: Disk(folder, full.is_set))
    for step in range(1, 500):
        files.write("train", step, {"loss": 1.0})
    until(lambda: files._has_failed)
    assert len(files._waiting) <= 50
    full.clear()
    files.close()
    assert ("train/loss", 499) in events(tmp_path)[0]  # the newest


def test_a_disk_that_does_not_answer_holds_nothing_up(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "CLOSE_SECONDS", 0.2)
    answers = threading.Event()

    def hang(folder):
        answers.wait(20)
        raise OSError(5, "Input/output error")

    began = time.monotonic()
    files = EventFiles(tmp_path, 0, hang)
    for step in range(50_000):
        files.write("train", step, {"loss": 1.0})
    files.close()
    assert time.monotonic() - began < 10
    answers.set()


@pytest.mark.parametrize("jump", [-1e6, 1e6, -time.time()], ids=["back", "ahead", "to 1970"])
def test_a_clock_that_jumps(jump, tmp_path, monkeypatch):
    honest, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: honest() + shift[0])
    files = EventFiles(tmp_path, 0)
    files.write("train", 1, {"loss": 1.0})
    until(lambda: len(events(tmp_path)[0]) == 1)
    shift[0] = jump
    for step in range(2, 40):
        files.write("train", step, {"loss": 1.0})
    files.close()
    assert len(events(tmp_path)[0]) == 39 and files.warning() is None


def test_a_folder_that_is_gone_is_not_made_again(tmp_path):
    files = EventFiles(tmp_path / "run" / "tensorboard", 0)
    files.write("train", 1, {"loss": 1.0})
    files.close()
    assert "No such file" in files.warning() and not (tmp_path / "run").exists()


def test_nothing_is_written_to_a_folder_that_took_the_place_of_the_workdir(tmp_path, monkeypatch):
    """The disk refuses the first rows, and would take them in the end."""
    asked, new_file = [], event_files._new_file

    def open_file(folder):
        asked.append(folder)
        if len(asked) == 1:
            raise OSError("away")
        return new_file(folder)

    monkeypatch.setattr(event_files, "_new_file", open_file)
    monkeypatch.setattr(event_files, "RETRY_SECONDS", 60.0)
    workdir = tmp_path / "run"
    workdir.mkdir()
    log = MetricsLog(workdir, from_step=0, tensorboard=True)
    until(lambda: asked)
    workdir.rename(tmp_path / "moved")
    workdir.mkdir()
    log.close()
    assert list(workdir.iterdir()) == []
