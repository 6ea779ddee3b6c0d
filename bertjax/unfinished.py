"""Files and folders that are being written: under temporary names of bertjax until they are complete."""

import contextlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# How much of a long name is kept: the file system allows 255 bytes in all.
_MOST_BYTES = 100
_NAME = re.compile(r"\.(?P<target>.+)\.bertjax-(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}", re.DOTALL)
# Inside an unfinished folder: the place of the folder that it is about to replace.
REPLACED = "old"


def new_name(path: Path) -> Path:
    """A unique name beside ``path`` for writing what will become ``path``."""
    target = os.fsdecode(os.fsencode(path.name)[:_MOST_BYTES])
    return path.with_name(f".{target}.bertjax-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")


def is_unfinished(name: str) -> bool:
    """Whether a file or folder has a name that ``new_name`` made."""
    return _NAME.fullmatch(name) is not None


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write in the block, which becomes ``path`` at its end; unless it fails. A link at ``path`` is replaced,
    not followed."""
    temporary = new_name(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file atomically, as ``whole_file``."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def clear(folder: Path) -> None:
    """Removes everything unfinished in a folder that only this process writes to."""
    for left in folder.iterdir() if folder.is_dir() else ():
        if match := _NAME.fullmatch(left.name):
            _remove(left, match["target"])


def clear_abandoned(path: Path) -> None:
    """Removes unfinished versions of ``path`` left by killed processes of this machine."""
    for left in path.parent.iterdir() if path.parent.is_dir() else ():
        match = _NAME.fullmatch(left.name)
        target = os.fsdecode(os.fsencode(path.name)[:_MOST_BYTES])
        is_ours = match is not None and (match["target"], match["host"]) == (target, socket.gethostname())
        if match and is_ours and not _alive(int(match["process"])):
            _remove(left, target)


def _remove(left: Path, target: str) -> None:
    final, replaced, is_folder = left.with_name(target), left / REPLACED, left.is_dir() and not left.is_symlink()
    if is_folder and len(os.fsencode(target)) < _MOST_BYTES and replaced.is_dir() and not final.exists():
        with contextlib.suppress(OSError):  # killed between two renamings: what was there before goes back
            replaced.replace(final)
    if is_folder:
        shutil.rmtree(left, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            left.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
