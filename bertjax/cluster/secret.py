"""A secret that the processes of a run share: an environment variable, or a private file in their workdir."""

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bertjax.errors import ConfigError

VARIABLE = "BERTJAX_CLUSTER_SECRET"
FILE = ".bertjax-secret"  # in the workdir, while the processes of a start meet; FILE.* while it is written
_LEAST_CHARACTERS = 16
_MOST_BYTES = 4096


@contextlib.contextmanager
def shared_secret(workdir: Path, first: bool, environ: Mapping[str, str] = os.environ) -> Iterator[Callable[[], bytes]]:
    """Within the block ``read()`` returns the current secret.

    Without the variable, process 0 (``first``) makes a new file at every start and removes it after the block. A late
    process may still find the file of an earlier start, so it reads again when it is rejected. ``read`` raises OSError
    or ValueError if there is no secret to trust.

    Raises ConfigError if the variable is too short, or if the file cannot be written or kept private.
    """
    if text := environ.get(VARIABLE):
        if len(text) < _LEAST_CHARACTERS:
            raise ConfigError(f"the environment variable {VARIABLE} must have {_LEAST_CHARACTERS} characters or more")
        secret = os.fsencode(text)
        yield lambda: secret
    elif not first:
        # The error that process 0 would report: it cannot tell the others before they have met.
        there = next((path for path in (workdir, *workdir.absolute().parents) if path.exists()), Path("/"))
        if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            raise ConfigError(f"cannot write to workdir {workdir}: {os.strerror(errno.EACCES)}")
        yield lambda: _read(workdir / FILE)
    else:
        secret = _write_secret(workdir)
        try:
            yield lambda: secret
        finally:
            with contextlib.suppress(OSError, ValueError):
                if _read(workdir / FILE) == secret:  # and not that of another start
                    (workdir / FILE).unlink()


def _write_secret(workdir: Path) -> bytes:
    """Writes a new secret; readers find either the old one or the complete new one."""
    secret = secrets.token_hex(32).encode()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{FILE}.", dir=workdir)
        building = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(handle)
            _read(building)
            building.replace(workdir / FILE)
        finally:
            with contextlib.suppress(OSError):
                building.unlink()
    except OSError as error:
        raise ConfigError(f"cannot write to workdir {workdir}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(
            f"{error}: workdir {workdir} cannot keep a file private; set {VARIABLE} to the same random "
            f"text in all processes of the run"
        ) from None
    return secret


def _read(path: Path) -> bytes:
    """Raises OSError, or ValueError if anybody else could have read or written the file."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is not a file")
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise ValueError(f"{path} has mode {mode:04o} and owner {found.st_uid}, not 0600 and {os.geteuid()}")
        content = os.read(handle, _MOST_BYTES)
    finally:
        os.close(handle)
    if len(content) < _LEAST_CHARACTERS:
        raise ValueError(f"{path} does not hold a secret")
    return content
