"""The reader of compiled programs: loops, products, bytes and collectives, on texts and on programs compiled here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from bertjax.planning.hlo import Shape, read_instruction, read_program, read_shapes
from bertjax.planning.work import collectives, group_size, main_memory_bytes, matrix_flops

pytestmark = pytest.mark.smoke

# As libtpu writes a loop: no trip count, layouts with tiles, the counter a member of the tuple.
TPU_LOOP = """\
%fused_product (p0: bf16[8,16], p1: bf16[4,16,32], p2: s32[]) -> bf16[8,32] {
  %p0 = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[4,16,32]{2,1,0:T(8,128)(2,1)} parameter(1)
  %p2 = s32[]{:T(128)S(6)} parameter(2)
  %zero = s32[]{:T(128)} constant(0)
  %one.1 = bf16[1,16,32]{2,1,0:T(8,128)(2,1)} dynamic-slice(%p1, %p2, %zero, %zero), dynamic_slice_sizes={1,16,32}
  %two = bf16[16,32]{1,0:T(8,128)(2,1)} bitcast(%one.1)
  ROOT %conv = bf16[8,32]{1,0:T(8,128)(2,1)} convolution(%p0, %two), dim_labels=bf_io->bf
}

%body (arg: (s32[], bf16[8,16], bf16[4,16,32])) -> (s32[], bf16[8,16], bf16[4,16,32]) {
  %arg = (s32[]{:T(128)}, bf16[8,16]{1,0:T(8,128)(2,1)S(1)}, /*index=2*/bf16[4,16,32]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %x = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%arg), index=1
  %w = bf16[4,16,32]{2,1,0:T(8,128)(2,1)} get-tuple-element(%arg), index=2
  %step = s32[]{:T(128)} constant(STEP)
  %next = s32[]{:T(128)} add(%count, %step)
  %y = bf16[8,32]{1,0:T(8,128)(2,1)S(1)} fusion(%x, %w, %count), kind=kOutput, calls=%fused_product
  %sum = bf16[8,32]{1,0:T(8,128)(2,1)S(1)} all-reduce(%y), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %out = (s32[]{:T(128)}, bf16[8,16]{1,0}, bf16[4,16,32]{2,1,0}) tuple(%next, %x, %w)
}

%condition (arg.1: (s32[], bf16[8,16], bf16[4,16,32])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, bf16[8,16]{1,0:T(8,128)(2,1)S(1)}, bf16[4,16,32]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %count.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  %bound = s32[]{:T(128)} constant(4)
  ROOT %less = pred[]{:T(512)} compare(%count.1, %bound), direction=LT, metadata={op_name="a (b)"}
}

