"""The command line of the training command, by absl and ml_collections; every mistake becomes one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from bertjax.config import nearest

HELP = """\
python -m bertjax.train --config=FILE [--workdir=DIR] [--config.KEY=VALUE ...]

Pretrains a BERT: prepares the corpus, trains all phases, evaluates on held-out text, and leaves the model in
DIR/model in the Hugging Face layout. A DIR that has a checkpoint is resumed.

  --config=FILE         a Python file with get_config(): configs/tiny.py (two CPU cores), configs/small.py (one GPU),
                        configs/base.py and configs/large.py (BERT as published)
  --config.KEY=VALUE    overrides one key of it, for example
                          --config.data.corpus=PATH           your text: .txt, .jsonl, .parquet, also .gz .xz .zst, a
                                                              glob, tfds:NAME, or several separated by commas
                          --config.model.vocab_size=16384
                          --config.phases.phase1.steps=1000
                          --config.precision=float32
  --workdir=DIR         where the run lives; default runs/<config.name>
  --help                this text

Exit codes: 0 done; 2 usage, config or workdir; 3 corpus; 4 the run diverged; 75 stopped by a signal with
everything saved - the same command goes on."""


class FlagError(ValueError):
    """A command line that cannot be used; the message is one line."""


def parse(argv: list[str]) -> tuple[Any, str]:
    """(ConfigDict with overrides applied, workdir). Raises FlagError."""
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", None, "config file", flag_values=values, sys_argv=["bertjax.train", *argv])
    workdir = flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    _check_config_file(argv)
    try:
        rest = values(["bertjax.train", *argv])
    except flags.UnrecognizedFlagError as error:
        raise FlagError(f"unknown flag --{error.flagname}; {nearest(error.flagname, ('config', 'workdir', 'help'))}") from None
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlagError(_explained(argv, error)) from None
    except Exception as error:  # whatever the config file itself raises
        raise FlagError(f"the config file raised {type(error).__name__}: {error}") from None
    if len(rest) > 1:
        raise FlagError(f"unexpected argument {rest[1]!r}; options look like --config.data.corpus=PATH")
    if config.value is None:
        raise FlagError("no config; give one with --config=configs/tiny.py")
    return config.value, workdir.value or f"runs/{config.value.get('name', 'run')}"


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
        if match is None or not any(part in text for part in (match[1], match[1].split(".")[-1], match[1].split(".")[1])):
            continue
        if isinstance(error, KeyError | AttributeError):
            close = re.search(r'Did you mean "(\w+)"', text)
            return f"unknown config key {match[1]}" + (f"; did you mean {close[1]!r}?" if close else "")
        return text.replace(f"flag --{match[1]}", f"config override --{match[1]}")
    return text
