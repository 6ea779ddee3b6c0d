"""Numbers as people write them."""

from __future__ import annotations

import math

_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(value: float) -> str:
    """1234567 -> "1.23M"."""
    for size, letter in _LARGE:
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - math.floor(math.log10(abs(scaled))))}f}{letter}"
    return figure(value)


def compact(value: float) -> str:
    """A round number without zeros: 15000 -> "15k"."""
    size, letter = next(((size, letter) for size, letter in _LARGE if abs(value) >= size), (1.0, ""))
    return f"{value / size:.4g}{letter}"


def figure(value: float) -> str:
    """Four digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5:
        return f"{value:,.0f}" if abs(value) < 1e12 else powered(value, 3)
    if abs(value) < 1e-3:
        return powered(value, 2)
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 4)}f}"


def powered(value: float, decimals: int) -> str:
    """0.00015 -> "1.5e-4"."""
    digits, exponent = f"{value:.{decimals}e}".split("e")
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}e{int(exponent)}"


def percent(value: float) -> str:
    return f"{value:.1%}" if abs(value) >= 0.01 or value == 0 else f"{value:.2%}"


def duration(seconds: float) -> str:
    """3725 -> "1 h 2 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    units = ((86400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s")))
    large, small, names = next(unit for unit in units if whole >= unit[0])
    rest = whole % large // small
    return f"{whole // large} {names[0]}" + (f" {rest} {names[1]}" if rest else "")


def size(number: float) -> str:
    """Bytes, in decimal units."""
    for unit, letters in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:.2f} {letters}"
    return f"{number:.0f} B"


def title(name: str) -> str:
    """A key as words: "f1_macro" -> "f1 macro"."""
    return name.replace("_", " ")
