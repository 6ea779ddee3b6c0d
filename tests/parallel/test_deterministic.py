"""What makes sums on GPUs the same at every start; there is no GPU here, so that one has to be made believe in."""

import os
import subprocess
import sys

import jax
import pytest

from bertjax.config import default_config, identity_items, phase, resolve
from bertjax.errors import ConfigError
from bertjax.finetune import settings
from bertjax.parallel import deterministic

BOTH = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"


@pytest.fixture
def with_gpus(monkeypatch):
    """A plugin for GPUs, and a jax that has not started."""
    monkeypatch.setattr(deterministic, "has_gpu_plugin", lambda: True)
    monkeypatch.setattr(deterministic, "_has_started", lambda: False)
    monkeypatch.setenv("XLA_FLAGS", "")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", BOTH),
        ("--xla_dump_to=/tmp/x", f"--xla_dump_to=/tmp/x {BOTH}"),
        ("--xla_gpu_autotune_level=0", "--xla_gpu_autotune_level=0 --xla_gpu_deterministic_ops=true"),
        # Of a flag that is given twice the last one counts.
        (f"{BOTH} --xla_gpu_autotune_level=4", f"{BOTH} --xla_gpu_autotune_level=4 --xla_gpu_autotune_level=0"),
        (BOTH, BOTH),
    ],
)
def test_flags_are_added_to_those_that_are_there(given, expected, with_gpus, monkeypatch):
    monkeypatch.setattr(deterministic, "_check_known", lambda flags: None)
    monkeypatch.setenv("XLA_FLAGS", given)
    deterministic.make_deterministic()
    assert os.environ["XLA_FLAGS"] == expected


def test_this_jaxlib_knows_the_flags(with_gpus):
    """An unknown one would abort the process; here jax starts with them in another one."""
    deterministic.make_deterministic()
    assert os.environ["XLA_FLAGS"] == BOTH


def test_a_flag_that_jaxlib_does_not_know_is_one_line(with_gpus, monkeypatch):
    monkeypatch.setattr(deterministic, "FLAGS", {"--xla_gpu_no_such_flag": "true"})
    with pytest.raises(ConfigError, match="XLA_FLAGS='--xla_gpu_no_such_flag=true', which this version of jaxlib"):
        deterministic.make_deterministic()
    assert os.environ["XLA_FLAGS"] == ""


def test_after_jax_has_started_on_gpus_it_is_too_late(with_gpus, monkeypatch):
    monkeypatch.setattr(deterministic, "_has_started", lambda: True)
    deterministic.make_deterministic()  # on CPUs it does not matter
    assert os.environ["XLA_FLAGS"] == ""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ConfigError, match=r"config\.deterministic = True comes too late.*XLA_FLAGS='--xla_gpu_determ"):
        deterministic.make_deterministic()
    monkeypatch.setenv("XLA_FLAGS", BOTH)
    deterministic.make_deterministic()


def test_without_a_plugin_for_gpus_nothing_changes(monkeypatch):
    """As here: the tests run on CPUs."""
    assert not deterministic.has_gpu_plugin()
    before = os.environ["XLA_FLAGS"]
    deterministic.make_deterministic()
    assert os.environ["XLA_FLAGS"] == before


def test_plugins_are_found_as_jax_finds_them(tmp_path, monkeypatch):
    (tmp_path / "jax_plugins" / "xla_cuda13").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "xla_cuda13" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert deterministic.has_gpu_plugin()


def test_whether_jax_has_started_is_known():
    jax.devices()
    assert deterministic._has_started()
    code = "import jax; from bertjax.parallel import deterministic; raise SystemExit(deterministic._has_started())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scattering_is_tried_before_it_is_trusted(monkeypatch):
    assert deterministic.scatters_right(jax.devices()[0])
    monkeypatch.setattr(deterministic, "scatters_right", lambda device: False)
    deterministic.check_sums()  # on CPUs XLA scatters in order in any case
    monkeypatch.setattr(jax, "local_devices", lambda: [type("Device", (), {"platform": "gpu"})])
    with pytest.raises(ConfigError, match="scatters wrongly"):
        deterministic.check_sums()


def test_it_may_change_from_one_start_to_the_next():
    config = default_config()
    config.phases.phase1 = phase(learning_rate=1e-3, warmup_steps=0)
    plain = identity_items(resolve(config))
    config.deterministic = True
    assert resolve(config).deterministic and identity_items(resolve(config)) == plain
    tuned = settings.default_config("tagging")
    assert not settings.resolve(tuned).deterministic


@pytest.mark.parametrize("job", ["train", "finetune"])
def test_jobs_ask_for_it_before_jax_starts(job, tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    def asked():
        raise Asked

    monkeypatch.setattr("bertjax.workdir.lock.make_deterministic", asked)
    monkeypatch.setattr("bertjax.workdir.lock.distributed_run", lambda *_: pytest.fail("the processes join"))
    if job == "train":
        import bertjax.train

        config = default_config()
        config.phases.phase1 = phase(learning_rate=1e-3, warmup_steps=0)
        start = lambda: bertjax.train.run(config, tmp_path / "run")
    else:
        import bertjax.finetune

        config = settings.default_config("classification")
        start = lambda: bertjax.finetune.run(config, "model", "train.csv", "eval.csv", tmp_path / "run")
    config.deterministic = True
    with pytest.raises(Asked):
        start()
