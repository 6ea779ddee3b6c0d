"""A plan as tables for a person."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from bertjax.cli.showing import plain, short
from bertjax.parallel.devices import Chip
from bertjax.planning.runs import ASSUMED

_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALL = 0.01  # collectives below this share of a step's traffic share one line

_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("rows a device", lambda p: f"{p['rows_per_device']}" + f" x {p['accumulation']} parts" * (p["accumulation"] > 1)),
    ("parameters", lambda p: _gib(p["memory"]["parameters"])),
    ("optimizer state", lambda p: _gib(p["memory"]["optimizer"])),
    ("temporaries", lambda p: _gib(p["memory"]["temporaries"])),
    ("memory", lambda p: f"{_gib(p['memory']['total'])} of {_gib(p['memory']['limit'])}"),
    ("fits", lambda p: f"yes, {1 - p['memory']['total'] / p['memory']['limit']:.0%} free" if p["fits"] else "NO"),
    ("rows that would fit", lambda p: f"about {p['largest_rows_per_device']}"),
    ("FLOPs a step", lambda p: _scaled(p["flops"])),
    ("  to the formula's", lambda p: f"{p['flops'] / p['flops_formula']:.3f}" if p["flops"] is not None else "-"),
    ("bytes moved a step", lambda p: _scaled(p["bytes_accessed"], "B")),
    ("sent by a device", lambda p: _scaled(sum(c["bytes_sent"] for c in p["collectives"]), "B")),
    ("step, milliseconds", lambda p: _range(p["step_seconds"], 1e3)),
    ("  set by", lambda p: p["bound"] or "-"),
    ("days", lambda p: _range(p["step_seconds"], p["steps"] / 86400)),
)


def show(plan: dict[str, Any], chip: Chip | None) -> None:
    """Prints what ``plan_run`` found on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    mesh = " x ".join(f"{name} {size}" for name, size in plan["mesh"].items())
    machine = f"{plan['topology']}: {plan['devices']} x {plan['device_kind']}"
    console.print(f"{plain(plan['config'])} on {machine}, {mesh}", markup=False)
    table = Table("a device or a step", *(Column(Text(plain(phase["phase"]))) for phase in plan["phases"]))
    for name, cell in _ROWS:
        table.add_row(name, *(cell(phase) for phase in plan["phases"]))
    console.print(table)
    for phase in plan["phases"]:
        if phase["collectives"]:
            console.print(_collectives(phase))
    for line in (*_totals(plan, chip), *plan["advice"]):
        console.print(plain(line), markup=False)


def _collectives(phase: dict[str, Any]) -> Table:
    title = Text(f"{plain(phase['phase'])}: a device's collectives in a step")
    table = Table("collective", "devices", "times", "each", "arrays", title=title)
    every = sum(c["bytes_sent"] for c in phase["collectives"])
    large = [c for c in phase["collectives"] if c["bytes_sent"] >= _SMALL * every]
    for c in large:
        table.add_row(c["kind"], str(c["devices"]), str(c["count"]), _scaled(c["bytes"], "B"), short(c["shapes"], 60))
    if small := len(phase["collectives"]) - len(large):
        table.add_row(f"{small} small ones", "", "", "", "")
    return table


def _totals(plan: dict[str, Any], chip: Chip | None) -> list[str]:
    if chip is None:
        return [f"no step time: no rates known of {plan['device_kind']}"]
    if plan["days"] is None:
        return ["no step time: not every phase compiles"]
    cost = f", ${_range(plan['cost'])} at ${plan['price']:g} a chip-hour" if plan["cost"] else ""
    links, memory = _scaled(chip.interconnect, "B/s"), _scaled(chip.bandwidth, "B/s")
    return [
        f"the run: {_range(plan['days'])} days, {_range(plan['chip_hours'])} chip-hours{cost}",
        f"times: from the roofline ({_scaled(chip.flops, 'FLOP/s')}, memory {memory}, links {links} a device; "
        f"{chip.source})",
        f"       to {ASSUMED}; compiled, not run",
    ]


def _range(ends: tuple[float, float] | None, factor: float = 1.0) -> str:
    return " - ".join(_number(end * factor) for end in ends) if ends else "-"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def _scaled(value: float | None, of: str = "") -> str:
    if value is None:
        return "-"
    factor, unit = next(((f, u) for f, u in _UNITS if value >= f), (1.0, ""))
    return f"{value / factor:.3g} {unit}{of}"
