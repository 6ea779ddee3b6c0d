"""The command's help and its one-line errors."""

import pytest

from bertjax import benchmark
from bertjax.benchmarking.registry import BENCHMARKS

pytestmark = pytest.mark.smoke


def test_the_help_names_every_benchmark_and_option(capsys):
    assert benchmark.main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 120
    for name, one in BENCHMARKS.items():
        assert f"\n  {name} " in shown
        assert all(f"\n    --{option}" in shown for option in one.options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tarin", "--config=tiny"], "did you mean 'train'?"),
        (["train"], "no config; give one, such as --config=tiny"),
        (["train", "--config=tiny", "--second=1"], "unknown flag --second; did you mean 'seconds'?"),
        (["train", "--config=tiny", "--seconds=soon"], "seconds"),
        (["train", "--config=tiny", "--seconds=0"], "--seconds = 0.0 must be above 0"),
        (["data", "--config=tiny", "--seconds=nan"], "--seconds = nan must be above 0"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, capsys):
    assert benchmark.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err
