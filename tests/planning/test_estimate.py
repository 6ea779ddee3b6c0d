"""From work to time, and from two programs to the rows that fit."""

import pytest

from bertjax.parallel.devices import CHIPS
from bertjax.planning.runs import BANDWIDTH_SHARE, PEAK_SHARE, largest_rows, step_time, totals

pytestmark = pytest.mark.smoke
V5E = next(chip for chip in CHIPS if chip.name == "v5e")


def test_the_low_end_is_the_slowest_resource_alone():
    (low, _), bound = step_time(V5E, flops=197e12, bytes_accessed=819e9 / 2, bytes_sent=200e9 / 4)
    assert (low, bound) == (1.0, "compute")
    assert step_time(V5E, 0, 819e9, 0)[1] == "memory"
    assert step_time(V5E, 0, 0, 200e9)[1] == "communication"


def test_the_high_end_hides_nothing():
    (_, high), _ = step_time(V5E, flops=197e12, bytes_accessed=0, bytes_sent=200e9)
    assert high == pytest.approx(1 / PEAK_SHARE + 1 / BANDWIDTH_SHARE)
    assert step_time(V5E, 0, 819e9, 0)[0][1] == pytest.approx(1 / BANDWIDTH_SHARE)


def test_days_chip_hours_and_cost():
    found = totals(86400.0, 2 * 86400.0, chips=4, price=0.5)
    assert found["days"] == (1.0, 2.0)
    assert found["chip_hours"] == (96.0, 192.0)
    assert found["cost"] == (48.0, 96.0)
    assert totals(1.0, 2.0, 4, None)["cost"] is None
    assert totals(1.0, 2.0, 4, 0.0)["cost"] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("measured", "rows"),
    [
        ({1: 20, 8: 90}, 9),  # 10 + 10 a row
        ({1: 20, 8: 90, 32: 340}, 9),
        ({16: 170, 8: 90}, 9),
        ({16: 400, 1: 250}, 0),  # not even without rows
        ({4: 50}, 4),
        ({4: 101}, 0),
        ({4: 50, 2: 50}, 4),
    ],
)
def test_rows_that_fit_into_a_hundred(measured, rows):
    assert largest_rows(measured, 100) == rows
