"""Numbers, names and texts as people read them."""

import json
import math
import re
from typing import Any

from bertjax.reporting.record import count, number

_LARGE = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}
# Control characters, lone surrogates and noncharacters, which HTML does not allow.
_NOT_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# Bidi embeddings, overrides and isolates, which show letters in another order than they are stored.
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """``text`` with U+FFFD for what HTML does not allow, and with bidi controls spelled out."""
    return _BIDI.sub(lambda match: f"\\u{ord(match[0]):04x}", _NOT_TEXT.sub("\ufffd", text))


def text(value: Any) -> str:
    """A JSON value as JSON, a string without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cell(value: Any) -> str:
    """A JSON value as a number in a table, a dash for anything else."""
    known = number(value)
    if known is None:
        return "–"
    return str(value) if count(value) is not None else figure(known)


def objective_words(name: str) -> str:
    """A part of a pretraining loss, by the prefix of its fields: "mlm" -> "masked-LM"; unknown ones keep their name."""
    return {"mlm": "masked-LM", "nsp": "next-sentence", "sop": "sentence-order"}.get(name, title(name))


def title(name: str) -> str:
    """A key as words: "f1_macro" -> "f1 macro"."""
    return name.replace("_", " ")


def short(value: float, digits: str = "#.3g") -> str:
    """Three significant digits and a letter for thousands, millions ...: 1234567 -> "1.23M"."""
    for letter, size in _LARGE.items():
        if abs(value) >= size:
            return f"{value / size:{digits}}".removesuffix(".") + letter
    return figure(value)


def figure(value: float) -> str:
    """Four significant digits."""
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


def ticks(values: list[float]) -> list[str]:
    """The numbers at the ticks of an axis, with as few digits as tell them apart."""
    largest = max(map(abs, values))
    if largest >= 1e4:
        return [short(value, ".4g") if value else "0" for value in values]
    if largest < 1e-2:
        return [powered(value, 2) if value else "0" for value in values]
    decimals = max(len(f"{value:.6g}".partition(".")[2]) for value in values)
    return [f"{value:,.{decimals}f}" if value else "0" for value in values]


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
    """Bytes, in decimal units: 1.39e9 -> "1.39 GB"."""
    return re.sub("([kMGT]?)$", r" \1B", short(number) if number >= 1e3 else f"{number:.0f}", count=1)
