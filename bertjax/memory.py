"""How much memory this machine or container has, and how the process keeps memory that it has freed."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Memory limit of a container on Linux (cgroup versions 2 and 1).
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# glibc's mallopt(3): number of heaps, number of blocks that are mappings of their own, free memory at the end of a heap
# above which it returns to the system.
_M_ARENA_MAX, _M_MMAP_MAX, _M_TRIM_THRESHOLD = -8, -4, -1
# Bytes of free memory to keep: an eighth of all, since short rows reuse what long rows free; at most what mallopt takes
_KEPT_PART, _KEPT_AT_MOST = 8, (1 << 31) - 1


def host_memory() -> int:
    """Total bytes of memory of the machine or the container, whether free or not."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CONTAINER_LIMITS:
        text = path.read_text().strip() if path.is_file() else ""
        limits += [int(text)] if text.isdigit() else []
    return min(limits)


def keep_memory() -> None:
    """Makes the process reuse freed memory, in one heap, with glibc and unless MALLOC_ARENA_MAX is set. By default
    blocks of more than 32 MB are taken from the system and returned to it every time: a step on a CPU spends up to a
    quarter of its time on their pages. And each of the dozens of threads of a save would leave free memory in a heap of
    its own: the process would grow by 60 MB a save."""
    if sys.platform == "linux":
        kept = min(host_memory() // _KEPT_PART, _KEPT_AT_MOST)
        _set_heaps({_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: kept})


def _set_heaps(settings: Mapping[int, int]) -> None:
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            for name, value in settings.items():
                ctypes.CDLL(None).mallopt(name, value)
