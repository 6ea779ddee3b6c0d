"""Paths as users give them: ``~`` is the home, and what no file of this machine can be called is said in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bertjax.cli.showing import plain
from bertjax.errors import ConfigError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# What Linux and macOS allow, in bytes; a longer name cannot exist.
_LONGEST_NAME, _LONGEST_PATH = 255, 4096


def given_path(path: str | Path, what: str, error: type[Exception] = ConfigError) -> Path:
    """The path that a user gave as ``what`` (an option, a key), ``~`` and ``~user`` as shells have them.

    Raises ``error``, one line, for the address of a bucket or server, for nothing at all, and for names that no file
    can have.
    """
    text = os.fspath(path)
    if not text:  # of a shell's variable that is not set; it would be the current folder
        raise error(f"{what} is '', which is no path")
    if _ADDRESS.match(text):
        scheme = text.split(":", 1)[0]
        raise error(
            f"{what} is {plain(text)!r}, an address; bertjax reads and writes files of this machine, so mount what "
            f"{scheme} stands for as a folder, or copy it"
        )
    try:
        expanded = Path(text).expanduser()
        names = [os.fsencode(part) for part in expanded.parts]
    except (RuntimeError, ValueError) as reason:  # a home that is unknown; a character that no name can have
        raise error(f"{what} is {plain(text)!r}, which is no path: {' '.join(str(reason).split())}") from None
    if "\0" in text:
        raise error(f"{what} is {plain(text)!r}, which holds a zero byte")
    longest = max(map(len, names), default=0)
    if longest > _LONGEST_NAME or len(os.fsencode(expanded)) > _LONGEST_PATH:
        raise error(
            f"{what} is {plain(text[:60])!r} ..., which is too long: a name of {longest} bytes, where {_LONGEST_NAME} "
            f"(and {_LONGEST_PATH} for a path) are the most there can be"
        )
    return expanded


def utf8_path(path: Path, what: str, error: type[Exception] = ConfigError) -> Path:
    """The same path, checked to be one that the libraries for checkpoints and corpora take: in UTF-8 as a whole.

    Raises ``error`` for any other name, before hours of work end there.
    """
    whole = path.absolute()
    try:
        str(whole).encode()
    except UnicodeEncodeError:
        raise error(
            f"{what} is {plain(whole)}, whose name is not UTF-8; checkpoints and corpora cannot be written there, so "
            f"choose another folder"
        ) from None
    return path
