"""A cache of analyses, so that a program is compiled once: JSON files named by the program's hash."""

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

# Raise it when an analysis holds something else, or is computed differently.
FORMAT = 2
_COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def program_key(lowered: Any, topology: str, quick: bool) -> str:
    """Hex SHA-256 of the program's text, the topology with its kind of device, and the compiler with its flags."""
    versions: dict[str, str | None] = dict.fromkeys(_COMPILERS)
    for name in _COMPILERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    flags = {name: os.environ.get(name, "") for name in _FLAGS}
    head = json.dumps([FORMAT, topology, quick, versions, flags], sort_keys=True)
    return hashlib.sha256((head + lowered.as_text()).encode()).hexdigest()


def cached_analysis(key: str, make: Callable[[], Analysis]) -> Analysis:
    """The analysis stored under ``key``, else a new one, which is stored. A damaged file is written anew."""
    path = cache_folder() / "plans" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(path.read_text())
        return Analysis(**(stored | {"collectives": tuple(stored["collectives"])}))
    analysis = make()
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.tmp-{secrets.token_hex(4)}")
        partial.write_text(json.dumps(asdict(analysis)))
        partial.replace(path)
    return analysis
