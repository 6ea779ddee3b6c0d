"""Command lines with a config."""

import sys
from pathlib import Path

import pytest

from bertjax.flags import parse

TINY = str(Path(__file__).parent.parent / "configs" / "tiny.py")


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
