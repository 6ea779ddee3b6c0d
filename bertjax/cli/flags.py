"""Command lines with a config, read by absl and ml_collections; every mistake becomes one line."""

import contextlib
import re
import runpy
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import bertjax.configs
from bertjax.cli.command import fail, has_other_digits, show_help
from bertjax.cli.config_help import as_text
from bertjax.cli.paths import given_path
from bertjax.config_schema import RENAMED, nearest
from bertjax.errors import USAGE, ConfigError

_DEFINE: dict[type, Any] = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}


def config_command(
    program: str,
    argv: list[str] | None,
    help_text: str | None,
    config_class: type,
    options: dict[str, tuple[Any, str]],
    run: Callable[..., int],
    names: Collection[str] = (),
) -> int:
    """The exit code of a command with a config: ``run(config, value of every option)``, or that of a mistake or help.

    names: what the first argument must be one of; ``run`` gets it too, as its last argument. options: as ``parse``'s.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or "--help" in argv or "-h" in argv:
        return show_help(help_text or "", asked=bool(argv))
    if "--help=config" in argv:
        return show_help(as_text(config_class), asked=True)
    if names and argv[0] not in names:
        return fail(f"unknown {program.removeprefix('bertjax.')} {argv[0]!r}; {nearest(argv[0], names)}", USAGE)
    own = bool(names)
    try:
        return run(*parse(program, argv[own:], options), *argv[:own])
    except ConfigError as error:
        return fail(error, USAGE)


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
    """(ConfigDict with overrides applied, value of every option). Raises ConfigError. options: name -> (default, help);
    a default of True or False makes a switch, a number a number, else a string."""
    file, argv = _take_config(argv)
    config = None if file is None else _load(*file)
    _check_digits(argv, options, config)
    values = flags.FlagValues()
    holders = {}
    for name, (default, text) in options.items():
        define = _DEFINE.get(type(default), flags.DEFINE_string)
        holders[name] = define(name, default, text, flag_values=values)
    try:
        if config is not None:
            config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=[program, *argv])
        rest = values([program, *argv])
    except flags.UnrecognizedFlagError as error:
        hint = nearest(error.flagname, ("config", "help", *options))
        raise ConfigError(f"unknown flag --{error.flagname}; {hint}") from None
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(_explained(argv, error, config)) from None
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}; options look like --config.data.corpus=PATH")
    if config is None:
        raise ConfigError("no config; give one, such as --config=tiny")
    return values["config"].value, {name: holder.value for name, holder in holders.items()}


def shipped_configs() -> dict[str, Path]:
    """Name -> file of every config that comes with bertjax: ``tiny``, ``finetune/demo``."""
    folder = Path(next(iter(bertjax.configs.__path__)))
    files = (file for file in sorted(folder.rglob("*.py")) if file.stem != "__init__")
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def _take_config(argv: list[str]) -> tuple[tuple[str, str | None] | None, list[str]]:
    """((file, parameter) of the last ``--config``, None without one; the other arguments). Raises ConfigError."""
    found, rest, arguments = None, [], iter(argv)
    for argument in arguments:
        flag, equals, given = argument.partition("=")
        if flag in ("--config", "-config"):
            found = _config_file(given if equals else next(arguments, ""))
        else:
            rest.append(argument)
    return found, rest


def _config_file(given: str) -> tuple[str, str | None]:
    """The file that ``--config=given`` means: a path, or the name of a shipped config (``tiny``, ``configs/tiny.py``);
    and the parameter of get_config that may stand after a colon.

    A file of that path goes before a shipped config of that name. Raises ConfigError if there is neither.
    """
    file, colon, parameter = str(given_path(given, "--config")).partition(":")
    if not Path(file).is_file():
        shipped, name = shipped_configs(), file.removeprefix("configs/").removesuffix(".py")
        if name not in shipped:
            raise ConfigError(
                f"config file {file} does not exist; configs that come with bertjax: {', '.join(shipped)}"
            )
        file = str(shipped[name])
    return file, parameter if colon else None


def _load(file: str, parameter: str | None) -> ConfigDict:
    try:
        get_config: Any = runpy.run_path(file).get("get_config")
        config = get_config(*([] if parameter is None else [parameter])) if callable(get_config) else None
    except Exception as error:  # whatever the file itself raises
        raise ConfigError(f"config file {file} raises {type(error).__name__}: {error}") from None
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"config file {file} must have a get_config() that returns a ConfigDict")
    return config


def _check_digits(argv: list[str], options: dict[str, tuple[Any, str]], config: ConfigDict | None) -> None:
    """Raises ConfigError for a number in other digits than 0 to 9, which Python would read as one."""
    for argument, after in zip(argv, [*argv[1:], ""], strict=False):
        name, equals, value = argument.partition("=")
        name, value = name.removeprefix("--"), value if equals else after
        key = name.rpartition(".")[2]
        node, missing = _find(config, name.removeprefix("config."))
        kind = type(options[name][0]) if name in options else type(None) if missing else node.get_type(key)
        if issubclass(kind, int | float) and has_other_digits(value):
            raise ConfigError(f"--{name} must be written in the digits 0 to 9, not {value!r}")


def _find(config: ConfigDict | None, path: str) -> tuple[Any, str | None]:
    """(the section with the key ``a.b.c``, None), or if the config has no such key, (what it has instead, the part that
    is missing there)."""
    section, node = None, config
    for part in path.split("."):
        if not isinstance(node, ConfigDict) or part not in node:
            return node, part
        section, node = node, node[part]
    return section, None


def _explained(argv: list[str], error: Exception, config: ConfigDict | None) -> str:
    matches = (re.match(r"--(?:no)?config\.([\w.]+)", argument) for argument in argv)
    for name in (match[1] for match in matches if match):
        if name in RENAMED:
            return f"config key config.{name} is now called config.{RENAMED[name]}"
        node, missing = _find(config, name)
        if missing:
            allowed = f"; {nearest(missing, node)}" if isinstance(node, ConfigDict) else ""
            return f"unknown config key config.{name}{allowed}"
    return " ".join(str(error).replace("\\n", " ").split()).replace("flag --config.", "config override --config.")
