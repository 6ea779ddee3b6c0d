"""Every error a user can meet, each with the exit code of a command that ends with it.

Exit codes: 0 done; 2 usage or config, also a workdir of another run or in use; 3 data, model files or checkpoints; 4
the run diverged or failed its own checks; 71 another process was lost or stalled; 75 stopped by a signal with
everything saved; 130 interrupted. After 71 and 75 the same command goes on.
"""

import errno
from pathlib import Path

UNKNOWN, USAGE, DATA, DIVERGED, LOST, STOPPED = 1, 2, 3, 4, 71, 75
INTERRUPTED = 130  # by Ctrl-C, as shells have it; training saves and stops instead

# A full disk, a quota, a file size limit, a folder that may not be written to, a file in place of a folder or the other
# way round, a stale handle on a network file system: no traceback helps there.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_CANNOT_WRITE += (errno.ENOTDIR, errno.EISDIR, errno.ESTALE)


class ConfigError(ValueError):
    """A config that cannot be run, or a command line that cannot be used. The message is one line."""

    exit_code = USAGE


class DataError(ValueError):
    """A corpus or labelled data that cannot be used. The message is one line."""

    exit_code = DATA


class ModelFileError(ValueError):
    """Model files that cannot be used. The message is one line."""

    exit_code = DATA


class CheckpointError(Exception):
    """A checkpoint that could not be written or read."""

    exit_code = DATA


class WorkdirGone(CheckpointError):
    """The workdir was removed or moved during the run: nothing more is written, neither there nor where it was."""

    def __init__(self, workdir: Path):
        super().__init__(f"workdir {workdir} was removed or moved while the run was in it; the run ends")


class Diverged(Exception):
    """The run's numbers are no longer finite."""

    exit_code = DIVERGED


class Regression(Exception):
    """A measured figure is worse than the one it is held against."""

    exit_code = DIVERGED


class Lost(Exception):
    """Another process is missing; the same command, started again on all of them, goes on."""

    exit_code = LOST


class Stalled(Exception):
    """No progress for ``config.parallel.watchdog_seconds``; started again, the run continues from its checkpoint."""

    exit_code = LOST


class Stopped(Exception):
    """The run was asked to stop and has saved everything; started again, it goes on."""

    exit_code = STOPPED


def exit_code(error: BaseException) -> int:
    """The exit code of an error; ``UNKNOWN`` for one that nobody foresaw."""
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return DATA
    return getattr(error, "exit_code", UNKNOWN)
