"""Labelled text that is on every machine: docstrings, and which library each comes from."""

from __future__ import annotations

import functools
import hashlib

from bertjax.data.corpus import docstrings
from bertjax.errors import DataError
from bertjax.tasks.examples import TextExample

SOURCE = "installed-docs"
# The standard library and direct dependencies with enough text; top folder -> label.
LIBRARIES = ("flax", "jax", "numpy", "optax", "orbax", "python", "rich", "scipy")
_MODULES = 90  # of each library, those that its hash has first
_DOCSTRINGS = 450  # of each library
_SHORTEST = 60  # characters
_HELD_OUT = 6  # one module in so many is for evaluation


@functools.cache
def library_examples(held_out: bool) -> list[TextExample]:
    """The docstrings to train on, or those of other modules to evaluate on. Raises DataError where there are none."""
    found: list[TextExample] = []
    for library, modules in _by_library().items():
        own: list[TextExample] = []
        seen: set[str] = set()
        for number, module in enumerate(modules):
            if (number % _HELD_OUT == 0) != held_out:
                continue
            for paragraphs in docstrings.read_module(module)[0]:
                text = " ".join(paragraphs)
                if len(text) >= _SHORTEST and text not in seen:
                    seen.add(text)
                    own.append(TextExample(str(module.path), text, None, library))
        found += own[: _DOCSTRINGS // (1 if not held_out else _HELD_OUT - 1)]
    if not found:
        raise DataError("no installed library has docstrings")
    return found


def _by_library() -> dict[str, list[docstrings.Module]]:
    """The modules of each library in an order of their names' hashes."""
    groups: dict[str, list[docstrings.Module]] = {library: [] for library in LIBRARIES}
    for module in docstrings.modules():
        top, *rest = module.name.split("/")
        library = "python" if top == "python" else rest[0]
        if library in groups and "array_api_compat" not in rest:  # a copy that several libraries hold
            groups[library].append(module)
    hashed = lambda module: hashlib.blake2b(module.name.encode(), digest_size=8).digest()
    return {library: sorted(own, key=hashed)[:_MODULES] for library, own in groups.items()}
