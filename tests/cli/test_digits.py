"""Numbers are written with the digits 0 to 9; other digits are one line, wherever a number is given."""

from pathlib import Path

import pytest

from bertjax.cli.command import whole_number
from bertjax.cli.flags import parse
from bertjax.cluster.environment import find_cluster
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.tables import Columns, read_texts

TINY = str(Path(__file__).parent.parent.parent / "configs" / "tiny.py")
# Arabic, superscript (a digit that is no number to Python), full width, circled, and more than any number here has.
ODD = ["\u0663", "\u00b2", "\uff13", "\u2462", "1\u0663", "9" * 5000]


@pytest.mark.parametrize("text", [*ODD, "", "-1", "+1", "1_0", " 1", "1.0"])
def test_what_is_no_whole_number(text):
    assert whole_number(text) is None


def test_whole_numbers():
    assert [whole_number(text) for text in ("0", "007", "123456789012345678")] == [0, 7, 123456789012345678]


def one_line(capsys, code=2):
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 6000
    return err


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["num_processes", "process_id"])
def test_processes(odd, name, capsys):
    from bertjax.train.__main__ import main

    assert main([f"--config={TINY}", f"--{name}={odd}"]) == 2
    assert name in one_line(capsys)


@pytest.mark.parametrize("odd", ODD)
def test_ports_and_variables(odd):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        find_cluster(f"10.0.0.1:{odd}", 2, 0, environ={})
    variables = {"BERTJAX_COORDINATOR": "a:1", "BERTJAX_NUM_PROCESSES": odd, "BERTJAX_PROCESS_ID": "0"}
    with pytest.raises(ConfigError, match="BERTJAX_NUM_PROCESSES must be a number"):
        find_cluster(environ=variables)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("evaluate", ["--model=x", "--suite=blimp", "--limit"]),
        ("prepare", ["--input=x", "--output=y", "--vocab_size"]),
        ("export", ["--workdir=x", "--output=y", "--step"]),
        ("predict", ["embed", "--model=x", "text", "--batch_size"]),
    ],
)
def test_options_of_commands(odd, module, arguments, capsys):
    import importlib

    main = importlib.import_module(f"bertjax.{module}").main
    assert main([*arguments[:-1], f"{arguments[-1]}={odd}"]) == 2
    assert arguments[-1] in one_line(capsys)


@pytest.mark.parametrize("odd", ["\u0663", "1\u0663", "\u0663e-5", "\uff11.5"])
@pytest.mark.parametrize(
    "key",
    [
        "config.seed",
        "config.phases.phase1.learning_rate",
        "config.phases.phase2.warmup_steps",  # this one and the next two hold None in the file
        "config.phases.phase1.max_predictions",
        "config.data.held_out_fraction",
        "price",
    ],
)
def test_keys_of_a_config(odd, key):
    with pytest.raises(ConfigError, match="digits 0 to 9"):
        parse("test", [f"--config={TINY}", f"--{key}={odd}"], {"price": (-1.0, "")})
    with pytest.raises(ConfigError, match="digits 0 to 9"):
        parse("test", [f"--config={TINY}", f"--{key}", odd], {"price": (-1.0, "")})


def test_names_may_have_any_digits():
    config, chosen = parse(
        "test", [f"--config={TINY}", "--config.name=\u0663", "--workdir=\u0663"], {"workdir": (None, "")}
    )
    assert (config.name, chosen["workdir"]) == ("\u0663", "\u0663")


def test_a_column_of_that_name(tmp_path):
    (tmp_path / "a.tsv").write_text("text\t\u0661\ngood\tpos\nbad\tneg\n")
    examples = read_texts(tmp_path / "a.tsv", Columns("text", None, "\u0661"), "classification")
    assert [example.label for example in examples] == ["pos", "neg"]
    with pytest.raises(DataError):
        read_texts(tmp_path / "a.tsv", Columns("text", None, "9" * 5000), "classification")
    (tmp_path / "a.conll").write_text("anna B-per\n")
    with pytest.raises(ConfigError, match="must be the number of a column"):
        read_tagged(tmp_path / "a.conll", "\u0661")
