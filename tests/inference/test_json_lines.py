import io
import json

import pytest

from bertjax.inference.json_lines import answered, bounded_lines
from bertjax.inference.prediction_tasks import read_pair, read_question, read_text, read_text_or_pair, read_words


def shout(texts):
    if "bad" in texts:
        raise ValueError(f"texts[{texts.index('bad')}] is bad")
    return [{"loud": text.upper()} for text in texts]


def test_in_order_with_other_fields_kept_and_bad_lines_answered():
    lines = [
        b'{"text": "a", "id": 1}\n',
        b"\n",
        b'"b"\n',
        b"{nonsense\n",
        b'{"text": 3}\n',
        b'"bad"\n',
        b"\xff\n",
        b'"c"',
    ]
    answers = list(answered(lines, read_text, shout, at_once=3))
    assert answers[0] == {"text": "a", "id": 1, "loud": "A"}
    assert answers[1] == {"text": "b", "loud": "B"}
    assert [a["line"] for a in answers if "error" in a] == [4, 5, 6, 7]
    assert answers[4] == {"line": 6, "error": "text is bad"}
    assert answers[-1] == {"text": "c", "loud": "C"}


def test_a_bad_text_does_not_split_up_all_the_others():
    calls = []

    def work(texts):
        calls.append(len(texts))
        return shout(texts)

    lines = [json.dumps("bad" if number == 100 else "good").encode() for number in range(256)]
    answers = list(answered(lines, read_text, work, at_once=256))
    assert sum("loud" in answer for answer in answers) == 255 and "error" in answers[100]
    assert len(calls) <= 20


def test_a_stream_is_not_read_ahead_further_than_a_lot():
    read = []

    def lines():
        for number in range(100):
            read.append(number)
            yield json.dumps(str(number)).encode()

    stream = answered(lines(), read_text, shout, at_once=10)
    next(stream)
    assert len(read) == 10
    assert [a["text"] for a in stream] == [str(number) for number in range(1, 100)]


@pytest.mark.parametrize(
    ("read", "value", "record", "item"),
    [
        (read_text, "a", {"text": "a"}, "a"),
        (read_text, {"text": "a", "id": 1}, {"text": "a", "id": 1}, "a"),
        (read_pair, ["a", "b"], {"text": "a", "second": "b"}, ("a", "b")),
        (read_pair, {"text": "a", "second": "b"}, {"text": "a", "second": "b"}, ("a", "b")),
        (read_text_or_pair, "a", {"text": "a"}, "a"),
        (read_text_or_pair, {"text": "a", "second": None}, {"text": "a", "second": None}, "a"),
        (read_text_or_pair, {"text": "a", "second": "b"}, {"text": "a", "second": "b"}, ("a", "b")),
        (read_words, "a b", {"text": "a b"}, "a b"),
        (read_words, ["a", "b"], {"words": ["a", "b"]}, ["a", "b"]),
        (read_words, {"words": [], "id": 1}, {"words": [], "id": 1}, []),
        (read_question, {"question": "q", "context": "c"}, {"question": "q", "context": "c"}, ("q", "c")),
    ],
)
def test_what_a_line_may_be(read, value, record, item):
    assert read(value) == (record, item)


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (read_text, ["a", "b"], 'a string "text", or a string'),
        (read_pair, ["a"], "a list of two strings"),
        (read_pair, ["a", 3], "a list of two strings"),
        (read_pair, {"text": "a"}, '"text" and "second"'),
        (read_text_or_pair, {"text": "a", "second": 3}, '"text" and "second"'),
        (read_text_or_pair, 3, "or a string"),
        (read_words, {"words": "a b"}, '"words" must be a list of strings'),
        (read_words, ["a", None], '"words" must be a list of strings'),
        (read_question, "q", '"question" and "context"'),
        (read_question, {"question": "q"}, '"question" and "context"'),
    ],
)
def test_what_a_line_must_be(read, value, words):
    with pytest.raises(ValueError, match=words):
        read(value)


