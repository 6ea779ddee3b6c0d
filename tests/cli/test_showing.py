"""Nothing that is shown can steer a terminal, and legitimate text stays as it is."""

import ast
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bertjax.cli.command import fail, guarded
from bertjax.cli.showing import note, plain, plain_json, plain_text, say
from bertjax.errors import USAGE, ConfigError

HOSTILE = {
    "an escape sequence": ("\x1b[2J", "\\x1b[2J"),
    "a C1 control": ("\x9b2J", "\\x9b2J"),
    "a line break": ("a\nb\r", "a\\nb\\r"),
    "another line break": ("a\u2028b\x85", "a\\u2028b\\x85"),
    "a bidi override": ("abc\u202edef\u2066", "abc\\u202edef\\u2066"),
    "a byte of a file name": ("caf\udce9.txt", "caf\\udce9.txt"),
    "a tag character": ("\U000e0041", "\\U000e0041"),
    "nothing but zero width": ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=list(HOSTILE))
def test_what_could_steer_a_terminal_is_spelled_out(text, shown):
    assert plain(text) == shown
    assert "\n" not in plain(text) and plain(plain(text)) == shown
    # In JSON it is the same value, whatever the value.
    written = plain_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(written) == {text: [text]} and plain_text(written) == written


@pytest.mark.parametrize(
    "text", ["café", "a\tb", "日本\u3000語", "1\u202f000\xa0€", "می\u200cخواهم", "👩\u200d🔬", "x\\n"]
)
def test_other_text_stays_as_it_is(text):
    assert plain(text) == plain_text(text) == plain_json(text) == text


def test_text_of_several_lines_keeps_them():
    assert plain_text("a\nb\x1b") == "a\nb\\x1b"


def test_every_line_goes_through_it(capsys):
    def job():
        import warnings

        say("said \x1b[31m")
        warnings.warn("warned \x1b[31m", stacklevel=1)
        raise ConfigError("the label '\x1b]0;owned\x07\u202e' is odd")

    assert guarded(job) == USAGE
    out, err = capsys.readouterr()
    assert out == "said \\x1b[31m\n"
    assert err == "warning: warned \\x1b[31m\nerror: the label '\\x1b]0;owned\\x07\\u202e' is odd\n"


def test_a_standard_error_that_is_gone_changes_no_exit_code(monkeypatch, broken_pipe):
    for stream in (None, broken_pipe):
        monkeypatch.setattr("sys.stderr", stream)
        note("nobody is there")
        assert fail("no such key", USAGE) == USAGE


PACKAGE = Path(__file__).parent.parent.parent / "bertjax"
# Whose other prints are JSON, help, or text of the command's own.
PRINTING = {"cli/showing.py", "cli/command.py", "inference/prediction_tasks.py", "workdir/description.py"}
PRINTING |= {"describe.py", "evaluate.py", "predict.py", "plan.py", "benchmark.py"}


def test_nothing_is_printed_beside_it():
    printing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == PRINTING


def test_the_table_of_an_evaluation():
    from bertjax.evaluate import print_result

    score = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    odd = "[/b] \x1b[2J\u202e"
    result = {"suite": "blimp", "model": odd, "data": odd, "scores": {"accuracy": score}, "seconds": 1.0}
    result |= {"groups": {odd: {odd: score}}, "facts": {odd: odd}}
    console = Console(file=io.StringIO(), width=200)
    print_result(result, {}, console)
    shown = console.file.getvalue()
    assert shown.count("[/b] \\x1b[2J\\u202e") == 6 and "\x1b" not in shown and "\u202e" not in shown
