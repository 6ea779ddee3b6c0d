"""The fused kernels through the real compilers of TPUs and GPUs, forward and backward, on a machine that has neither.

The whole catalogue takes some minutes:

    python -m pytest -n 0 -m "slow or not slow" tests/model/test_compiled_attention.py

GPUs need jax's CUDA plugin. There Triton compiles each kernel to PTX for the card and ptxas to its machine code;
nothing is run.
"""

import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from bertjax.errors import ConfigError
from bertjax.model.attention import SegmentIds, kernel
from bertjax.model.dropout import DropoutSeed, dropout_at
from bertjax.model.precision import precision_named
from bertjax.planning.topologies import GPU_TARGETS, devices_of, prepare_environment, read_topology

ROWS = 2
# (length, window)
ROWS_AND_WINDOWS = ((128, None), (512, None), (512, 128), (1024, None), (1024, 128), (8192, None), (8192, 128))
# (heads, their size): BERT's, larger ones, an odd share of a tensor-parallel model, and sizes that are padded.
HEADS = ((12, 64), (6, 128), (3, 64), (5, 32), (4, 48))
SMALL = ("v5e:2x2", 128, None, "bfloat16", 12, 64)
TPUS, GPUS = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2"), ("h200:1", "a100:1")
_BERT = ((12, 64),)
CATALOGUE = [
    (topology, *row, precision, *heads)
    for topologies, rows, precisions, several in (
        (TPUS, ROWS_AND_WINDOWS, ("bfloat16", "float32"), _BERT),
        (("v5e:2x2",), ((512, 128), (8192, 128)), ("bfloat16", "float32"), HEADS[1:]),
        (("v5e:2x2",), ((200, None), (16384, 128)), ("bfloat16", "float32"), _BERT),
        (("v5p:2x2x1",), ((16384, None),), ("bfloat16", "float32"), ((7, 32), (13, 64))),
        (GPUS, ((128, None), (8192, 128)), ("bfloat16", "float32"), _BERT),
        (GPUS, ((512, None),), ("bfloat16", "float16"), HEADS[1:]),
    )
    for topology, row, precision, heads in itertools.product(topologies, rows, precisions, several)
]


def compiled(topology, length, window, precision, heads, head_size, name="fused", rate=0.1):
    """A kernel's forward and backward pass with segments and dropout, compiled for the first device of a topology."""
    topology = read_topology(topology)
    try:
        prepare_environment(topology)
    except ConfigError as missing:
        pytest.skip(str(missing))
    placed = SingleDeviceSharding(devices_of(topology)[0])
    backend = "gpu" if topology.family in GPU_TARGETS else "tpu"
    kind = precision_named(precision, backend)

    def both_passes(query, key, value, ids, rows, cotangent):
        dropout = dropout_at(4, rate, DropoutSeed(jnp.uint32(1), jnp.uint32(2), rows))
        attend = lambda *x: kernel(name, kind, backend)(*x, SegmentIds(ids, ids), window, dropout)
        out, back = jax.vjp(attend, query, key, value)
        return out, *back(cotangent)

    shaped = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=placed)
    heads = shaped((ROWS, length, heads, head_size), kind.activations)
    ids, rows = shaped((ROWS, length), jnp.int32), shaped((ROWS,), jnp.uint32)
    return jax.jit(both_passes).lower(heads, heads, heads, ids, rows, heads).compile()


@pytest.mark.parametrize(
    "case", [SMALL, *(pytest.param(case, marks=pytest.mark.slow) for case in CATALOGUE if case != SMALL)], ids=str
)
def test_it_compiles_and_no_array_is_as_large_as_the_scores(case):
    program = compiled(*case)
    length, heads = case[1], case[4]
    text = program.as_text()
    assert "custom-call" in text
    square = rf"\[({ROWS},{heads}|{ROWS * heads}|{ROWS}),{length},{length}\]"
    assert not re.search(square, text)


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 128])
@pytest.mark.parametrize(
    ("name", "topology", "length"),
    [("splash", "v5e:2x2", 512), ("splash", "v5e:2x2", 8192), ("cudnn", "h200:1", 512)],
)
def test_kernels_of_other_packages_compile(name, topology, length, window):
    """Without ``tokamax``, which asks the card that is there, not the one to compile for."""
    assert "custom-call" in compiled(topology, length, window, "bfloat16", 12, 64, name, rate=0.0).as_text()
