"""Scores of models on data. Each suite is a module, NAME_suite, with these names.

``load(path)`` -> (model, tokenizer). ``read(data, tokenizer, model, options)`` -> (examples, checked, in a form of the
suite's own; warnings about them, a line each); data is a path or examples in memory, and only the model's configs are
used. ``score(model, tokenizer, examples, options, show)`` -> ``Result``, with ``placement`` for the model of a run on
its mesh. ``OPTIONS``: the fields of ``suite.Options`` that it takes. ``FORMATS``: score -> how it is shown, else ".4f".
``data_of(path)``, where there is one: the data of the run that a model is from, or None.
"""

import importlib
from types import ModuleType

from bertjax.config import nearest
from bertjax.errors import ConfigError

SUITES = ("mlm", "blimp", "sts", "task")


def suite_named(name: str) -> ModuleType:
    """The module of a suite, which imports jax. Raises ConfigError."""
    if name not in SUITES:
        raise ConfigError(f"no suite {name!r}; {nearest(name, SUITES)}")
    return importlib.import_module(f"bertjax.evaluation.{name}_suite")
