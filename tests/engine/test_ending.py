"""Whatever ends a loop, logs are closed, saves are finished, and the first error is the one that is told."""

import contextlib

import pytest

from bertjax.engine.fit import orderly_end
from bertjax.errors import CheckpointError, Diverged


class Watched:
    """Recorder, checkpoints and progress in one, which notes what is done."""

    def __init__(self, close_fails=False):
        self.done, self._fails = [], close_fails

    def close(self):
        self.done.append("close")
        if self._fails and len(self.done) > 2:  # the checkpoints are the second to be closed
            raise CheckpointError("the disk is full")

    @contextlib.contextmanager
    def pause(self, stage):
        self.done.append(stage)
        yield


def test_after_the_end():
    all_in_one = Watched()
    with orderly_end(all_in_one, all_in_one, all_in_one, all_in_one.done.append):
        pass
    assert all_in_one.done == ["close", "saving", "close"]


def test_a_save_that_fails_too_does_not_hide_why():
    all_in_one = Watched(close_fails=True)
    with pytest.raises(Diverged), orderly_end(all_in_one, all_in_one, all_in_one, all_in_one.done.append):
        raise Diverged("no way back")
    assert all_in_one.done == ["close", "saving", "close", "no way back"]


def test_a_save_that_fails_at_the_end_is_told():
    all_in_one = Watched(close_fails=True)
    with pytest.raises(CheckpointError), orderly_end(all_in_one, all_in_one, all_in_one, all_in_one.done.append):
        pass
