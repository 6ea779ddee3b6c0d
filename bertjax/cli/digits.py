"""Whole numbers as users and folders write them: in the digits 0 to 9, and within 64 bits."""

import argparse
import re

_MOST_DIGITS = 18  # within 64 bits


def whole_number(text: str) -> int | None:
    """The number that ``text`` spells; None for anything else, including other digits or too many of them."""
    return int(text) if re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", text) else None


def integer(text: str) -> int:
    number = whole_number(text.removeprefix("-").removeprefix("+") if text[:2] not in ("-+", "+-") else "")
    if number is None:
        raise argparse.ArgumentTypeError(f"must be a whole number in the digits 0 to 9, not {text[:40]!r}")
    return -number if text.startswith("-") else number


def has_other_digits(text: str) -> bool:
    """Whether Python would read this as a number although it has digits other than 0 to 9."""
    return not text.isascii() and re.fullmatch(r"[+-]?[\d_]*\.?[\d_]*([eE][+-]?[\d_]+)?", text) is not None
