"""What was once compiled is not compiled again: its analysis is kept as a JSON file under the program's hash."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bertjax.data.corpus.placing import cache_folder
from bertjax.planning.programs import Analysis

# To be raised when what is read from a program, or how, changes.
FORMAT = 2
_COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def program_key(lowered: Any, topology: str, quick: bool) -> str:
    """Hex SHA-256 of the program's text, the topology with its kind of device, and all about the compiler."""
    versions = {name: _version(name) for name in _COMPILERS}
    flags = {name: os.environ.get(name, "") for name in _FLAGS}
    head = json.dumps([FORMAT, topology, quick, versions, flags], sort_keys=True)
    return hashlib.sha256((head + lowered.as_text()).encode()).hexdigest()


def cached_analysis(key: str, make: Callable[[], Analysis]) -> Analysis:
    """The stored analysis of that key, else a new one, which is stored. A damaged file is made again."""
    path = cache_folder() / "plans" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(path.read_text())
        return Analysis(**(stored | {"collectives": tuple(stored["collectives"])}))
    analysis = make()
    # A cache that cannot be written is no reason to fail.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.tmp-{secrets.token_hex(4)}")
        partial.write_text(json.dumps(asdict(analysis)))
        partial.replace(path)
    return analysis


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
