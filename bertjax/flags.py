"""Command lines with a config, read by absl and ml_collections; every mistake becomes one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from bertjax.config import nearest

# bool before int, which it is a kind of.
_DEFINE: tuple[tuple[type, Any], ...] = (
    (bool, flags.DEFINE_boolean),
    (int, flags.DEFINE_integer),
    (float, flags.DEFINE_float),
)


class FlagError(ValueError):
    """A command line that cannot be used; the message is one line."""


def parse(program: str, argv: list[str], options: dict[str, tuple[Any, str]]) -> tuple[Any, dict[str, Any]]:
    """(ConfigDict with overrides applied, value of every option). Raises FlagError.

    options: name -> (default, help); a default of True or False makes a switch, a number a number, else a string.
    """
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", None, "config file", flag_values=values, sys_argv=[program, *argv]
    )
    holders = {}
    for name, (default, text) in options.items():
        define: Any = next((d for kind, d in _DEFINE if isinstance(default, kind)), flags.DEFINE_string)
        holders[name] = define(name, default, text, flag_values=values)
    _check_config_file(argv)
    try:
        rest = values([program, *argv])
    except flags.UnrecognizedFlagError as error:
        hint = nearest(error.flagname, ("config", "help", *options))
        raise FlagError(f"unknown flag --{error.flagname}; {hint}") from None
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlagError(_explained(argv, error)) from None
    except Exception as error:  # whatever the config file itself raises
        raise FlagError(f"the config file raised {type(error).__name__}: {error}") from None
    if len(rest) > 1:
        raise FlagError(f"unexpected argument {rest[1]!r}; options look like --config.data.corpus=PATH")
    if config.value is None:
        raise FlagError("no config; give one with --config=configs/tiny.py")
    return config.value, {name: holder.value for name, holder in holders.items()}


def _check_config_file(argv: list[str]) -> None:
    for before, argument in zip([None, *argv], argv, strict=False):
        name = argument.removeprefix("--config=") if argument.startswith("--config=") else None
        name = argument if before == "--config" else name
        if name is not None and not Path(name.split(":")[0]).is_file():
            raise FlagError(f"config file {name} does not exist")


def _explained(argv: list[str], error: Exception) -> str:
    """One line for what absl or ml_collections said about an override."""
    text = " ".join(str(error).replace("\\n", " ").split())
    for argument in argv:
        match = re.match(r"--(?:no)?(config\.[\w.]+)", argument)
        if match is None or not any(
            part in text for part in (match[1], match[1].split(".")[-1], match[1].split(".")[1])
        ):
            continue
        if isinstance(error, KeyError | AttributeError):
            close = re.search(r'Did you mean "(\w+)"', text)
            return f"unknown config key {match[1]}" + (f"; did you mean {close[1]!r}?" if close else "")
        return text.replace(f"flag --{match[1]}", f"config override --{match[1]}")
    return text