ENTRY %main (a: bf16[8,16], b: bf16[4,16,32]) -> bf16[4,16,32] {
  %a = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %b = bf16[4,16,32]{2,1,0:T(8,128)(2,1)} parameter(1)
  %zero.1 = s32[]{:T(128)} constant(0)
  %init = (s32[]{:T(128)}, bf16[8,16]{1,0}, bf16[4,16,32]{2,1,0}) tuple(%zero.1, %a, %b)
  %loop = (s32[], bf16[8,16]{1,0}, bf16[4,16,32]{2,1,0}) while(%init), condition=%condition, body=%body
  ROOT %done = bf16[4,16,32]{2,1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=2
}
"""


@pytest.mark.parametrize(("step", "trips"), [(1, 4), (2, 2)])
def test_a_tpu_loop_is_counted_as_often_as_it_runs(step, trips):
    program = read_program(TPU_LOOP.replace("STEP", str(step)))
    assert matrix_flops(program) == trips * 2 * 8 * 16 * 32
    (found,) = collectives(program, devices=4)
    assert (found.kind, found.devices, found.count, found.bytes, found.in_loop) == ("all-reduce", 2, trips, 512, True)
    assert found.bytes_sent == trips * 512  # two devices: each sends its half twice


def test_only_the_slice_that_a_fusion_takes_counts_and_nothing_of_memory_on_the_chip():
    program = read_program(TPU_LOOP.replace("STEP", "1"))
    # Each time one of four slices of 16 x 32, and the count; the rest lies on the chip.
    assert main_memory_bytes(program, frozenset({1, 6})) == 4 * (16 * 32 * 2 + 4 + 4 + 8)
    assert main_memory_bytes(program) > 4 * (16 * 32 * 2 + 8 * 16 * 2 + 8 * 32 * 2)


def test_shapes():
    assert read_shapes("(f32[2,3]{1,0:T(8,128)S(1)}, /*index=1*/pred[], s4[5]{0}, token[])") == (
        Shape("f32", (2, 3), 1),
        Shape("pred", ()),
        Shape("s4", (5,)),
        Shape("token", ()),
    )
    assert [s.bytes for s in read_shapes("bf16[3], pred[], s4[5], token[], f8e4m3fn[7]")] == [6, 1, 3, 0, 7]


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[4,2]<=[8]", 2),
        ("[2,4]<=[2,2,2]T(0,2,1)", 4),
        ("mesh['a'=2,'b'=4] {'b'}", 4),
        ("mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'a','b'}", 8),
        ("mesh['a'=2,'b'=4] {'b':(1)2}", 2),
        ("{}", 8),
    ],
)
def test_every_notation_of_groups(groups, size):
    line = f"  %x = f32[4]{{0}} all-reduce(%y), channel_id=1, replica_groups={groups}, use_global_device_ids=true"
    assert group_size(read_instruction(line), devices=8) == size


BATCHED = """\
ENTRY %main (q: bf16[6,5,16,8], k: bf16[6,5,16,8]) -> bf16[6,5,16,16] {
  %q = bf16[6,5,16,8]{3,2,1,0} parameter(0)
  %k = bf16[6,5,16,8]{3,2,1,0} parameter(1)
  ROOT %s = bf16[6,5,16,16]{3,2,1,0} convolution(%q, %k), WINDOW, dim_labels=01bf_01oi->01bf
}
"""


@pytest.mark.parametrize(
    "window",
    [
        "window={size=6x5 stride=5x4 lhs_dilate=6x5}",
        "window={size=6x5 stride=6x5 pad=5_5x4_4 lhs_dilate=5x4 rhs_reversal=1x1}",
    ],
)
def test_a_batched_product_that_a_tpu_writes_as_a_convolution(window):
    assert matrix_flops(read_program(BATCHED.replace("WINDOW", window))) == 2 * 6 * 5 * 16 * 16 * 8


def test_a_product_handed_to_a_gpu_library():
    text = """\
ENTRY %main (x: f32[8,16], w: f32[16,32]) -> (f32[8,32], s8[64]) {
  %x = f32[8,16]{1,0} parameter(0)
  %w = f32[16,32]{1,0} parameter(1)
  ROOT %gemm = (f32[8,32]{1,0}, s8[64]{0}) custom-call(%x, %w), custom_call_target="__cublas$gemm", \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
}
"""
    assert matrix_flops(read_program(text)) == 2 * 8 * 16 * 32


def test_parts_of_one_asynchronous_collective_count_once():
    part = "%part.N (x: bf16[8,4]) -> bf16[8,16] {\n  %x = bf16[8,4]{1,0} parameter(0)\n  ROOT %g = bf16[8,16]{1,0} \
all-gather(%x), channel_id=7, replica_groups=[1,4]<=[4], dimensions={1}\n}\n\n"
    main = "ENTRY %main (x: bf16[8,4]) -> bf16[8,16] {\n  %x = bf16[8,4]{1,0} parameter(0)\n"
    for n in "123":
        main += f"  %f{n} = bf16[8,16]{{1,0}} fusion(%x), kind=kCustom, calls=%part.{n}\n"
    program = read_program("".join(part.replace("N", n) for n in "123") + main + "}\n")
    assert [(c.kind, c.count, c.bytes) for c in collectives(program, 4)] == [("all-gather", 1, 8 * 16 * 2)]


def test_scanned_layers_count_like_unrolled_ones():
    def loss(w, x, unroll):
        return jnp.sum(jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w, unroll=unroll)[0])

    w, x = jnp.zeros((6, 64, 64)), jnp.zeros((32, 64))
    programs = [
        read_program(jax.jit(jax.grad(lambda w, x, u=u: loss(w, x, u))).lower(w, x).compile().as_text()) for u in (1, 6)
    ]
    # Forward, and both products of the backward pass but for the gradient of the first input.
    counted = [matrix_flops(program) for program in programs]
    assert counted == pytest.approx([2 * 32 * 64 * 64 * (6 + 6 + 5)] * 2, rel=2 * 32 * 64 * 64 / counted[1])


def test_collectives_of_a_program_compiled_here():
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data")))
    w = jax.ShapeDtypeStruct((32, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))
    whole = NamedSharding(mesh, PartitionSpec())
    text = jax.jit(lambda x, w: x @ w, out_shardings=whole).lower(x, w).compile().as_text()
    found = collectives(read_program(text), 8)
    assert found and all(c.devices in (2, 4, 8) and c.count == 1 and not c.in_loop for c in found)
