"""Small whole runs: see tests/conftest.py."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def runs_are_small(small_runs):
    pass
