"""What one accelerator does, in ten minutes: kernels right and fast, base and large at 128 and 512, the peer beside.

tests/benchmarks/accelerator.sh [--small] [--minutes=9.5] [--only=PART,...] [--corpus=SPEC] [--output=DIR]

  kernels     every attention kernel against explicit: parity, leakage, dropout masks to the bit, repeats
  attention   their speed beside explicit, in the shapes of base
  base128 base512 large128 large512
              the training step of bertjax in bfloat16, on synthetic rows: rows a second, MFU, roofline, memory
  torch-...   the same of transformers on PyTorch: SDPA, bfloat16, fused AdamW, torch.compile or not
  feed        base at 128 with the real feed beside one repeated batch, on the embedded corpus

Each part is a process of its own with a time limit; one that fails is recorded, and the others go on. ``--small``: tiny
shapes, to see that the script runs on a CPU. Writes DIR/accelerator.json (DIR: $OUT, or build/accelerator), anew after
every part, and the output of the parts to DIR/accelerator.log. Exit code 1 if a part failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPES = ("base128", "large512", "base512", "large128")  # the most telling first, should the time run out
ENOUGH_SECONDS = 15.0  # a part is not begun with less
NO_MEMORY = "OutOfMemoryError"
LEAST_ROWS = 8
FASTEST = ["--config.model.attention=auto", "--config.model.scan_layers=false"]  # not what every config asks for


@dataclass(frozen=True)
class Part:
    """command: arguments of the Python interpreter; it prints one JSON object. limit: seconds. skip(): why it cannot
    run here, or None."""

    name: str
    command: list[str]
    limit: float
    skip: Callable[[], str | None] = lambda: None


def torch_is_missing(device: str) -> str | None:
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    if device == "cpu":
        return None
    code = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 9)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120)
    return None if answer.returncode == 0 else "no CUDA build of torch is installed, or it sees no card"


def parts(options: argparse.Namespace) -> list[Part]:
    return small_parts(options) if options.small else full_parts(options)


def full_parts(options: argparse.Namespace) -> list[Part]:
    script = lambda name, *arguments: [str(HERE / name), *arguments]
    command = lambda *arguments: ["-m", "bertjax.benchmark", *arguments, "--json"]
    no_torch = lambda: torch_is_missing("cuda")
    peer = lambda shape, rows, *more: script(
        "torch_pretraining.py", f"--shape={shape}", f"--rows={rows}", "--device=cuda", "--precision=bfloat16", *more
    )
    ours = {
        shape: Part(shape, script("pretraining_step.py", f"--shape={shape}", "--precision=bfloat16", *FASTEST), 120)
        for shape in SHAPES
    }
    return [
        Part("kernels", script("kernels_on_device.py", "--seconds=70"), 110),
        ours["base128"],
        Part("torch-base128", peer("base128", 256), 60, no_torch),
        Part("torch-base128-compile", peer("base128", 256, "--compile"), 90, no_torch),
        ours["large512"],
        Part("torch-large512-compile", peer("large512", 64, "--compile", "--steps=10"), 110, no_torch),
        ours["base512"],
        Part("attention", command("attention", "--config=base", "--config.precision=bfloat16", "--seconds=8"), 80),
        Part("torch-base512-compile", peer("base512", 128, "--compile", "--steps=10"), 90, no_torch),
        ours["large128"],
        Part("feed", command("train", "--config=base", *FASTEST, *_corpus(options), "--seconds=8"), 150),
    ]


def small_parts(options: argparse.Namespace) -> list[Part]:
    script = lambda name, *arguments: [str(HERE / name), *arguments]
    few = ["--config.phases.phase1.batch_size=8", "--config.phases.phase2.batch_size=8"]
    few += ["--config.model.num_hidden_layers=1", "--config.model.vocab_size=1000", "--seconds=0.2"]
    command = lambda name, *more: ["-m", "bertjax.benchmark", name, "--config=tiny", *few, *more, "--json"]
    one_step = ["--shape=tiny", "--rows=4", "--precision=float32"]
    return [
        Part("kernels", script("kernels_on_device.py", "--small", "--seconds=2"), 60),
        Part("tiny", script("pretraining_step.py", *one_step, *FASTEST, "--seconds=0.2"), 60),
        Part("torch-tiny", script("torch_pretraining.py", *one_step, "--steps=3"), 60, lambda: torch_is_missing("cpu")),
        Part("attention", command("attention", "--rows=1"), 60),
        Part("feed", command("train", *_corpus(options)), 60),
    ]


def _corpus(options: argparse.Namespace) -> list[str]:
    return [f"--config.data.corpus={options.corpus}"] if options.corpus else []


def run(part: Part, seconds: float, log: Any) -> dict[str, Any]:
    """status: ok, failed, timed out, skipped; with the result or the reason, and the seconds that it took."""
    reason = part.skip()
    if reason is not None:
        return {"status": "skipped", "reason": reason}
    began, command = time.monotonic(), part.command
    while True:
        left = min(part.limit, seconds) - (time.monotonic() - began)
        record = _run_once(command, left, log) | {"seconds": round(time.monotonic() - began, 1)}
        fewer = with_half_the_rows(command) if NO_MEMORY in record.get("reason", "") else None
        if fewer is None:
            return record | {"command": " ".join(command)}
        command = fewer


def _run_once(command: list[str], seconds: float, log: Any) -> dict[str, Any]:
    log.write(f"\n$ {' '.join(command)}\n")
    log.flush()
    started = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = started.communicate(timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        out, err = started.communicate()
        log.write(out + err)
        return {"status": "timed out", "reason": f"not done after {seconds:.0f} s; {_last_line(err)}"}
    log.write(out + err)
    if started.returncode:
        reason = f"exit code {started.returncode}; {_last_line(err)}"
        return {
            "status": "failed",
            "reason": reason + f"; {NO_MEMORY}" * (NO_MEMORY in err and NO_MEMORY not in reason),
        }
    try:
        return {"status": "ok", "result": json.loads(out[out.index("{") :])}
    except ValueError:
        return {"status": "failed", "reason": f"it printed no JSON; {_last_line(out)}"}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:500]


def with_half_the_rows(command: list[str]) -> list[str] | None:
    """The command with half of its ``--rows``; None where that would be too few, or it has none."""
    for place, argument in enumerate(command):
        if argument.startswith("--rows=") and (rows := int(argument.removeprefix("--rows=")) // 2) >= LEAST_ROWS:
            return [*command[:place], f"--rows={rows}", *command[place + 1 :]]
    return None


def device() -> dict[str, Any]:
    """What jax sees, read in a process that ends, so that it keeps no memory of the card."""
    code = "import jax, json; d = jax.devices(); "
    code += "print(json.dumps([d[0].platform, d[0].device_kind, len(d), jax.__version__]))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    if answer.returncode:
        return {"error": _last_line(answer.stderr)}
    return dict(zip(("platform", "kind", "count", "jax"), json.loads(answer.stdout.splitlines()[-1]), strict=True))


# --- For a person -----------------------------------------------------------------------------------------------------


def summary(records: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, record in records.items():
        if record["status"] != "ok":
            lines.append(f"{name}: {record['status']}: {record['reason']}")
            continue
        tell = next(tell for start, tell in TELLING.items() if name.startswith(start))
        lines.append(f"{name}: {tell(record['result'])}")
    for shape in ("tiny", *SHAPES):
        lines += _against_torch(shape, records)
    return lines


def _kernels(found: dict[str, Any]) -> str:
    bad = "; ".join(f"{row['kernel']} {row['precision']} {row['length']}" for row in found["wrong"])
    left = f", {found['left_out']} left out for lack of time" if found["left_out"] else ""
    checked = f"{len(found['checks'])} checks of {', '.join(found['kernels']) or 'no kernel'}{left}"
    return f"{'right' if found['right'] else f'WRONG ({bad})'} in {checked}"


def _attention(found: dict[str, Any]) -> str:
    lines = []
    for phase in found["phases"]:
        for case in phase["cases"]:
            ran = [row for row in case["kernels"] if not row["cannot"] and not row["interpreted"]]
            times = ", ".join(f"{row['kernel']} {row['forward_backward_seconds'] * 1e3:.3g} ms" for row in ran)
            lines.append(f"{phase['rows']} x {phase['sequence_length']}, dropout {case['dropout']:g}: {times}")
    return "; ".join(lines)


def _step(found: dict[str, Any]) -> str:
    mfu = "" if found.get("mfu") is None else f", MFU {found['mfu']:.1%}"
    share = f", {found['roofline_share']:.1%} of the roofline's speed" if found.get("roofline_share") else ""
    used = found["peak_memory_bytes"]
    memory = f", {used / 2**30:.1f} GiB used at most" if used else ""
    speed = f"{found['rows_per_second']:,.4g} rows a second, {found['rows']} a step, {found['precision']}"
    return speed + mfu + share + memory


def _feed(found: dict[str, Any]) -> str:
    return "; ".join(
        f"{phase['phase']}: {phase['tokens_per_second']:,.0f} real tokens a second, feed {phase['feed_overhead']:.1%}"
        for phase in found["phases"]
    )


TELLING = {"kernels": _kernels, "attention": _attention, "feed": _feed, "": _step}


def _against_torch(shape: str, records: dict[str, dict[str, Any]]) -> list[str]:
    speeds = {
        name: record["result"]["rows_per_second"]
        for name, record in records.items()
        if record["status"] == "ok" and (name == shape or name.startswith(f"torch-{shape}"))
    }
    ours = speeds.pop(shape, None)
    if ours is None or not speeds:
        return []
    best = max(speeds, key=lambda name: speeds[name])
    return [f"{shape}: {ours / speeds[best]:.2f} x {best}, the best of {len(speeds)} on PyTorch"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together")
    parser.add_argument("--only", default="", help="names of parts, separated by commas")
    parser.add_argument("--corpus", default="", help="for the part feed, as config.data.corpus")
    parser.add_argument("--output", type=Path, default=Path(os.environ.get("OUT", "build/accelerator")))
    options = parser.parse_args()
    chosen, only = parts(options), set(filter(None, options.only.split(",")))
    if unknown := only - {part.name for part in chosen}:
        parser.error(f"no part {', '.join(sorted(unknown))}; parts: {', '.join(part.name for part in chosen)}")
    options.output.mkdir(parents=True, exist_ok=True)
    began, records = time.monotonic(), {}
    seen = device()
    print(f"device: {seen}")
    with (options.output / "accelerator.log").open("w") as log:
        for part in chosen:
            if only and part.name not in only:
                continue
            left = options.minutes * 60 - (time.monotonic() - began)
            if left < ENOUGH_SECONDS:
                records[part.name] = {"status": "not run", "reason": "no time was left"}
            else:
                records[part.name] = run(part, left, log)
            print(summary({part.name: records[part.name]})[0])
            answer = {"device": seen, "small": options.small, "seconds": round(time.monotonic() - began, 1)}
            answer |= {"parts": records, "summary": summary(records)}
            (options.output / "accelerator.json").write_text(json.dumps(answer, indent=1))
    print("\n".join(line for shape in ("tiny", *SHAPES) for line in _against_torch(shape, records)))
    print(f"{time.monotonic() - began:.0f} s; {options.output / 'accelerator.json'}")
    return int(any(record["status"] in ("failed", "timed out") for record in records.values()))


if __name__ == "__main__":
    sys.exit(main())