def test_an_error_names_the_field():
    def refuse(items):
        raise ValueError("context[0] holds nothing, unlike context[1]")

    (answer,) = answered([b'{"question": "q", "context": "c"}'], read_question, refuse, at_once=3)
    assert answer == {"line": 1, "error": "context holds nothing, unlike context[1]"}


def refused(line):
    (answer,) = answered([line], read_text, shout, at_once=3)
    assert sorted(answer) == ["error", "line"] and answer["line"] == 1
    return answer["error"]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("line", ["%s", '{"text": "a", "id": %s}', '{"text": "a", "deep": [{"x": [%s]}]}'])
def test_numbers_that_json_does_not_have(number, line):
    assert number in refused((line % number).encode())


def test_a_number_of_ten_thousand_digits():
    error = refused(b'{"text": "a", "id": ' + b"9" * 10_000 + b"}")
    assert "10,000 digits" in error and len(error) < 200


def test_large_numbers_that_can_be_written_again():
    (answer,) = answered([b'{"text": "a", "id": ' + b"9" * 4000 + b', "x": 1.5e300}'], read_text, shout, at_once=3)
    assert answer["id"] == int("9" * 4000) and answer["x"] == 1.5e300


@pytest.mark.parametrize("depth", [101, 900, 100_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_what_is_nested_too_deeply(depth, brackets):
    opening, closing = brackets
    line = '{"text": "a", "id": ' + opening * depth + "1" + closing * depth + "}"
    assert "nested" in refused(line.encode())


def test_many_brackets_that_are_not_nested():
    line = json.dumps({"text": "[" * 5000, "id": [[]] * 5000})
    (answer,) = answered([line.encode()], read_text, shout, at_once=3)
    assert answer["loud"] == "[" * 5000 and len(answer["id"]) == 5000


def test_a_field_that_is_there_twice():
    assert "'text' twice" in refused(b'{"text": "a", "text": "b"}')
    assert "'x' twice" in refused(b'{"text": "a", "id": {"x": 1, "x": 2}}')


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, [float("-inf")]], {"a": {"b": float("nan")}}])
def test_an_answer_that_is_no_number_is_an_error(value):
    work = lambda texts: [{"found": value if text == "odd" else 1.0} for text in texts]
    answers = list(answered([b'"a"', b'"odd"', b'"b"'], read_text, work, at_once=3))
    assert [answer.get("found") for answer in answers] == [1.0, None, 1.0]
    assert answers[1]["line"] == 2 and "not a finite number" in answers[1]["error"]


class Counting(io.BytesIO):
    """Notes the longest piece that was asked for."""

    most = 0

    def readline(self, size=-1):
        line = super().readline(size)
        self.most = max(self.most, len(line))
        return line


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_giant_line_is_never_held(end):
    stream = Counting(b'"a"\n' + b'"' + b"x" * 5000 + b'"\n"b"\n' + b" " * 3000 + b'\n"c"\n"' + b"y" * 998 + b'"' + end)
    answers = list(answered(bounded_lines(stream, 1000), read_text, shout, at_once=2))
    assert stream.most <= 1001
    assert [answer.get("text") for answer in answers] == ["a", None, "b", None, "c", "y" * 998]
    assert [answer["line"] for answer in answers if "error" in answer] == [2, 4]
    assert "longer than 1,000 bytes" in answers[1]["error"]


def test_a_lot_of_long_lines_is_not_held_either():
    held = []

    def lines():
        for number in range(40):
            held.append(number)
            yield json.dumps({"text": str(number), "padding": "x" * 1000}).encode()

    stream = answered(lines(), read_text, shout, at_once=100, most_bytes=5000)
    next(stream)
    assert len(held) == 5
    assert [answer["text"] for answer in stream] == [str(number) for number in range(1, 40)]
