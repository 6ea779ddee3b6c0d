"""What checkpoints are kept, which is restored, and what is never deleted beside them."""

import json
import shutil

import jax
import jax.numpy as jnp
import pytest

import bertjax.train
from bertjax.config import CheckpointConfig, resolve
from bertjax.data.stream.cursor import Cursor
from bertjax.engine.checkpoint import checkpoints
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.checkpoint.record import FILE, ITEM, Saved, kept_steps, read_record, sealed
from bertjax.engine.checkpoint.step_folders import leftovers, put_aside, step_numbers
from bertjax.engine.guard import initial_health
from bertjax.engine.position import RANDOM
from bertjax.engine.state import TrainState, initial_loss_scale
from bertjax.errors import CheckpointError, exit_code
from bertjax.parallel.mesh import make_mesh
from bertjax.train.corpus_position import records

CONSTANTS = {"identity": "a", "tokenizer": "b", "corpus": "c", "random": RANDOM | {"seed": 0}}


def state(value):
    params = {"kernel": jnp.full((4, 6), value, jnp.float32)}
    return TrainState(jnp.int32(value), params, [params], initial_loss_scale("float32"), initial_health())


def shapes():
    (device,) = make_mesh(1, 1, 1, jax.devices()[:1]).devices.flat
    one = jax.sharding.SingleDeviceSharding(device)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), state(0))


