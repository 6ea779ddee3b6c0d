"""What signals ask of a run, and a run that nobody watches any more."""

import os
import shutil
import signal

import pytest

import bertjax.train
from bertjax.cluster.training_command import StopRequest, run_in_cluster


class Left(BaseException):
    pass


@pytest.fixture
def leaving(monkeypatch):
    """Leaving at once becomes ``Left``; nothing is inherited from whoever started the tests."""

    def leave(code):
        raise Left(code)

    monkeypatch.setattr("os._exit", leave)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_asks_a_run_to_save_and_stop(number, leaving):
    with StopRequest() as stop:
        assert not stop(1)
        os.kill(os.getpid(), number)
        assert stop(2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_before_the_first_step_there_is_nothing_to_save(number, leaving):
    with StopRequest(), pytest.raises(Left, match="75"):
        os.kill(os.getpid(), number)


def test_who_asks_twice_does_not_want_to_wait(leaving):
    with StopRequest() as stop:
        stop(1)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Left, match="75"):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("order", [("SIGHUP", "SIGHUP"), ("SIGTERM", "SIGHUP"), ("SIGHUP", "SIGTERM", "SIGHUP")])
def test_a_hang_up_is_never_the_second_one(order, leaving):
    """A shell and the kernel each send one, and service managers send one after their SIGTERM."""
    with StopRequest() as stop:
        stop(1)
        for name in order:
            os.kill(os.getpid(), getattr(signal, name))
        assert stop(2)


def test_nohup_is_heeded(leaving):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        stop(1)
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop(2)


def test_handlers_are_given_back(leaving):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with StopRequest():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


@pytest.mark.parametrize("stream", ["broken", None])
def test_a_run_comes_to_its_end_without_anyone_watching(stream, finished, config, tmp_path, monkeypatch, broken_pipe):
    workdir = shutil.copytree(finished, tmp_path / "run")
    (workdir / "summary.json").unlink()
    for name in ("sys.stdout", "sys.stderr"):
        monkeypatch.setattr(name, broken_pipe if stream else None)
    assert run_in_cluster(None, lambda stop: bertjax.train.run(config, workdir, should_stop=stop)) == 0
    assert (workdir / "summary.json").is_file()


def test_from_python_too(finished, config, tmp_path, monkeypatch, broken_pipe):
    workdir = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr("sys.stdout", broken_pipe)
    assert bertjax.train.run(config, workdir)["steps"] == 10
