"""How a loop of training ends, whatever ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bertjax.cluster.watchdog import Heartbeat
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.recorder import Recorder
from bertjax.errors import CheckpointError, WorkdirGone


@contextlib.contextmanager
def orderly_end(
    recorder: Recorder, checkpoints: Checkpoints, progress: Heartbeat, report: Callable[[str], None]
) -> Iterator[None]:
    """After the block the log is closed and a save that has begun is finished. What ended the block early is handed to
    ``report``, and raised even where that save fails too."""
    try:
        yield
    except BaseException as error:
        recorder.close()
        with progress.pause("saving"), contextlib.suppress(CheckpointError):
            checkpoints.close()
        if isinstance(error, Exception) and not isinstance(error, WorkdirGone):
            report(str(error))
        raise
    recorder.close()
    with progress.pause("saving"):
        checkpoints.close()
