"""The training loop."""

from __future__ import annotations


class Interrupted(Exception):
    """An evaluation was asked to stop, and has."""
