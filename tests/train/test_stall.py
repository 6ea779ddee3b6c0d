"""A run that is called from Python and does not move raises; its caller's interpreter goes on, and so can the run."""

import time

import pytest

import bertjax.train
from bertjax.errors import Stalled
from bertjax.workdir.lock import workdir_lock


def test_a_run_called_from_python_raises_when_it_stalls(config, tmp_path):
    config.parallel.watchdog_seconds = 3.0
    workdir = tmp_path / "run"

    def hangs(step):
        if step == 2:
            time.sleep(60)
        return False

    with pytest.raises(Stalled, match="no progress at step 2"):
        bertjax.train.run(config, workdir, should_stop=hangs, say=lambda line: None)
    with workdir_lock(workdir):  # it has let go of it
        pass
    assert not list((workdir / "checkpoints").glob("*"))
