"""Damaged checkpoints, as often as an ordinary run of the tests bears; the catalogue tries all."""

import damage


def test_flipped_bits_are_never_restored():
    result = damage.flip(6, seed=0)
    assert result.ok, result.failures


def test_cut_files_are_never_restored():
    result = damage.truncate(12, seed=0)
    assert result.ok, result.failures


def test_files_missing_empty_unreadable_zeroed_or_stale_are_never_restored():
    result = damage.some_missing(24, seed=0)
    assert result.ok, result.failures


def test_the_command_goes_on_from_the_step_before():
    result = damage.whole_runs("truncate", 1, seed=0)
    assert result.ok, result.failures


def test_without_a_whole_checkpoint_nothing_is_deleted():
    result = damage.none_whole(1, seed=0)
    assert result.ok, result.failures
