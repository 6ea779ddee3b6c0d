"""Bytes and FLOPs of three small programs as libtpu 0.0.42 prints them, counted by hand beside the planner."""

from pathlib import Path

import pytest

from bertjax.planning.hlo import read_instruction, read_program
from bertjax.planning.products import declared
from bertjax.planning.work import main_memory_bytes, matrix_flops, operations, roofline_seconds

pytestmark = pytest.mark.smoke
PROGRAMS = Path(__file__).parent / "programs"
ON_CHIP = frozenset({1, 2, 6})  # vector memory, semaphores, scalar memory


def program(name):
    return read_program((PROGRAMS / f"{name}.hlo").read_text())


def by_name(found):
    return {operation.name: (operation.read, operation.written) for operation in found}


def test_a_loop_with_a_kernel_whose_metadata_takes_several_lines():
    """Six times: a weight is sliced to the chip for the kernel, another inside a nested fusion for a product, and the
    kernel's result goes into its place in a stack. The activations stay on the chip."""
    x, w = 2048 * 512 * 2, 512 * 512 * 2
    found = program("scanned_kernel")
    once = by_name(operations(found, ON_CHIP))
    assert once.pop("copy-start.1") == (x, 0)  # the input to the chip
    assert once.pop("copy-start") == (0, x)  # the output from there
    assert once.pop("dynamic-slice_bitcast_fusion.2") == (6 * w, 0)
    assert once.pop("convolution_tanh_fusion.2") == (6 * w, 0)
    assert once.pop("bitcast_dynamic-update-slice_fusion.2") == (0, 6 * x)
    assert "custom-call" not in once  # memory set aside for the stack: nothing is written
    counters = 6 * 4 + 6 * 8 + 8  # the loop's counter is read, increased, and copied once before
    assert sum(map(sum, once.values())) == counters
    assert main_memory_bytes(found, ON_CHIP) == x + x + 6 * (w + w + x) + counters
    # The kernel says what it does; the product behind it in the loop's body counts too.
    assert matrix_flops(found) == 6 * (2 * 2048 * 512 * 512) * 2


def test_an_optimizers_update_that_streams_through_the_chip():
    """Adam on one stack of matrices behind a conditional: the weights come in four asynchronous slices, which lie side
    by side, and the gradient in an asynchronous copy; the new weights go back in another."""
    stack = 12 * 768 * 768 * 4
    found = program("optimizer_update")
    once = by_name(operations(found, ON_CHIP))
    for number in (128, 129, 130, 131):
        assert once.pop(f"slice-start.{number}") == (stack / 4, 0)
    assert once.pop("copy-start.31") == (stack, 0)  # the gradient
    assert once.pop("is-finite_select_fusion.5") == (2 * stack + 8, 2 * stack)  # both moments, and two factors
    assert once.pop("copy-start.30") == (0, stack)
    assert once == {"select_n.4": (4, 0)}
    assert main_memory_bytes(found, ON_CHIP) == 7 * stack + 12


@pytest.mark.parametrize("branches", ["{%skip, %update}", "{%update, %skip}"])
def test_of_a_conditional_the_branch_that_does_the_work_counts(branches):
    text = (PROGRAMS / "optimizer_update.hlo").read_text().replace("{%skip, %update}", branches)
    assert main_memory_bytes(read_program(text), ON_CHIP) > 1e8


def test_a_slice_in_a_nested_fusion_a_gather_and_a_scatter_in_place():
    tokens, hidden, wide = 8192, 768, 3072
    found = program("slices_gather_scatter")
    once = by_name(operations(found, ON_CHIP))
    # One layer's matrix out of the stack of twelve; the activations and the bias lie on the chip.
    assert once["convolution_add_fusion.12"] == (hidden * wide * 2, tokens * wide * 2)
    assert once["gather_fusion.4"] == (64 * 20 * 4, 0)  # one logit a row
    # Rows are read, added to and written; the indices come sorted and as they were.
    rows = tokens * hidden * 4
    assert once["scatter_custom_fusion.1"] == (rows + 2 * tokens * 4, rows)
    # A weight's gradient, whose operands go through fusions that only rename them.
    operands = tokens * wide * 2 + tokens * hidden * 2
    assert once["convolution_bitcast_fusion.10"] == (operands, hidden * wide * 4)
    assert len(once) == 4
    assert matrix_flops(found) == 2 * (2 * tokens * hidden * wide)


def fused(body, result, operands="%a"):
    """A program with one fusion of f32[8,64] ``a`` and f32[64] ``b``; ``body`` is what is inside it."""
    shapes = "a: f32[8,64], b: f32[64]"
    parameters = "  %a = f32[8,64]{1,0} parameter(0)\n  %b = f32[64]{0} parameter(1)\n"
    return read_program(
        f"%inside ({shapes}) -> {result} {{\n{parameters}{body}}}\n\nENTRY %main ({shapes}) -> {result} {{\n"
        f"{parameters}  ROOT %f = {result} fusion({operands}, %b), kind=kLoop, calls=%inside\n}}\n"
    )


ZERO = "  %n = s32[] constant(0)\n"
ROW = ZERO + "  %row = f32[1,64]{1,0} dynamic-slice(%a, %n, %n), dynamic_slice_sizes={1,64}\n"


