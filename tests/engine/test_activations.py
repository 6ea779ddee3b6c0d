"""What the backward pass keeps of a row: as the compiled program has it, and divided by the tensor axis."""

import dataclasses
import importlib.metadata

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from bertjax.batch import shapes
from bertjax.config import ModelConfig
from bertjax.engine.activation_memory import Trained, activation_bytes_per_row
from bertjax.engine.training_memory import ACTIVATION_SHARE
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.dropout import DropoutSeed
from bertjax.model.flops import parameter_count
from bertjax.model.precision import precision_named
from bertjax.objectives.losses import PRETRAINING, batch_loss

SMALL = ModelConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256)
LENGTH, PREDICTIONS, EXAMPLES = 64, 10, 4
# What the tests save of the compiler's time costs fusions, and each of these keeps an array less.
AS_FOR_USERS = {"xla_cpu_opt_preset": "CPU_OPT_PRESET_DEFAULT"}
if importlib.metadata.version("jaxlib").startswith("0.10."):
    AS_FOR_USERS["xla_cpu_use_fusion_emitters"] = True


def trained(model, precision):
    return Trained(model, precision, batch_loss, optimizer_values=2.0)


def compiled_bytes_per_row(model, precision):
    """Temporary memory that the compiled gradient takes for one more row."""
    graphdef, params = split_params(
        nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0), precision=precision_named(precision, "cpu")))
    )

    def temporaries(rows):
        fields = shapes(rows, LENGTH, PREDICTIONS, EXAMPLES)
        batch = {name: jax.ShapeDtypeStruct(*field) for name, field in fields.items()}

        def loss(params, batch):
            noise = DropoutSeed(jnp.uint32(0), jnp.uint32(0), jnp.arange(rows, dtype=jnp.uint32))
            sums = PRETRAINING.sums(merge_params(graphdef, params).on_batch(batch, noise), batch)
            return PRETRAINING.total(sums, PRETRAINING.weights(batch))

        lowered = jax.jit(jax.grad(loss)).lower(params, batch)
        return lowered.compile(AS_FOR_USERS).memory_analysis().temp_size_in_bytes

    return (temporaries(16) - temporaries(8)) / 8


@pytest.mark.parametrize("change", [{}, {"scan_layers": False}, {"remat": "layer"}])
def test_it_is_what_the_compiled_gradient_takes(change):
    model = dataclasses.replace(SMALL, **change)
    estimate = activation_bytes_per_row(trained(model, "float32"), "cpu", LENGTH, PREDICTIONS, EXAMPLES)
    compiled = compiled_bytes_per_row(model, "float32")
    assert 0.75 < estimate / compiled < 1.2  # the least for unrolled layers, the most for remat


@pytest.mark.parametrize(
    ("length", "attention", "remat", "scan", "measured"),
    # Bytes of a layer in programs compiled for TPU v5e, by the temporaries of 2 and 4 layers at two numbers of rows (64
    # and 128 at 128 tokens, 16 and 32 at 512).
    [
        (128, "fused", "none", False, 1_963_776),
        (512, "fused", "none", False, 7_859_200),
        (128, "explicit", "none", True, 3_351_000),
        (128, "explicit", "none", False, 3_205_000),
        (512, "explicit", "none", True, 27_790_000),
    ],
)
def test_a_layer_of_bert_base_as_compiled_for_a_tpu(length, attention, remat, scan, measured):
    base = ModelConfig(remat=remat, attention=attention, scan_layers=scan)
    few, many = (
        activation_bytes_per_row(
            trained(dataclasses.replace(base, num_hidden_layers=n), "bfloat16"), "tpu", length, 20, 16
        )
        for n in (2, 4)
    )
    assert (many - few) / 2 == pytest.approx(measured, rel=0.11)


@pytest.mark.parametrize(
    ("length", "predictions", "attention", "remat", "measured"),
    # Bytes of a row more in programs of all 12 layers, scanned, compiled for TPU v5e.
    [
        (128, 20, "fused", "none", 33_096_704),
        (128, 20, "fused", "layer", 8_830_000),
        (512, 77, "explicit", "none", 394_310_000),
    ],
)
def test_bert_base_as_compiled_for_a_tpu(length, predictions, attention, remat, measured):
    base = ModelConfig(remat=remat, attention=attention)
    estimate = activation_bytes_per_row(trained(base, "bfloat16"), "tpu", length, predictions, 16)
    assert estimate == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize(
    ("length", "predictions", "measured"),
    # Bytes of a row more in programs of all 12 layers, compiled for TPU v5e: unrolled, as by default, and scanned.
    [(128, 20, 40_847_520), (512, 77, 165_812_064), (128, 20, 33_096_704), (512, 77, 135_780_384)],
)
def test_the_share_leaves_room_for_what_the_compiler_takes_beyond_the_estimate(length, predictions, measured):
    estimate = activation_bytes_per_row(trained(ModelConfig(), "bfloat16"), "tpu", length, predictions, 16)
    assert ACTIVATION_SHARE * measured < estimate


def test_the_tensor_axis_divides_heads_mlp_and_vocabulary():
    explicit = dataclasses.replace(SMALL, attention="explicit")
    # One prediction: with more, a quarter of a layer takes less than the heads do, and the larger of them counts.
    of = lambda tensor: activation_bytes_per_row(trained(explicit, "bfloat16"), "gpu", LENGTH, 1, EXAMPLES, tensor)
    whole, half, quarter = of(1), of(2), of(4)
    assert whole > half > quarter > whole / 4
    assert whole - half == pytest.approx(2 * (half - quarter), rel=1e-3)
    tokens = LENGTH * SMALL.num_hidden_layers
    # Scores in float32, probabilities in bfloat16 and their masked copy, four MLP arrays and q, k, v.
    divided = tokens * ((4 + 2) * SMALL.num_attention_heads * LENGTH + 4 * 2 * SMALL.intermediate_size)
    assert whole - quarter > 0.75 * divided


def test_rows_without_predictions_as_in_fine_tuning():
    kept = [activation_bytes_per_row(trained(SMALL, "float32"), "cpu", LENGTH, n, 1) for n in (0, LENGTH)]
    assert 0 < kept[0] < kept[1]


@pytest.mark.parametrize("position_embedding_type", ["absolute", "sinusoidal"])
def test_parameters_by_formula(position_embedding_type):
    model = dataclasses.replace(SMALL, position_embedding_type=position_embedding_type)
    params = split_params(nnx.eval_shape(lambda: Bert(model, nnx.Rngs(0))))[1]
    assert parameter_count(model) == sum(x.size for x in jax.tree.leaves(params))
