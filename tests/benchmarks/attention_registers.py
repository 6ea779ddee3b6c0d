"""What ptxas makes of the fused attention kernels for a GPU that need not be there.

    python tests/benchmarks/attention_registers.py h200:1

prints registers, spilled bytes and tensor-core instructions of each kernel, for head sizes 64 and 128 in bfloat16 and
64 in float32. It needs jax's CUDA plugin, which brings ptxas.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

KINDS = ((64, "bfloat16"), (128, "bfloat16"), (64, "float32"))
_DUMPED = (
    "from tests.model.test_compiled_attention import compiled; "
    "compiled({topology!r}, 512, None, {precision!r}, 4, {head_size})"
)


def ptxas() -> str:
    """The program that comes with jax's CUDA plugin, or the one of the path."""
    nvidia = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (nvidia.submodule_search_locations or ())] if nvidia else []
    return str(next((found for place in places for found in place.glob("*/bin/ptxas")), "ptxas"))


def kernels(topology: str, head_size: int, precision: str) -> list[Path]:
    """The PTX files of one kernel's forward and backward pass, in a new folder."""
    folder = tempfile.mkdtemp()
    environment = os.environ | {"XLA_FLAGS": f"--xla_dump_to={folder}", "PYTHONPATH": str(Path.cwd())}
    environment["PATH"] = f"{Path(ptxas()).parent}:{os.environ['PATH']}"
    program = _DUMPED.format(topology=topology, precision=precision, head_size=head_size)
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, stderr=subprocess.DEVNULL)
    return sorted(path for path in Path(folder).glob("*.ptx") if "entry fused_attention" in path.read_text())


def report(ptx: Path) -> str:
    text = ptx.read_text()
    name = re.search(r"entry (fused_attention\w+)", text)[1]
    machine = re.search(r"\.target (\w+)", text)[1]
    command = [ptxas(), "-v", f"-arch={machine}", str(ptx), "-o", str(ptx.with_suffix(".cubin"))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spilled = re.search(r"Used (\d+) registers", said)[1], re.search(r"(\d+) bytes spill stores", said)[1]
    products = Counter(re.findall(r"(wgmma\.mma_async|mma\.sync)\.sync", text) or re.findall(r"mma\.sync", text))
    notes = " serialized wgmma" if "C7515" in said else ""
    tensor = ", ".join(f"{count} {kind}" for kind, count in products.items()) or "no tensor-core instructions"
    return f"{machine} {name}: {registers} registers, {spilled} bytes spilled, {tensor}{notes}"


if __name__ == "__main__":
    for topology in sys.argv[1:] or ("h200:1",):
        for head_size, precision in KINDS:
            print(f"{topology}, heads of {head_size}, {precision}")
            for ptx in kernels(topology, head_size, precision):
                print("  " + report(ptx))
