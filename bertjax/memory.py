"""How much memory this machine or container has, and how the process keeps what it has freed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Where Linux says how much memory a container has (cgroup version 2 and 1).
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# glibc's mallopt(3): how many heaps there are, how many blocks are mappings of their own, how much free memory at the
# end of a heap goes back to the system.
_M_ARENA_MAX, _M_MMAP_MAX, _M_TRIM_THRESHOLD = -8, -4, -1
# Bytes of free memory that are kept: an eighth of all, as the next short rows need again what long rows free, and at
# most what mallopt takes.
_KEPT_PART, _KEPT_AT_MOST = 8, (1 << 31) - 1
_ARENAS = 2  # glibc's default is one for every thread, up to eight a core


def host_memory() -> int:
    """Bytes, of the machine or of the container: the total, never what is free just now."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CONTAINER_LIMITS:
        text = path.read_text().strip() if path.is_file() else ""
        limits += [int(text)] if text.isdigit() else []
    return min(limits)


def share_heaps() -> None:
    """Lets all threads to come allocate from the same few heaps, where the C library is glibc and nobody has set
    MALLOC_ARENA_MAX.

    A save goes through dozens of threads, each of which would leave free memory in a heap of its own: a run that saves
    every minute would hold more and more, by 60 MB at a time.
    """
    _set_heaps({_M_ARENA_MAX: _ARENAS})


def keep_memory() -> None:
    """Lets the process keep what it frees for what it allocates next, in one heap; of the same C library, and where
    nobody has set MALLOC_ARENA_MAX.

    By default blocks of more than 32 MB come from the system at every allocation and go back to it when they are
    freed: a short step on a CPU spends a sixth of its time on the pages of its gradients and temporaries.
    """
    if sys.platform == "linux":
        kept = min(host_memory() // _KEPT_PART, _KEPT_AT_MOST)
        _set_heaps({_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: kept})


def _set_heaps(settings: Mapping[int, int]) -> None:
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            for name, value in settings.items():
                ctypes.CDLL(None).mallopt(name, value)
