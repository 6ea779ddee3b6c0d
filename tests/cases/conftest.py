"""Small hostile inputs with their right values, of the folder ``cases`` of the real data."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cases():
    """The folder of the inputs; skips without it."""
    folder = Path(os.environ.get("BERTJAX_REAL_DATA") or "/nonexistent") / "cases"
    if not folder.is_dir():
        pytest.skip("BERTJAX_REAL_DATA names no folder with cases/")
    return folder
