"""Numbers as users and folders write them: in the digits 0 to 9, and within 64 bits."""

import argparse
import contextlib
import math
import re
from collections.abc import Callable

_MOST_DIGITS = 18  # within 64 bits


def whole_number(text: str) -> int | None:
    """The number that ``text`` spells; None for anything else, including other digits or too many of them."""
    return int(text) if re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", text) else None


def integer(text: str) -> int:
    if not re.fullmatch(f"[+-]?[0-9]{{1,{_MOST_DIGITS}}}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number in the digits 0 to 9, not {text[:40]!r}")
    return int(text)


def number_in(low: float, high: float) -> Callable[[str], float]:
    """The type of a command's options: a number from ``low`` to ``high``."""

    def number(text: str) -> float:
        value = math.nan
        with contextlib.suppress(ValueError):
            value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not {text!r}")
        return value

    return number


def has_other_digits(text: str) -> bool:
    """Whether Python would read this as a number although it has digits other than 0 to 9."""
    return not text.isascii() and re.fullmatch(r"[+-]?[\d_]*\.?[\d_]*([eE][+-]?[\d_]+)?", text) is not None
