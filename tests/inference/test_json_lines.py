import json

from bertjax.inference.json_lines import answered


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
    answers = list(answered(lines, shout, at_once=3))
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
    answers = list(answered(lines, work, at_once=256))
    assert sum("loud" in answer for answer in answers) == 255 and "error" in answers[100]
    assert len(calls) <= 20


def test_a_stream_is_not_read_ahead_further_than_a_lot():
    read = []

    def lines():
        for number in range(100):
            read.append(number)
            yield json.dumps(str(number)).encode()

    stream = answered(lines(), shout, at_once=10)
    next(stream)
    assert len(read) == 10
    assert [a["text"] for a in stream] == [str(number) for number in range(1, 100)]
