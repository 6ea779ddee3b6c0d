"""Known mistakes are one line and an exit code."""

import errno

import pytest

from bertjax.command import DATA, STOPPED, USAGE, guarded
from bertjax.config import ConfigError
from bertjax.train import Stopped


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
