"""One step is one step, however the batch is split: over devices, over accumulation steps."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from bertjax import attention_kernels
from bertjax.config import CheckpointConfig, ModelConfig, OptimizerConfig, ParallelConfig, PhaseConfig, RunConfig
from bertjax.data.stream.pipeline import open_batches
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.optimizers import OPTIMIZERS
from bertjax.engine.state import GROW_AFTER, LossScale
from bertjax.errors import ConfigError
from bertjax.objectives.registry import phase_settings
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import to_global
from bertjax.train.pretraining_job import accumulation_steps, describe_job, make_job, split_cautions

STEPS = 50
MODEL = ModelConfig(
    vocab_size=200,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
)
RUN = RunConfig(
    model=MODEL,
    phases={
        "phase1": PhaseConfig(
            sequence_length=32, batch_size=16, steps=100, max_predictions=5, learning_rate=1e-3, warmup_steps=5
        )
    },
    precision="float32",
)


def mesh_of(*sizes):
    count = int(np.prod(sizes))
    return make_mesh(*sizes, devices=jax.devices()[:count])


def losses(run, mesh, synthetic, steps=STEPS):
    """Losses of the first steps, the last state, and a digest of the batches."""
    job, phase = make_job(run, mesh), run.phases["phase1"]
    state, step = job.initial_state(), job.train_step(phase)
    corpus, tokenizer = synthetic
    settings = [phase_settings(run, 0)]
    values = []
    with open_batches(corpus, tokenizer, settings, run.seed, 0, phase.batch_size, prefetch=0) as batches:
        for _ in range(steps):
            batch, _ = next(batches)
            state, metrics = step(state, to_global(batch, mesh))
            values.append(float(metrics["loss"]))
    return np.array(values), state


@pytest.fixture(scope="module")
def one_device(synthetic):
    return losses(RUN, mesh_of(1, 1, 1), synthetic)


def rows_per_device(rows):
    return dataclasses.replace(RUN, parallel=ParallelConfig(rows_per_device=rows))


@pytest.mark.parametrize(
    ("run", "sizes"),
    [
        pytest.param(RUN, (8, 1, 1), id="8 devices", marks=pytest.mark.slow),
        pytest.param(rows_per_device(4), (1, 1, 1), id="4 accumulation steps", marks=pytest.mark.slow),
        pytest.param(rows_per_device(1), (4, 1, 1), id="4 devices x 4 accumulation steps"),
        pytest.param(
            dataclasses.replace(RUN, parallel=ParallelConfig(divide_update=False)),
            (4, 1, 1),
            id="4 devices, each updates all",
        ),
        pytest.param(RUN, (2, 2, 2), id="data x fsdp x tensor = 2 x 2 x 2"),
    ],
)
def test_losses_do_not_depend_on_the_split(run, sizes, one_device, synthetic):
    """float32, dropout on: within 1e-5 relative over 50 steps; what differs is the order of sums."""
    expected, _ = one_device
    assert expected[-1] < expected[0]
    found, _ = losses(run, mesh_of(*sizes), synthetic)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_accumulation_steps():
    phase = RUN.phases["phase1"]
    assert accumulation_steps(RUN, phase, mesh_of(1, 1, 1)) == 1
    assert accumulation_steps(rows_per_device(4), phase, mesh_of(1, 1, 1)) == 4
    assert accumulation_steps(rows_per_device(5), phase, mesh_of(2, 1, 1)) == 2
    with pytest.raises(ConfigError, match="9 rows does not divide over 4 devices; 8 or 12 would"):
        accumulation_steps(RUN, dataclasses.replace(phase, batch_size=9), mesh_of(4, 1, 1))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((1, 1, 8), r"tensor = 8 .*num_attention_heads = 4.* on 8 devices one of 1, 2, 4 would"),
        ((1, 5, 1), r"fsdp = 5 .*hidden_size = 32.* on 5 devices 1 would"),
    ],
)
def test_a_mesh_that_does_not_divide_the_model_is_refused(sizes, words):
    with pytest.raises(ConfigError, match=words):
        make_job(RUN, mesh_of(*sizes))


@pytest.mark.parametrize(("rate", "kernel"), [(0.1, "explicit"), (0.0, "dot_product")])
def test_the_attention_kernel_is_said_if_it_was_left_open(rate, kernel, monkeypatch):
    reverse = dict(reversed(attention_kernels.KERNELS.items()))
    monkeypatch.setattr(attention_kernels, "KERNELS", reverse)
    for asked in ("explicit", "auto"):
        model = dataclasses.replace(MODEL, attention=asked, attention_probs_dropout_prob=rate)
        lines = describe_job(make_job(dataclasses.replace(RUN, model=model), mesh_of(1, 1, 1)))
        assert [line for line in lines if "attention" in line] == [f"attention: {kernel}"] * (asked == "auto")


@pytest.mark.smoke
@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16", "float16"])
def test_overfits_a_handful_of_rows(precision, synthetic):
    """Without dropout, 16 rows are learned by heart: the loss falls to under a tenth."""
    model = dataclasses.replace(MODEL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    phase = dataclasses.replace(RUN.phases["phase1"], learning_rate=5e-3, steps=400)
    run = dataclasses.replace(RUN, model=model, precision=precision, phases={"phase1": phase})
    mesh = mesh_of(1, 1, 1)
    job = make_job(run, mesh)
    state, step = job.initial_state(), job.train_step(phase)
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(run, 0)], 0, 0, 16, prefetch=0) as batches:
        batch = to_global(next(batches)[0], mesh)
    first = None
    for _ in range(100):
        state, metrics = step(state, batch)
        first = first or float(metrics["loss"])
    assert float(metrics["loss"]) < 0.1 * first
    assert float(metrics["mlm_accuracy"]) > 0.95


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_is_not_finite_changes_nothing(name, synthetic):
    mesh = mesh_of(1, 1, 1)
    run = dataclasses.replace(RUN, optimizer=OptimizerConfig(name=name))
    job, phase = make_job(run, mesh), run.phases["phase1"]
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(RUN, 0)], 0, 0, 16, prefetch=0) as batches:
        batch = next(batches)[0]
    step = job.train_step(phase)
    state, metrics = step(job.initial_state(), to_global(batch, mesh))  # so that the moments are not zero
    assert metrics["apply_update"] and not metrics["nonfinite"]
    before = jax.device_get(state)
    batch["masked_lm_weights"][0, 0] = np.inf
    state, metrics = step(state, to_global(batch, mesh))
    assert not np.isfinite(float(metrics["grad_norm"]))
    assert metrics["nonfinite"]
    same = lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    jax.tree.map(same, (state.params, state.opt_state), (before.params, before.opt_state))
    assert int(state.step) == 2 and not metrics["apply_update"]


def test_muon_trains_and_resumes_on_a_mesh(synthetic, tmp_path):
    """An optimizer of optax as it is: its state is divided, saved and restored, and goes on bit for bit."""
    phase = dataclasses.replace(RUN.phases["phase1"], learning_rate=1e-2)
    run = dataclasses.replace(RUN, optimizer=OptimizerConfig(name="muon"), phases={"phase1": phase})
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(run, 0)], 0, 0, 16, prefetch=0) as batches:
        rows = next(batches)[0]

    def trained(mesh, after=lambda number, state: state):
        job = make_job(run, mesh)
        step, state, found = job.train_step(phase), job.initial_state(), []
        for number in range(1, 31):
            state, metrics = step(state, to_global(rows, mesh))
            found.append(float(metrics["loss"]))
            state = after(number, state)
        return found, state, job.state_shapes()

    mesh = mesh_of(2, 2, 2)
    expected, through, shapes = trained(mesh)
    assert expected[-1] < 0.7 * expected[0]
    # Not 1e-5: the iterations of Muon amplify the order of sums.
    np.testing.assert_allclose(trained(mesh_of(1, 1, 1))[0], expected, rtol=1e-4)
    moment = shapes.opt_state[1].inner_states["muon"].inner_state[0].mu["encoder"]["layers"]["mlp"]["intermediate"]
    assert moment["kernel"].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(), mesh, print)

    def resumed(number, state):
        if number != 15:
            return state
        checkpoints.save(number, state, {})
        return checkpoints.restore_newest(shapes)[1]

    found, state, _ = trained(mesh, resumed)
    assert found == expected
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), state, through)


def test_a_result_that_is_not_finite_is_not_taken(synthetic):
    """The gradient is finite, the update is not; the step after it, whose loss shows what came of it, is bad."""
    phase = dataclasses.replace(RUN.phases["phase1"], learning_rate=3e38, warmup_steps=0)
    run = dataclasses.replace(RUN, phases={"phase1": phase})
    job = make_job(run, mesh_of(1, 1, 1))
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(run, 0)], 0, 0, 16, prefetch=0) as batches:
        batch = to_global(next(batches)[0], job.mesh)
    step, state = job.train_step(phase), job.initial_state()
    for good in (True, False):
        state, metrics = step(state, batch)
        assert bool(metrics["apply_update"]) == good
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get((state.params, state.opt_state))))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_only_float16_moves_its_loss_scale(precision, synthetic):
    run = dataclasses.replace(RUN, precision=precision)
    job, phase = make_job(run, mesh_of(1, 1, 1)), run.phases["phase1"]
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(run, 0)], 0, 0, 16, prefetch=0) as batches:
        batch = to_global(next(batches)[0], job.mesh)
    state = job.initial_state()
    first = float(state.loss_scale.scale)
    almost = LossScale(state.loss_scale.scale, state.loss_scale.good_steps + GROW_AFTER - 1)
    state, _ = job.train_step(phase)(state.replace(loss_scale=almost), batch)
    assert float(state.loss_scale.scale) == (2 * first if precision == "float16" else 1.0)


@pytest.mark.parametrize(
    ("rows", "fit", "devices", "said"),
    [
        (257, 100, 1, ["257 parts of 1 row a device", "100 would fit", "256 or 258 would be done in fewer"]),
        (514, 100, 2, ["batch_size = 514", "257 parts of 1 row a device", "512 or 516"]),
        (254, 100, 1, ["127 parts of 2 rows a device", "252 or 255"]),
        (202, 100, 1, ["101 parts of 2 rows a device", "201 or 204"]),
        (256, 100, 1, []),  # 4 parts of 64
        (97, 100, 1, []),
        (257, 1, 1, []),  # as config.parallel.rows_per_device = 1 asks
    ],
)
def test_a_batch_without_a_divisor_near_what_fits_is_said(rows, fit, devices, said):
    phase = dataclasses.replace(RUN.phases["phase1"], batch_size=rows)
    run = dataclasses.replace(rows_per_device(fit), phases={"phase1": phase})
    lines = split_cautions(run, mesh_of(devices, 1, 1))
    assert len(lines) == bool(said)
    for word in said:
        assert word in lines[0]


def test_a_state_with_a_divided_update_goes_on_anywhere(synthetic, tmp_path):
    """Saved where each device has a share of the moments, restored where it has all or where there is one device."""
    model = dataclasses.replace(MODEL, vocab_size=1000, hidden_size=64, intermediate_size=256)
    run = dataclasses.replace(RUN, model=model, optimizer=OptimizerConfig(name="lamb"))
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(run, 0)], 0, 0, 16, prefetch=0) as batches:
        rows = next(batches)[0]

    def steps(state, job, count=3):
        step = job.train_step(run.phases["phase1"])
        for _ in range(count):
            state, metrics = step(state, to_global(rows, job.mesh))
        return state, float(metrics["loss"])

    job = make_job(run, mesh_of(8, 1, 1))
    specs = {x.sharding.spec for x in jax.tree.leaves(job.state_shapes().opt_state)}
    assert PartitionSpec("data") in specs or PartitionSpec(None, "data") in specs
    state, _ = steps(job.initial_state(), job)
    Checkpoints(tmp_path, CheckpointConfig(), job.mesh, print).save(3, state, {})
    expected = steps(state, job)[1]
    whole = dataclasses.replace(run, parallel=ParallelConfig(divide_update=False))
    for other in (make_job(run, mesh_of(1, 1, 1)), make_job(whole, mesh_of(4, 1, 1)), make_job(run, mesh_of(2, 2, 2))):
        restored = Checkpoints(tmp_path, CheckpointConfig(), other.mesh, print).restore_newest(other.state_shapes())[1]
        np.testing.assert_allclose(steps(restored, other)[1], expected, rtol=1e-5)


@pytest.mark.slow
def test_gradients_that_are_reduced_in_bfloat16(synthetic):
    """On 8 devices, 300 steps over 16 batches again and again, against gradients reduced in float32."""
    phase = dataclasses.replace(RUN.phases["phase1"], steps=300, learning_rate=2e-3)
    mesh = mesh_of(8, 1, 1)
    corpus, tokenizer = synthetic
    with open_batches(corpus, tokenizer, [phase_settings(RUN, 0)], 0, 0, 16, prefetch=0) as batches:
        repeated = [to_global(next(batches)[0], mesh) for _ in range(16)]

    def curve(parallel):
        job = make_job(dataclasses.replace(RUN, phases={"phase1": phase}, parallel=parallel), mesh)
        state, step, found = job.initial_state(), job.train_step(phase), []
        for number in range(300):
            state, metrics = step(state, repeated[number % 16])
            found.append(float(metrics["loss"]))
        return np.array(found)

    expected, found = curve(ParallelConfig()), curve(ParallelConfig(reduce_in="bfloat16"))
    assert expected[-16:].mean() < 0.9 * expected[:16].mean()
    assert (found != expected).any()
    # Means over all batches. Single losses differ by up to 3 % in the noisy steps around the peak of the rate.
    means = lambda curve: curve[:288].reshape(-1, 16).mean(axis=1)
    np.testing.assert_allclose(means(found), means(expected), rtol=1e-2)
    np.testing.assert_allclose(means(found)[9:], means(expected)[9:], rtol=5e-3)
