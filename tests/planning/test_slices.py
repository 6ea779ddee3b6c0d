"""The real train step, compiled for machines that are not there: what it does, divides, gathers, and its size."""

import math
import re
import runpy
from pathlib import Path

import jax
import pytest

from bertjax.config import default_config, phase, resolve
from bertjax.errors import ConfigError
from bertjax.model.flops import train_flops_per_row
from bertjax.model.parameters import padded_vocabulary
from bertjax.parallel.devices import chip_of, memory_limit
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.programs import Split, analyse, lower_step, split_of, state_bytes
from bertjax.planning.topologies import devices_of, prepare_environment, read_topology
from bertjax.train.pretraining_job import make_job

ROWS, HIDDEN = 8, 128
CONFIGS = Path(__file__).parents[2] / "configs"


def small_run(layers=3, **parallel):
    config = default_config()
    config.model.vocab_size = 5000
    config.model.hidden_size = HIDDEN
    config.model.num_hidden_layers = layers
    config.model.num_attention_heads = 4
    config.model.intermediate_size = 384
    config.parallel.update(parallel)
    config.phases.only = phase(
        sequence_length=128, batch_size=ROWS * 4, steps=10, max_predictions=20, learning_rate=1e-3, warmup_steps=1
    )
    return resolve(config)


def compiled_for(topology_name, run, rows=None, phase_name="only", quick=True):
    """(job, rows a device, analysis) of a phase; without ``rows``, those that the run would take."""
    topology = read_topology(topology_name)
    try:
        prepare_environment(topology)
    except ConfigError as error:  # the compiler's package is not installed
        pytest.skip(str(error))
    mesh = make_mesh(run.parallel.data, run.parallel.fsdp, run.parallel.tensor, devices_of(topology))
    split = Split(rows, 1) if rows else split_of(run, run.phases[phase_name], mesh)
    platform = mesh.devices.flat[0].platform
    analysis = analyse(lower_step(run, phase_name, mesh, split), platform, mesh.size, quick)
    return make_job(run, mesh), split.rows * split.accumulation, analysis


def formula(run, mesh, rows, phase_name="only"):
    """FLOPs of one device for ``rows`` rows, which ``tensor`` devices share."""
    phase = run.phases[phase_name]
    per_row = train_flops_per_row(run.model, phase.sequence_length, phase.max_predictions)
    return rows * per_row / mesh.shape["tensor"]


def assert_nothing_replicated(job):
    """Of every parameter and moment that has as many elements as there are shares, a device holds one share."""
    fsdp = job.mesh.shape["fsdp"]
    shapes = job.state_shapes()
    checked = 0
    for path, x in jax.tree_util.tree_leaves_with_path((shapes.params, shapes.opt_state)):
        # Left whole: what no dimension of can be divided, the two biases of NSP and, over 256, that of MLM.
        if any(size % fsdp == 0 for size in x.shape):
            assert math.prod(x.sharding.shard_shape(x.shape)) * fsdp <= x.size, jax.tree_util.keystr(path)
            checked += 1
        else:
            assert x.size < 2**15, jax.tree_util.keystr(path)
    assert checked > 50


def assert_table_not_gathered(found, run, mesh):
    """No device holds rows of the word table (or their gradient) that belong to another part of ``tensor``."""
    vocabulary = padded_vocabulary(run.model.vocab_size)
    rows = vocabulary // mesh.shape["tensor"]
    for c in found.collectives:
        # Of several arrays at once, where the compiler combines them.
        for dims in ([int(n) for n in shape.split(",")] for shape in re.findall(r"\[([\d,]+)\]", c["shapes"])):
            assert vocabulary not in dims, c
            if c["kind"] == "all-gather" and rows in dims:
                assert math.prod(dims) <= rows * run.model.hidden_size, c  # one's own rows, which fsdp divides


def test_data_parallel_step_has_the_formulas_flops_and_reduces_every_gradient():
    run = small_run(divide_update=False)
    job, rows, found = compiled_for("v5e:2x2", run, ROWS)
    assert found.flops == pytest.approx(formula(run, job.mesh, rows), rel=0.05)
    state = state_bytes(job)
    assert state["optimizer"] == pytest.approx(2 * state["parameters"], rel=0.001)
    assert sum(state.values()) < found.total < memory_limit(job.mesh.devices.flat[0])
    assert {c["kind"] for c in found.collectives} == {"all-reduce"}
    reduced = sum(c["count"] * c["bytes"] for c in found.collectives)
    assert state["parameters"] <= reduced <= 1.05 * state["parameters"]
    assert not any(c["in_loop"] for c in found.collectives)


def test_fsdp_leaves_nothing_whole():
    run = small_run(data=1, fsdp=4)
    job, rows, found = compiled_for("v5e:2x2", run, ROWS)
    assert found.flops == pytest.approx(formula(run, job.mesh, rows), rel=0.05)
    assert_nothing_replicated(job)


def test_tensor_parallel_step_never_gathers_the_vocabulary():
    run = small_run(data=1, fsdp=2, tensor=2)
    job, rows, found = compiled_for("v5e:2x2", run, 2 * ROWS)
    assert found.flops == pytest.approx(formula(run, job.mesh, rows), rel=0.05)
    assert_nothing_replicated(job)
    assert_table_not_gathered(found, run, job.mesh)


def test_a_program_that_is_too_large_gives_its_size():
    run = small_run(layers=1)
    job, _, found = compiled_for("v5e:1x1", run, 32768)
    assert not found.compiled
    assert found.total > memory_limit(job.mesh.devices.flat[0])
    assert found.collectives == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "topology", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1", "h200:4", "h100:4", "a100:4"]
)
def test_every_kind_of_machine(topology):
    run = small_run()
    job, rows, found = compiled_for(topology, run, ROWS)
    assert chip_of(job.mesh.devices.flat[0]).name == topology.split(":")[0]
    assert found.flops == pytest.approx(formula(run, job.mesh, rows), rel=0.05)
    assert "all-reduce" in {c["kind"] for c in found.collectives}


LAYOUTS = {
    "data": {},
    "fsdp": {"data": 1, "fsdp": -1},
    "tensor": {"data": 1, "fsdp": -1, "tensor": 4},
}
MANY = ["v5e:4x4", "v5e:16x16", "v5p:4x4x4", "v6e:8x8", "h200:8"]


@pytest.mark.slow
@pytest.mark.parametrize("phase_name", ["phase1", "phase2"])
@pytest.mark.parametrize("name", ["base", "large"])
@pytest.mark.parametrize(
    ("topology", "layout"), [("h200:1", "data"), *[(topology, layout) for topology in MANY for layout in LAYOUTS]]
)
def test_recipes_on_pods(name, topology, layout, phase_name):
    """The configs as they are, but for the mesh, and without recomputation."""
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    config.model.remat = "none"
    config.parallel.update(LAYOUTS[layout])
    run = resolve(config)
    job, rows, found = compiled_for(topology, run, phase_name=phase_name)
    assert found.total <= memory_limit(job.mesh.devices.flat[0])
    assert found.flops == pytest.approx(formula(run, job.mesh, rows, phase_name), rel=0.05)
    if layout != "data":
        assert_nothing_replicated(job)
    if layout == "tensor":
        assert_table_not_gathered(found, run, job.mesh)
