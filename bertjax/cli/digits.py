"""Whole numbers as users and folders write them: with the digits 0 to 9, and with no more than there can be."""

from __future__ import annotations

import argparse
import re

_MOST_DIGITS = 18  # within 64 bits


def whole_number(text: str) -> int | None:
    """The number that ``text`` is; None where it is anything else, also one of other digits or of far too many."""
    return int(text) if re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", text) else None


def integer(text: str) -> int:
    """The type of a command's options: a whole number with or without a sign."""
    number = whole_number(text.removeprefix("-").removeprefix("+") if text[:2] not in ("-+", "+-") else "")
    if number is None:
        raise argparse.ArgumentTypeError(f"must be a whole number in the digits 0 to 9, not {text[:40]!r}")
    return -number if text.startswith("-") else number


def has_other_digits(text: str) -> bool:
    """Whether Python would take this for a number, though it has digits other than 0 to 9."""
    return not text.isascii() and re.fullmatch(r"[+-]?[\d_]*\.?[\d_]*([eE][+-]?[\d_]+)?", text) is not None
