"""A workdir, or a part of it, removed or moved under a running job."""

import shutil
import time

import pytest

import bertjax.train
from bertjax.errors import CheckpointError


def disturbed(config, workdir, harm, at_step):
    """What a run said to which this was done after a step."""
    said = []

    def disturb(step):
        if step == at_step:
            saved = f"checkpoints/{at_step // 3 * 3}/_CHECKPOINT_METADATA"
            end = time.monotonic() + 20
            while not (workdir / saved).exists() and time.monotonic() < end:
                time.sleep(0.02)  # no save is on its way, of which the storage makes folders
            harm(workdir)
        return False

    bertjax.train.run(config, workdir, should_stop=disturb, say=said.append)
    return said


def removed(workdir):
    while workdir.exists():  # the run may put a file into a folder that is just being removed
        shutil.rmtree(workdir, ignore_errors=True)


@pytest.mark.parametrize(
    "harm",
    [
        lambda workdir: workdir.rename(workdir.with_name("moved")),
        removed,
        lambda workdir: (workdir.rename(workdir.with_name("moved")), workdir.mkdir()),
    ],
)
def test_a_workdir_that_is_gone_ends_the_run_in_one_line(harm, config, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(CheckpointError, match="removed or moved while the run was in it; the run ends"):
        disturbed(config, workdir, harm, at_step=4)
    assert not workdir.exists() or list(workdir.iterdir()) == []  # nothing is written to where it was


@pytest.mark.parametrize(
    ("name", "said"),
    [("checkpoints/3", None), ("checkpoints", None), ("metrics.jsonl", "was removed"), ("tensorboard", None)],
)
def test_a_part_that_is_gone_does_not(name, said, config, tmp_path):
    def harm(workdir):
        path = workdir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    lines = disturbed(config, tmp_path / "run", harm, at_step=8)
    warnings = [line for line in lines if line.startswith("warning:")]
    assert said is None or any(said in line for line in warnings), warnings
    assert (tmp_path / "run" / "checkpoints" / "10").is_dir() and (tmp_path / "run" / "model").is_dir()


def test_a_file_in_the_place_of_the_checkpoints_is_one_line_and_stays(config, tmp_path):
    def harm(workdir):
        (workdir / "checkpoints").rename(workdir / "moved")
        (workdir / "checkpoints").write_text("somebody's own")

    with pytest.raises(
        CheckpointError, match=r"the checkpoint of step [36] (could not be written .*File exists|was not written)"
    ):
        disturbed(config, tmp_path / "run", harm, at_step=5)
    assert (tmp_path / "run" / "checkpoints").read_text() == "somebody's own"
