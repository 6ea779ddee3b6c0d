"""Compiled programs that are kept in the cache folder, so that the second start of a command compiles nothing.

JAX's persistent compilation cache does the work (https://docs.jax.dev/en/latest/persistent_compilation_cache.html).
This file decides where it lies, who may write to it, how large it grows, and what happens to files that a killed
process left.
"""

import contextlib
import hashlib
import os
import platform
import sys
from pathlib import Path

from bertjax.data.corpus.placing import cache_folder
from bertjax.errors import ConfigError

FOLDER = "JAX_COMPILATION_CACHE_DIR"
MOST_BYTES = 2 << 30
# jax reads the time stamp of every entry whenever it adds one.
MOST_ENTRIES = 1000
_ENTRY, _LAST_USE, _LOCK = "-cache", "-atime", ".lockfile"
_HEADER_BYTES = 18  # the most that a zstd frame's header has, with its size in it
_CHECKED = "checked"  # a file whose time says when the entries were read through last
_MARGIN_SECONDS = 120.0  # clocks of file servers differ from ours
# The first lines of /proc/cpuinfo that tell which instructions a program may use.
_CPU_LINES = ("vendor_id", "model name", "flags", "Features", "CPU implementer", "CPU part", "uarch", "isa")


def keep_compiled_programs() -> None:
    """Makes jax, which must not be imported yet, keep what it compiles. Does nothing if the user has chosen a folder
    with JAX_COMPILATION_CACHE_DIR, or if there is none that this user alone may write to."""
    if FOLDER in os.environ:
        return
    with contextlib.suppress(ConfigError, OSError):
        folder = programs_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_private(folder) or not remove_damaged(folder):
            return
        settings = {
            FOLDER: str(folder),
            "JAX_COMPILATION_CACHE_MAX_SIZE": str(MOST_BYTES),
            # Small programs, too: a start has dozens of them.
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
        for name, value in settings.items():
            os.environ.setdefault(name, value)


def forget_compiled_programs() -> None:
    """Undoes ``keep_compiled_programs``, unless the folder is the user's choice."""
    with contextlib.suppress(ConfigError):
        if os.environ.get(FOLDER) == str(programs_folder()):
            del os.environ[FOLDER]
            if "jax" in sys.modules:
                sys.modules["jax"].config.update("jax_compilation_cache_dir", None)


def programs_folder() -> Path:
    """A folder for this user and this kind of machine: a program that is loaded runs as it is, and programs for CPUs
    use all the instructions of the machine that compiled them. Raises ConfigError."""
    return cache_folder() / f"programs-{os.geteuid()}-{_machine()}"


def _machine() -> str:
    lines = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        first, _, _ = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")
        lines += [line for line in first.splitlines() if line.startswith(_CPU_LINES)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def is_private(folder: Path) -> bool:
    """Whether this user, and nobody else, may write to the folder: who can write there can run code here."""
    found = folder.lstat()
    own = found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return own and folder.is_dir() and not folder.is_symlink() and os.access(folder, os.W_OK | os.X_OK)


def remove_damaged(folder: Path) -> bool:
    """Removes entries that a killed process left half-written, which jax would neither use nor replace, and the oldest
    beyond ``MOST_ENTRIES``. False if the folder cannot be locked, without which jax cannot use it either."""
    import filelock

    try:
        with filelock.FileLock(folder / _LOCK, timeout=0):
            stamp, entries = folder / _CHECKED, list(folder.glob(f"*{_ENTRY}"))
            checked = stamp.stat().st_mtime - _MARGIN_SECONDS if stamp.exists() else 0.0
            for entry in entries:
                if not _last_use(entry).is_file() or (entry.stat().st_mtime >= checked and not _is_whole(entry)):
                    _remove(entry)
            kept = [entry for entry in entries if entry.exists()]
            kept.sort(key=lambda entry: _last_use(entry).stat().st_mtime)
            for entry in kept[: max(0, len(kept) - MOST_ENTRIES)]:
                _remove(entry)
            stamp.touch()
    except filelock.Timeout:  # another process is adding to it, or checking it
        return True
    except (OSError, NotImplementedError):  # a file system without locks
        return False
    return True


def _last_use(entry: Path) -> Path:
    return entry.with_name(entry.name.removesuffix(_ENTRY) + _LAST_USE)


def _remove(entry: Path) -> None:
    entry.unlink(missing_ok=True)
    _last_use(entry).unlink(missing_ok=True)


def _is_whole(entry: Path) -> bool:
    """Whether the file can be decompressed to its end."""
    import zstandard

    read = 0
    try:
        with entry.open("rb") as file:
            size = zstandard.frame_content_size(file.read(_HEADER_BYTES))
            file.seek(0)
            with zstandard.ZstdDecompressor().stream_reader(file) as stream:
                while part := stream.read(1 << 20):
                    read += len(part)
    except zstandard.ZstdError:
        return False
    return read == size
