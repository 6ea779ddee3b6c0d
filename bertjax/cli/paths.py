"""Paths as users give them: ``~`` is the home, and impossible paths are errors of one line."""

import os
import re
from pathlib import Path

from bertjax.cli.showing import plain
from bertjax.errors import ConfigError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# What Linux and macOS allow, in bytes; a longer name cannot exist.
_LONGEST_NAME, _LONGEST_PATH = 255, 4096


def given_path(path: str | Path, what: str, error: type[Exception] = ConfigError) -> Path:
    """The path that a user gave as ``what`` (an option, a key), with ``~`` and ``~user`` expanded. Raises ``error`` for
    the address of a bucket or server, for an empty path, and for names that no file can have."""
    text = os.fspath(path)
    if not text:  # from an unset shell variable; it would mean the current folder
        raise error(f"{what} is '', which is not a path")
    if _ADDRESS.match(text):
        scheme = text.split(":", 1)[0]
        raise error(
            f"{what} is {plain(text)!r}, an address; bertjax reads and writes files of this machine, so mount the "
            f"{scheme} storage as a folder, or copy the files"
        )
    try:
        expanded = Path(text).expanduser()
        names = [os.fsencode(part) for part in expanded.parts]
    except (RuntimeError, ValueError) as reason:  # a home that is unknown; a character that no name can have
        raise error(f"{what} is {plain(text)!r}, which is not a path: {' '.join(str(reason).split())}") from None
    if "\0" in text:
        raise error(f"{what} is {plain(text)!r}, which contains a zero byte")
    longest = max(map(len, names), default=0)
    if longest > _LONGEST_NAME or len(os.fsencode(expanded)) > _LONGEST_PATH:
        raise error(
            f"{what} is {plain(text[:60])!r} ..., which is too long: a name of {longest} bytes; a name may have "
            f"{_LONGEST_NAME} bytes, a path {_LONGEST_PATH}"
        )
    return expanded


def utf8_path(path: Path, what: str, error: type[Exception] = ConfigError) -> Path:
    """The same path. Raises ``error`` if its absolute form is not UTF-8: checkpoints would fail after hours of work."""
    absolute = path.absolute()
    try:
        str(absolute).encode()
    except UnicodeEncodeError:
        raise error(
            f"{what} is {plain(absolute)}, whose name is not UTF-8; checkpoints and corpora cannot be written there; "
            f"choose another folder"
        ) from None
    return path
