"""The suites by name. Nothing heavy is imported here, so that the command can answer before jax is there."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bertjax.config import nearest
from bertjax.errors import ConfigError

if TYPE_CHECKING:
    from bertjax.evaluation.suite import Suite

SUITES = ("mlm", "blimp", "sts", "task")


def suite_named(name: str) -> Suite:
    """The suite of this name. Raises ConfigError."""
    if name not in SUITES:
        raise ConfigError(f"no suite {name!r}; {nearest(name, SUITES)}")
    return importlib.import_module(f"bertjax.evaluation.{name}_suite").SUITE
