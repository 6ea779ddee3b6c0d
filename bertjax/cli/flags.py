"""Command lines with a config, read by absl and ml_collections; every mistake becomes one line."""

from __future__ import annotations

import contextlib
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import bertjax.configs
from bertjax.cli.digits import has_other_digits
from bertjax.cli.paths import given_path
from bertjax.config import nearest
from bertjax.config_schema import RENAMED
from bertjax.errors import FlagError

# bool before int, which it is a kind of.
_DEFINE: tuple[tuple[type, Any], ...] = (
    (bool, flags.DEFINE_boolean),
    (int, flags.DEFINE_integer),
    (float, flags.DEFINE_float),
)


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A config may import what lies in the current folder, as ``python -m`` lets it: the console script as well. The
    folder comes last, and for as long as configs are read, so that it hides no installed module."""
    before = list(sys.path)
    with contextlib.suppress(OSError):  # it has been deleted
        sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


@_current_folder_importable()
def parse(program: str, argv: list[str], options: dict[str, tuple[Any, str]]) -> tuple[Any, dict[str, Any]]:
    """(ConfigDict with overrides applied, value of every option). Raises FlagError.

    options: name -> (default, help); a default of True or False makes a switch, a number a number, else a string.
    """
    argv = _config_first(_with_files(argv))
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", None, "config file", flag_values=values, sys_argv=[program, *argv]
    )
    holders = {}
    for name, (default, text) in options.items():
        define: Any = next((d for kind, d in _DEFINE if isinstance(default, kind)), flags.DEFINE_string)
        holders[name] = define(name, default, text, flag_values=values)
    loaded = _load_config_file(argv)
    _check_digits(argv, options, loaded)
    try:
        rest = values([program, *argv])
    except flags.UnrecognizedFlagError as error:
        hint = nearest(error.flagname, ("config", "help", *options))
        raise FlagError(f"unknown flag --{error.flagname}; {hint}") from None
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlagError(_explained(argv, error, loaded)) from None
    if len(rest) > 1:
        raise FlagError(f"unexpected argument {rest[1]!r}; options look like --config.data.corpus=PATH")
    if config.value is None:
        raise FlagError("no config; give one, such as --config=tiny")
    return config.value, {name: holder.value for name, holder in holders.items()}


def shipped_configs() -> dict[str, Path]:
    """Name -> file of every config that comes with bertjax: ``tiny``, ``finetune/demo``."""
    folder = Path(next(iter(bertjax.configs.__path__)))
    files = (file for file in sorted(folder.rglob("*.py")) if file.stem != "__init__")
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def config_file(given: str) -> str:
    """The file that ``--config=given`` means: a path, or the name of a shipped config (``tiny``, ``configs/tiny.py``);
    with the parameter of get_config after a colon where one is given.

    A file of that path goes before a shipped config of that name. Raises FlagError where there is neither.
    """
    file, colon, parameter = str(given_path(given, "--config", FlagError)).partition(":")
    if not Path(file).is_file():
        shipped, name = shipped_configs(), file.removeprefix("configs/").removesuffix(".py")
        if name not in shipped:
            raise FlagError(f"config file {file} does not exist; configs that come with bertjax: {', '.join(shipped)}")
        file = str(shipped[name])
    return file + colon + parameter


def _with_files(argv: list[str]) -> list[str]:
    """The same with every ``--config`` as ``--config=PATH`` of an existing file. Raises FlagError where it is none."""
    found, arguments = [], iter(argv)
    for argument in arguments:
        flag, equals, given = argument.partition("=")
        is_config = flag in ("--config", "-config")
        found.append(f"--config={config_file(given if equals else next(arguments, ''))}" if is_config else argument)
    return found


def _config_first(argv: list[str]) -> list[str]:
    """The same with --config before its overrides, where ml_collections needs it."""
    return sorted(argv, key=lambda argument: not argument.startswith("--config="))


def _load_config_file(argv: list[str]) -> ConfigDict | None:
    """The config without overrides, None where no file is given. Raises FlagError where the file gives no config."""
    paths = [argument.removeprefix("--config=") for argument in argv if argument.startswith("--config=")]
    if not paths:
        return None
    file, colon, _ = paths[-1].partition(":")
    try:
        get_config = runpy.run_path(file).get("get_config")
        config: Any = get_config() if callable(get_config) and not colon else None
    except Exception as error:  # whatever the file itself raises
        raise FlagError(f"config file {file} raises {type(error).__name__}: {error}") from None
    if not colon and not isinstance(config, ConfigDict):
        raise FlagError(f"config file {file} must have a get_config() that returns a ConfigDict")
    return config


def _check_digits(argv: list[str], options: dict[str, tuple[Any, str]], config: ConfigDict | None) -> None:
    """Raises FlagError for a number in other digits than 0 to 9, which Python would read as one."""
    for argument, after in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        name, value = name.removeprefix("--"), value if equals else after
        kind = type(options[name][0]) if name in options else _type_at(name, config)
        if issubclass(kind, int | float) and has_other_digits(value):
            raise FlagError(f"--{name} must be written in the digits 0 to 9, not {value!r}")


def _type_at(name: str, config: ConfigDict | None) -> type:
    """The type of ``config.a.b`` in the file, also where it holds None; None's where there is no such key."""
    *sections, key = name.split(".")[1:] or [""]
    node: Any = config
    for part in sections:
        node = node[part] if isinstance(node, ConfigDict) and part in node else None
    return node.get_type(key) if isinstance(node, ConfigDict) and key in node else type(None)


def _explained(argv: list[str], error: Exception, config: ConfigDict | None) -> str:
    """One line for what absl or ml_collections said about an override."""
    text = " ".join(str(error).replace("\\n", " ").split())
    for argument in argv:
        match = re.match(r"--(?:no)?config\.([\w.]+)", argument)
        if match is None:
            continue
        if match[1] in RENAMED:
            return f"config key config.{match[1]} is now called config.{RENAMED[match[1]]}"
        node = config
        for part in match[1].split("."):
            if not isinstance(node, ConfigDict) or part not in node:
                allowed = f"; {nearest(part, node)}" if isinstance(node, ConfigDict) else ""
                return f"unknown config key config.{match[1]}{allowed}"
            node = node[part]
    return text.replace("flag --config.", "config override --config.")
