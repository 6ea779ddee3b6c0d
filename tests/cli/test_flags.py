"""Command lines with a config."""

import importlib
import sys
from pathlib import Path

import pytest

from bertjax.cli.flags import parse, shipped_configs
from bertjax.config_schema import RENAMED
from bertjax.errors import ConfigError

TINY = str(Path(__file__).parent.parent.parent / "configs" / "tiny.py")


@pytest.mark.parametrize("named", [[f"--config={TINY}"], ["--config", TINY]])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_overrides_may_stand_before_the_config(named, at):
    others = ["--config.seed=7", "--workdir=runs/other"]
    config, chosen = parse("test", [*others[:at], *named, *others[at:]], {"workdir": (None, "")})
    assert config.seed == 7
    assert chosen["workdir"] == "runs/other"


def test_a_config_may_import_from_the_current_folder_and_nothing_else_may(tmp_path, monkeypatch):
    """As with python -m, however the command is called."""
    (tmp_path / "neighbour_of_a_config.py").write_text("SEED = 11")
    (tmp_path / "imaplib.py").write_text("raise SystemExit('hides an installed module')")
    config = tmp_path / "elsewhere" / "config.py"
    config.parent.mkdir()
    config.write_text(
        "import imaplib\nfrom neighbour_of_a_config import SEED\nfrom bertjax.config import default_config\n"
        "def get_config():\n    config = default_config()\n    config.seed = SEED\n    return config\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "imaplib", raising=False)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    before = list(sys.path)
    assert parse("test", [f"--config={config}"], {})[0].seed == 11
    assert sys.path == before


@pytest.mark.parametrize("given", ["tiny", "tiny.py", "configs/tiny.py", "configs/tiny"])
def test_a_shipped_config_is_found_from_any_folder(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, _ = parse("test", [f"--config={given}", "--config.seed=7"], {})
    assert (config.name, config.seed, config.model.num_hidden_layers) == ("tiny", 7, 2)
    assert parse("test", ["--config.model.max_length=16", "--config", "finetune/demo"], {})[0].model.max_length == 16


def test_a_file_goes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    text = "from bertjax.config import default_config\ndef get_config():\n    return default_config()\n"
    (tmp_path / "configs" / "tiny.py").write_text(text)
    (tmp_path / "tiny").mkdir()  # a folder is not a config
    assert parse("test", ["--config=configs/tiny.py"], {})[0].name == "run"
    assert parse("test", ["--config=tiny"], {})[0].name == "tiny"


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match=r"config file tinny does not exist; .* base, finetune/answering, .* tiny$"):
        parse("test", ["--config=tinny"], {})


def test_every_shipped_config_can_be_imported():
    names = shipped_configs()
    assert {"tiny", "base", "finetune/demo"} <= set(names)
    for name in names:
        module = importlib.import_module(f"bertjax.configs.{name.replace('/', '.')}")
        assert parse("test", [f"--config={name}"], {})[0].to_dict() == module.get_config().to_dict()
    from configs.tiny import get_config  # in a checkout

    assert get_config().name == "tiny"


def test_an_override_of_a_renamed_key_is_told_its_name(monkeypatch):
    monkeypatch.setitem(RENAMED, "model.checkpointing", "model.attention")
    with pytest.raises(ConfigError, match=r"config\.model\.checkpointing is now called config\.model\.attention"):
        parse("test", ["--config=tiny", "--config.model.checkpointing=layer"], {})
