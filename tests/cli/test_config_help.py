"""``--help=config``: every key with its meaning, default, limits, and whether it may change on resume."""

import importlib
import re

import pytest

from bertjax.cli.config_help import sections
from bertjax.config import RunConfig, default_config, identity_items, phase, resolve, to_dict
from bertjax.finetune.settings import default_config as finetune_config


def leaves(tree, path="config"):
    for key, value in tree.items():
        yield from leaves(value, f"{path}.{key}") if isinstance(value, dict) else [f"{path}.{key}"]


@pytest.mark.parametrize("command", ["train", "finetune", "plan", "benchmark"])
def test_help_config_lists_every_key(command, capsys):
    main = importlib.import_module(f"bertjax.{command}{'.__main__' * (command in ('train', 'finetune'))}").main
    assert main(["--help=config"]) == 0
    shown = capsys.readouterr().out
    if command == "finetune":
        names = leaves(finetune_config("tagging").to_dict())
    else:
        config = default_config()
        config.phases.NAME = phase()
        names = leaves(config.to_dict())
    for name in names:
        assert (
            len(re.findall(rf"^  {re.escape(name)} = .*; (fixed|may change)\)\n      \w", shown, re.MULTILINE)) == 1
        ), name
    assert max(map(len, shown.splitlines())) <= 120


def test_it_says_what_the_config_does():
    config = default_config()
    config.phases.NAME = phase(learning_rate=1e-3, warmup_steps=0)
    run = resolve(config)
    fixed = {f"config.{name}" for name in identity_items(run)} - {"config.phases"}
    keys = {key.name: key for *_, own in sections(RunConfig) for key in own}
    added = {
        "config.data.strip_accents",
        "config.data.language",
        "config.data.character_coverage",
        "config.parallel.reduce_in",
    }
    assert {name for name, key in keys.items() if key.on_resume == "fixed"} == fixed | added
    assert keys["config.model.num_hidden_layers"][1:3] == ("12", "integer from 1 to 65,536")
    assert keys["config.data.corpus"][1:3] == ("installed-docs", "list of text")
    assert keys["config.data.held_out_fraction"][1:3] == ("not set (0.02)", "number from 0 to 0.5")
    assert keys["config.model.hidden_act"].values == "one of gelu, gelu_new, relu"
    assert set(leaves(to_dict(run))) == set(keys)