def opened(workdir, said=None, **options):
    say = (said if said is not None else []).append
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    return Checkpoints(workdir, CheckpointConfig(keep=9), mesh, say, **options)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A workdir with checkpoints of steps 2, 4 and 6. Not to be written to."""
    workdir = tmp_path_factory.mktemp("stored")
    saving = opened(workdir)
    for step in (2, 4, 6):
        saving.save(step, state(step), CONSTANTS)
    saving.close()
    return workdir


@pytest.fixture
def workdir(stored, tmp_path):
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    return tmp_path


def empty(step):
    for path in (step / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def test_only_checkpoints_of_one_phase_compete():
    """Losses of rows of 512 tokens are lower than those of 128, whatever the model is worth."""
    saved = {2: Saved(5.0, 0), 4: Saved(6.0, 0), 6: Saved(3.0, 1), 8: Saved(2.0, 1), 10: Saved(None, 1)}
    assert kept_steps(saved, CheckpointConfig(keep=1, keep_best=1)) == {2, 8, 10}
    assert kept_steps(saved, CheckpointConfig(keep=1, keep_best=2)) == {2, 4, 6, 8, 10}
    assert kept_steps(saved | {12: Saved(float("nan"), 1)}, CheckpointConfig(keep=1, keep_best=1)) == {2, 8, 12}
    assert kept_steps({2: Saved(1.0), 4: Saved(0.5), 6: Saved(2.0)}, CheckpointConfig(keep=1, keep_best=1)) == {4, 6}


def test_names_in_the_folder_of_checkpoints(tmp_path):
    for name in ("12", "0", "007", "\u0664", "1" * 30, "10-good", "best_model", "checkpoint-500", "8.deleted.mine"):
        (tmp_path / name).mkdir()
    ours = {"8.deleted", "9.orbax-checkpoint-tmp", "9.orbax-checkpoint-tmp-17"}
    for name in ours:
        (tmp_path / name).mkdir()
    (tmp_path / "13").write_text("a file")
    assert step_numbers(tmp_path) == [0, 12] and step_numbers(tmp_path / "nowhere") == []
    assert {path.name for path in leftovers(tmp_path)} == ours


def test_nothing_that_was_put_aside_is_ever_lost(tmp_path):
    for content in ("first", "second", "third"):
        (tmp_path / "8").mkdir()
        (tmp_path / "8/x").write_text(content)
        put_aside(tmp_path / "8", tmp_path / "damaged")
    kept = {path.name: (path / "x").read_text() for path in (tmp_path / "damaged").iterdir()}
    assert kept == {"8": "first", "8-2": "second", "8-3": "third"}


def test_what_is_not_ours_stays_where_it_is(workdir):
    mine = [workdir / name for name in ("checkpoints/2-good/x", "checkpoints/best_model/x", "damaged/6/x", "damaged/x")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (workdir / "checkpoints/8.deleted").mkdir()
    empty(workdir / "checkpoints/6")
    here = opened(workdir)
    assert here.restore_newest(shapes())[0] == 4
    for step in (6, 8):
        here.save(step, state(step), CONSTANTS)
    here.close()
    assert step_numbers(workdir / "checkpoints") == [2, 4, 6, 8]
    assert all(path.read_text() == "mine" for path in mine)
    assert (workdir / "damaged/6-2").is_dir() and not (workdir / "checkpoints/8.deleted").exists()


def test_the_first_process_says_which_step_is_restored(workdir):
    """Whatever this one sees in the folder."""
    told, said = [], []

    def tell(name, value):
        told.append((name, value))
        return [2, 4] if len(told) == 1 else value

    step, restored, _ = opened(workdir, said, tell=tell).restore_newest(shapes())
    assert step == 4 and float(restored.params["kernel"][0, 0]) == 4 and said == []
    assert told[0][1] == [2, 4, 6] and len({name for name, _ in told}) == len(told)


def test_a_step_that_is_not_seen_everywhere_is_not_called_damaged(workdir, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda *_: 1)
    monkeypatch.setattr(checkpoints, "UNSEEN_SECONDS", 0.1)
    here = opened(workdir, tell=lambda name, value: [2, 4, 6, 8])
    with pytest.raises(CheckpointError, match=r"step 8 .* not seen by all processes, which must share"):
        here.restore_newest(shapes())
    assert step_numbers(workdir / "checkpoints") == [2, 4, 6]
    assert here.newest_seen(6) == 6 and here.newest_seen(8) == 6 and here.newest_seen(None) == 6


def test_a_step_that_is_seen_late_is_waited_for(workdir, monkeypatch):
    listed, seen = Checkpoints.steps, []

    def late(self):
        seen.append(len(seen))
        return listed(self)[: len(seen)]

    monkeypatch.setattr(jax, "process_index", lambda *_: 1)
    monkeypatch.setattr(checkpoints.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(Checkpoints, "steps", late)
    assert opened(workdir).newest_seen(6) == 6 and len(seen) == 3


def test_one_step_alone_with_its_record(workdir):
    restored, record = opened(workdir).restore(4, shapes())
    assert float(restored.params["kernel"][0, 0]) == 4 and record["identity"] == "a"
    empty(workdir / "checkpoints/4")
    with pytest.raises(CheckpointError, match=r"step 4 .* is damaged"):
        opened(workdir).restore(4, shapes())


def resealed(step, **values):
    """Writes other values into the record of a step, with a digest that fits."""
    path = step / ITEM / FILE
    path.write_text(json.dumps(sealed(read_record(step) | values)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("arrays", {"params/kernel": None}),
        ("arrays", {"params/kernel": {"shape": "big", "dtype": "float32", "checksum": "0" * 16}}),
        ("arrays", {"params/kernel": {"shape": [4, 6], "dtype": "float32"}}),
        ("held_out_loss", "low"),
        ("held_out_loss", True),
        ("phase", -1),
        ("phase", None),
    ],
)
def test_a_record_of_nonsense_is_one_line(name, value, workdir):
    resealed(workdir / "checkpoints/6", **{name: value})
    with pytest.raises(CheckpointError, match=f"step 6 makes no sense: {name} is") as found:
        opened(workdir).restore_newest(shapes())
    assert "\n" not in str(found.value) and exit_code(found.value) == 3
    assert step_numbers(workdir / "checkpoints") == [2, 4, 6]  # it is no damage


def good(**values):
    record = {"phase": 0, "cursor": Cursor().to_json(), "totals": {"seconds": 1.5, "real_tokens": 9}, "skipped": []}
    return record | values


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("phase", [5, -1, None, True, 1, "0"]),
        ("totals", [{}, None, [], {"seconds": "1", "real_tokens": 2}, {"seconds": 1, "real_tokens": -2}]),
        ("totals", [{"seconds": float("nan"), "real_tokens": 1}, {"seconds": float("inf"), "real_tokens": 1}]),
        ("cursor", [None, {}, [], {"epoch": 0, "block": 0, "row": -1, "cuts": []}, 3]),
        (
            "cursor",
            [{"epoch": 10**30, "block": 0, "row": 0, "cuts": []}, {"epoch": 0, "block": 0, "row": 0, "cuts": 1}],
        ),
        (
            "cursor",
            [{"epoch": 0, "block": 0, "row": 0.5, "cuts": []}, {"epoch": 0, "block": 0, "row": 0, "cuts": [[0]]}],
        ),
        ("skipped", [None, {}, [3], [{"step": "x"}]]),
    ],
)
def test_a_record_that_makes_no_sense_is_one_line(name, values, config):
    """The phases have 6 and 4 steps."""
    of_run = records(resolve(config), "b", "c", versions={})
    position = lambda record: of_run.position((6, None, dict(of_run.constants) | record))
    assert position(good()).data.phase == 0
    for value in values:
        with pytest.raises(CheckpointError, match=f"step 6 makes no sense: {name} is"):
            position(good(**{name: value}))
    without = good()
    del without[name]
    with pytest.raises(CheckpointError, match=name):
        position(without)


def test_a_position_beyond_the_corpus_is_one_line(finished, config, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    for step in (9, 10):
        shutil.rmtree(tmp_path / f"run/checkpoints/{step}")
    config.data.prefetch = 0
    for cursor in ({"block": 99}, {"row": 10**9}, {"cuts": [[7, 1]]}, {"cuts": [[0, 10**9]]}):
        resealed(tmp_path / "run/checkpoints/6", cursor=Cursor().to_json() | cursor)
        with pytest.raises(ValueError, match="the data position") as found:
            bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
        assert exit_code(found.value) == 3
