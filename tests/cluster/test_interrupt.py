"""A run that stalls raises in whoever called it; the interpreter stays."""

import queue
import signal
import threading
import time

import pytest

from bertjax.cluster.processes import distributed_run
from bertjax.cluster.watchdog import IN_STEP, interruptible
from bertjax.errors import LOST, Stalled, exit_code


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """Whoever starts the tests in the background of a script has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def busy():
    while True:
        time.sleep(0.01)


def asleep():
    time.sleep(30)


def waiting_for_a_queue():
    queue.Queue().get()


def waiting_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def swallows_errors():
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def in_a_thread(job):
    result = []

    def run():
        try:
            job()
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    if result:
        raise result[0]


def here(job):
    job()


def stalls(tmp_path, job):
    with distributed_run(None, None, 0.3, tmp_path) as processes:
        processes.progress.at(IN_STEP, 5)
        job()


@pytest.mark.parametrize(
    ("place", "job"),
    [
        (here, busy),
        (here, asleep),
        (here, waiting_for_a_queue),
        (here, waiting_for_a_lock),
        (here, swallows_errors),
        (in_a_thread, busy),
        (in_a_thread, swallows_errors),
    ],
)
def test_a_run_that_stalls_raises_where_it_was_called(place, job, tmp_path, capfd):
    began = time.monotonic()
    with pytest.raises(Stalled, match=r"no progress at step 5 \(in the step\).*raise config.parallel.watchdog_seconds"):
        place(lambda: stalls(tmp_path, job))
    assert time.monotonic() - began < 10
    assert job.__name__ in capfd.readouterr().err  # where every thread stands
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    time.sleep(0.1)  # nothing is raised any more


@pytest.mark.parametrize("job", [busy, waiting_for_a_queue, waiting_for_a_lock])
def test_in_the_background_of_a_script_too_where_ctrl_c_is_ignored(job, tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(Stalled):
        stalls(tmp_path, job)
    with interruptible():
        signal.raise_signal(signal.SIGINT)  # the user's own stays ignored
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_callers_own_handler_of_ctrl_c_is_not_called(tmp_path):
    called = []
    before = signal.signal(signal.SIGINT, lambda *what: called.append(what))
    try:
        with pytest.raises(Stalled):
            stalls(tmp_path, busy)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not called


def test_a_thread_within_native_code_is_told_and_raises_when_it_comes_back(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("bertjax.cluster.watchdog.RELUCTANT_SECONDS", 0.3)
    with pytest.raises(Stalled):
        in_a_thread(lambda: stalls(tmp_path, lambda: time.sleep(1.5)))
    assert "warning: no progress at step 5" in (said := capfd.readouterr().err) and "in native code" in said


def test_ctrl_c_of_the_user_stays_what_it_is():
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGINT)


def test_after_the_block_nothing_is_raised():
    with interruptible() as interruption:
        pass
    interruption.interrupt(Stalled("too late"))
    time.sleep(0.1)


def test_who_wants_something_else_says_so(tmp_path):
    stalled = []
    with distributed_run(None, None, 0.3, tmp_path, lambda progress: stalled.append(progress.step)) as processes:
        processes.progress.at(IN_STEP, 7)
        time.sleep(1.0)
    assert stalled == [7]
    assert exit_code(Stalled("")) == LOST


def test_a_block_within_another_lets_the_outer_ones_error_pass_and_raises_its_own():
    for which in (0, 1):
        errors = [Stalled("outer"), Stalled("inner")]
        with pytest.raises(Stalled) as raised, interruptible() as outer, interruptible() as inner:
            (outer, inner)[which].interrupt(errors[which])
            busy()
        assert raised.value is errors[which]
