import json

import pytest

from bertjax.inference.json_lines import (
    answered,
    read_pair,
    read_question,
    read_text,
    read_text_or_pair,
    read_words,
)


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
