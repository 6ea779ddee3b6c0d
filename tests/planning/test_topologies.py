"""Names of machines: every one that is offered can be read, anything else is one line with what would work."""

import pytest

from bertjax.errors import ConfigError
from bertjax.parallel.devices import CHIPS, chip_of
from bertjax.planning.topologies import (
    EXAMPLES,
    FAMILIES,
    GPU_TARGETS,
    LOCAL,
    TPUS,
    devices_of,
    read_topology,
    shapes_of,
)

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize("name", EXAMPLES.split(", "))
def test_examples_are_topologies(name):
    assert read_topology(name).name == name


def test_spellings():
    assert read_topology(" V5E:4x4 ").name == "v5e:4x4"
    assert read_topology("7x:2x2x1") == read_topology("tpu7x:2x2x1")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "such as v5e:4x4"),
        ("v5:2x2", "did you mean 'v5p'?"),
        ("zzzz", "v5e:16x16"),
        ("v5e", "v5e:1x1, v5e:2x2"),
        ("v5e:4x2", "did you mean 'v5e:2x4'?"),
        ("v5e:3x3", "v5e:2x4 and v5e:4x4"),
        ("v5e:32x32", "v5e:16x16"),
        ("v5p:4x4", "v5p:2x2x4 and v5p:2x4x4"),
        ("v5p:4x2x2", "did you mean 'v5p:2x2x4'?"),
        ("v4:x", "v4:1x1x1, v4:2x2x1"),
        ("h200:3", "h200:1, h200:2, h200:4, h200:8"),
        ("h200", "h200:8"),
        ("local:2", "local"),
    ],
)
def test_any_other_name_is_one_line_with_what_would_work(name, says):
    with pytest.raises(ConfigError, match="topology") as error:
        read_topology(name)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("family", TPUS)
def test_slices_from_one_chip_to_a_pod(family):
    shapes = shapes_of(family)
    assert set(shapes[0]) == {1} and shapes[-1] == TPUS[family]
    assert len(set(shapes)) == len(shapes)


def test_every_family_has_its_facts():
    assert {chip.name for chip in CHIPS} | {LOCAL} >= set(FAMILIES)
    assert set(GPU_TARGETS) <= {chip.name for chip in CHIPS}
    assert all(chip.flops > 1e14 and chip.memory > 2**33 and chip.bandwidth > 5e11 for chip in CHIPS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("TPU v5p", "v5p"), ("TPU v6 lite", "v6e"), ("NVIDIA H200", "h200")],
)
def test_a_kind_of_device_finds_its_row(kind, name):
    class Device:
        device_kind = kind

    chip = chip_of(Device())
    assert chip is not None and chip.name == name


def test_local_is_what_is_here():
    import jax

    assert devices_of(read_topology("local")) == jax.devices()
