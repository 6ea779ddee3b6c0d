"""What a model is worth, in numbers: suites of ``python -m bertjax.evaluate``, a module each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bertjax.config import nearest
from bertjax.errors import ConfigError

if TYPE_CHECKING:
    from bertjax.evaluation.suite import Suite

# Name -> module with its ``SUITE``: imported when asked for, so that the command can answer before jax is there.
SUITES = {
    "mlm": "bertjax.evaluation.mlm",
    "blimp": "bertjax.evaluation.blimp",
    "sts": "bertjax.evaluation.sts",
    "task": "bertjax.evaluation.task",
}


def suite_named(name: str) -> Suite:
    """The suite of this name. Raises ConfigError."""
    if name not in SUITES:
        raise ConfigError(f"no suite {name!r}; {nearest(name, SUITES)}")
    return importlib.import_module(SUITES[name]).SUITE
