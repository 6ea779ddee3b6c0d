"""Command lines with a config."""

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
