"""Where prepared corpora are kept, and how one gets its final name: complete or not at all."""

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bertjax import unfinished
from bertjax.cli.paths import given_path
from bertjax.errors import ConfigError, DataError

# Put aside, or left by a killed process of an earlier version; today's is hidden.
_NOT_FINISHED = re.compile(r".*\.(damaged-\d+|tmp-.+-\d+-[0-9a-f]{8})")


def cache_folder() -> Path:
    """``$BERTJAX_CACHE``, else ``bertjax`` in the user's cache folder. Raises ConfigError if the user has no home."""
    own, caches = os.environ.get("BERTJAX_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return given_path(own, "BERTJAX_CACHE")
    if caches:
        return given_path(caches, "XDG_CACHE_HOME") / "bertjax"
    try:
        return Path.home() / ".cache" / "bertjax"
    except RuntimeError:  # no HOME and an unknown user, as in many containers
        raise ConfigError(
            "this user has no home folder to keep prepared corpora in; set BERTJAX_CACHE=FOLDER"
        ) from None


def cached() -> list[Path]:
    """The finished corpora in the cache, sorted."""
    folder = cache_folder()
    found = folder.glob("corpus-*") if folder.is_dir() else []
    return sorted(path for path in found if not _NOT_FINISHED.fullmatch(path.name))


@contextlib.contextmanager
def building(final: Path) -> Iterator[Path]:
    """A new folder beside ``final`` to build in, removed in the end unless it was published.

    Raises DataError if it cannot be written.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished.clear_abandoned(final)
        folder = unfinished.new_name(final)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        elsewhere = "" if os.environ.get("BERTJAX_CACHE") else "; BERTJAX_CACHE=FOLDER keeps corpora elsewhere"
        raise DataError(
            f"the prepared corpus {final} cannot be written: {error.strerror or error}" + elsewhere * _is_cached(final)
        ) from None


def _is_cached(final: Path) -> bool:
    with contextlib.suppress(ConfigError):
        return final.parent == cache_folder()
    return False


def publish(folder: Path, final: Path) -> bool:
    """Renames the built folder to its final name; False if that name was taken meanwhile."""
    try:
        folder.rename(final)
    except OSError:
        if final.exists():
            return False
        raise
    return True


def put_aside(folder: Path) -> Path:
    """Renames a damaged corpus and returns its new path; nothing is deleted. Raises DataError."""
    for number in itertools.count(1):
        aside = folder.with_name(f"{folder.name}.damaged-{number}")
        if os.path.lexists(aside):
            continue
        try:
            return folder.rename(aside)
        except FileNotFoundError:  # another process has done it
            return aside
        except OSError as error:
            if os.path.lexists(aside):
                continue
            reason = error.strerror or error
            raise DataError(f"{folder} is damaged, and cannot be moved out of the way: {reason}") from None
    raise AssertionError("itertools.count ended")