@pytest.mark.parametrize(
    ("body", "result", "read", "written"),
    [
        # One row of eight, through a change of type on the way.
        (ROW + "  ROOT %r = f32[1,64]{1,0} negate(%row)\n", "f32[1,64]{1,0}", 256, 256),
        (
            ZERO + "  %c = f16[8,64]{1,0} convert(%a)\n  ROOT %r = f16[1,64]{1,0} slice(%c), slice={[0:1], [0:64]}\n",
            "f16[1,64]{1,0}",
            256,
            128,
        ),
        # Two rows of it, and one that is used beside the whole.
        (
            ROW + "  %two = f32[1,64]{1,0} slice(%a), slice={[1:2], [0:64]}\n"
            "  ROOT %r = f32[1,64]{1,0} add(%row, %two)\n",
            "f32[1,64]{1,0}",
            512,
            256,
        ),
        (
            ROW + "  %t = f32[8,64]{1,0} negate(%a)\n  ROOT %r = (f32[8,64]{1,0}, f32[1,64]{1,0}) tuple(%t, %row)\n",
            "(f32[8,64]{1,0}, f32[1,64]{1,0})",
            8 * 256,
            9 * 256,
        ),
        # A row is written in place; one more is read first, as where gradients accumulate.
        (
            ZERO + "  %u = f32[1,64]{1,0} bitcast(%b)\n"
            "  ROOT %r = f32[8,64]{1,0} dynamic-update-slice(%a, %u, %n, %n)\n",
            "f32[8,64]{1,0}",
            256,
            256,
        ),
        (
            ROW + "  %u = f32[1,64]{1,0} bitcast(%b)\n  %sum = f32[1,64]{1,0} add(%u, %row)\n"
            "  ROOT %r = f32[8,64]{1,0} dynamic-update-slice(%a, %sum, %n, %n)\n",
            "f32[8,64]{1,0}",
            256 + 256,
            256,
        ),
        # Not in place: what is updated is made in the fusion.
        (
            ZERO + "  %t = f32[8,64]{1,0} negate(%a)\n  %u = f32[1,64]{1,0} bitcast(%b)\n"
            "  ROOT %r = f32[8,64]{1,0} dynamic-update-slice(%t, %u, %n, %n)\n",
            "f32[8,64]{1,0}",
            8 * 256 + 256,
            8 * 256,
        ),
    ],
)
def test_what_a_fusion_reads_and_writes(body, result, read, written):
    (found,) = operations(fused(body, result))
    assert (found.read, found.written) == (read, written)


def test_asynchronous_pairs_count_once_with_their_results():
    text = """\
ENTRY %main (x: bf16[8,64]) -> bf16[32,64] {
  %x = bf16[8,64]{1,0} parameter(0)
  %n = s32[] constant(0)
  %gather = (bf16[8,64]{1,0}, bf16[32,64]{1,0}) all-gather-start(%x), channel_id=1, replica_groups=[1,4]<=[4]
  %whole = bf16[32,64]{1,0} all-gather-done(%gather)
  %reduce = bf16[32,64]{1,0} all-reduce-start(%whole), channel_id=2, replica_groups=[1,4]<=[4], to_apply=%add
  %sum = bf16[32,64]{1,0} all-reduce-done(%reduce)
  %send = (bf16[32,64]{1,0}, bf16[32,64]{1,0}, u32[], u32[]) collective-permute-start(%sum)
  %sent = bf16[32,64]{1,0} collective-permute-done(%send)
  %part = ((bf16[32,64]{1,0}, s32[], s32[]), bf16[8,64]{1,0}, u32[]) dynamic-slice-start(%sent, %n, %n)
  ROOT %end = bf16[8,64]{1,0} dynamic-slice-done(%part)
}
"""
    small, large = 8 * 64 * 2, 32 * 64 * 2
    assert by_name(operations(read_program(text))) == {
        "gather": (small, large),
        "reduce": (large, large),
        "send": (large, large),
        "part": (small + 8, small),  # and where it begins
    }


@pytest.mark.parametrize(
    "config",
    [
        '{"custom_call_config":{"body":"x","cost_estimate":{"flops":"60","bytes_accessed":"50"}}}',
        r'{debug = false, serialized_metadata = "{\22flops\22: \2260\22, \22bytes_accessed\22: \2250\22}"}',
    ],
)
def test_what_a_kernel_declares(config):
    line = f'  %k = f32[4]{{0}} custom-call(%x), custom_call_target="k", backend_config={config}'
    assert (declared(read_instruction(line), "flops"), declared(read_instruction(line), "bytes_accessed")) == (60, 50)


def test_a_kernel_that_loads_blocks_again_moves_what_it_declares():
    text = """\
ENTRY %main (x: f32[64]) -> f32[64] {
  %x = f32[64]{0} parameter(0)
  ROOT %k = f32[64]{0} custom-call(%x), custom_call_target="tpu_custom_call", backend_config={"cost_estimate":\
{"flops":"1","transcendentals":"0","bytes_accessed":"DECLARED"}}
}
"""
    assert main_memory_bytes(read_program(text.replace("DECLARED", "100"))) == 512
    assert main_memory_bytes(read_program(text.replace("DECLARED", "2048"))) == 2048


def test_every_operation_takes_as_long_as_its_slower_resource():
    found = operations(program("slices_gather_scatter"), ON_CHIP)
    product = 2 * (2 * 8192 * 768 * 3072) / 197e12
    rest = sum(o.bytes for o in found if not o.flops) / 819e9
    assert roofline_seconds(found, 197e12, 819e9) == pytest.approx(product + rest)
    assert all(o.flops / 197e12 > o.bytes / 819e9 for o in found if o.flops)
