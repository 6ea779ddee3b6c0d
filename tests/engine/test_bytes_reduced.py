"""Gradients are reduced once a step, however many parts the batch is done in: read off the compiled step."""

import dataclasses
import importlib.util
import math

import jax
import pytest

from bertjax.config import ModelConfig, ParallelConfig, PhaseConfig, RunConfig
from bertjax.parallel.mesh import make_mesh
from bertjax.planning.hlo import read_program
from bertjax.planning.programs import Split, lower_step
from bertjax.planning.topologies import devices_of, prepare_environment, read_topology
from bertjax.planning.work import collectives
from bertjax.train.pretraining_job import make_job

# Losses, hits and norms are reduced, too.
MOST = 1.05
MODEL = ModelConfig(
    vocab_size=1000,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=256,
    max_position_embeddings=64,
)
PHASE = PhaseConfig(sequence_length=32, batch_size=16, steps=10, max_predictions=5, learning_rate=1e-3, warmup_steps=1)
RUN = RunConfig(model=MODEL, phases={"phase": PHASE}, precision="float32")


def reduced(run, mesh, split):
    """(what a step reduces over the devices, those of it in loops), in sizes of the float32 gradient."""
    gradient = 4 * sum(x.size for x in jax.tree.leaves(make_job(run, mesh).state_shapes().params))
    program = read_program(lower_step(run, "phase", mesh, split).compile().as_text())
    found = [c for c in collectives(program, mesh.size) if c.kind in ("all-reduce", "reduce-scatter")]
    size = lambda some: sum(c.count * c.bytes for c in some) / gradient
    return size(found), size(c for c in found if c.in_loop)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("divide_update", [True, False])
def test_on_cpu_devices(parts, divide_update):
    run = dataclasses.replace(RUN, parallel=ParallelConfig(divide_update=divide_update))
    whole, in_loops = reduced(run, make_mesh(8, 1, 1), Split(2, parts))
    assert 1.0 <= whole < MOST
    assert in_loops == 0.0


def test_moments_are_divided_and_parameters_whole():
    mesh = make_mesh(8, 1, 1)
    state = make_job(RUN, mesh).state_shapes()
    held = lambda tree: sum(math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))
    size = sum(x.size for x in jax.tree.leaves(state.params))
    assert held(state.params) == size
    assert 2 * size / 8 < held(state.opt_state) < 2 * size / 6  # small arrays are whole


@pytest.fixture(scope="module")
def tpus():
    """Four chips to compile for; none is there."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    with pytest.MonkeyPatch.context() as patch:
        # All that prepare_environment may set goes when the test ends.
        for name in (
            "TPU_SKIP_MDS_QUERY",
            "TPU_WORKER_HOSTNAMES",
            "TPU_ACCELERATOR_TYPE",
            "ALLOW_MULTIPLE_LIBTPU_LOAD",
        ):
            patch.setenv(name, "")
            patch.delenv(name)
        topology = read_topology("v5e:2x2")
        prepare_environment(topology)
        yield devices_of(topology)


@pytest.mark.parametrize("parts", [1, 4])
def test_on_tpus(tpus, parts):
    run = dataclasses.replace(RUN, precision="bfloat16")
    whole, in_loops = reduced(run, make_mesh(4, 1, 1, devices=tpus), Split(4, parts))
    assert 1.0 <= whole < MOST
    assert in_loops == 0.0
