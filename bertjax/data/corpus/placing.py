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
def building(final: Path, is_cached: bool) -> Iterator[Path]:
    """A new folder beside ``final`` to build in, which becomes ``final`` at the end of the block, unless that fails or
    another process has made ``final`` by then. Raises DataError if it cannot be written."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished.clear_abandoned(final)
        folder = unfinished.new_name(final)
        folder.mkdir()
        try:
            yield folder
            try:
                folder.rename(final)
            except OSError:
                if not final.exists():
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        advice = is_cached and not os.environ.get("BERTJAX_CACHE")
        elsewhere = "; BERTJAX_CACHE=FOLDER keeps corpora elsewhere" if advice else ""
        raise DataError(
            f"the prepared corpus {final} cannot be written: {error.strerror or error}{elsewhere}"
        ) from None


def put_aside(folder: Path) -> Path:
    """Renames a damaged corpus and returns its new path; nothing is deleted. Raises DataError."""
    names = (folder.with_name(f"{folder.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(path for path in names if not os.path.lexists(path))
    try:
        return folder.rename(aside)
    except FileNotFoundError:  # another process has done it
        return aside
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder} is damaged, and cannot be moved out of the way: {reason}") from None
