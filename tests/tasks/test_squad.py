"""SQuAD's json, whole and broken."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from bertjax.command import DATA, exit_code
from bertjax.data.files import DataError
from bertjax.tasks.examples import Answer, QuestionExample
from bertjax.tasks.squad import read_questions

CONTEXT = 'Zürich 😀 is "big".\nIt lies in Switzerland.'


def question(id, *answers, **more):
    found = [{"text": text, "answer_start": CONTEXT.index(text)} for text in answers]
    return {"id": id, "question": f"what is {id}?", "answers": found} | more


def document(*questions, context=CONTEXT):
    return {"version": "x", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def read(path, tree, **how):
    content = tree if isinstance(tree, bytes) else tree if isinstance(tree, str) else json.dumps(tree, **how)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_questions(path)


def test_offsets_count_characters(tmp_path):
    path = tmp_path / "a.json"
    assert read(path, document(question("a", "Switzerland", "😀"))) == [
        QuestionExample(f"{path}:1", "a", "what is a?", CONTEXT, (Answer("Switzerland", 30), Answer("😀", 7)))
    ]
    assert CONTEXT[30:] == "Switzerland." and CONTEXT[7] == "😀"


def test_questions_without_an_answer_and_without_a_known_one(tmp_path):
    impossible = question("a", is_impossible=True, plausible_answers=[{"text": "no", "answer_start": 999}])
    to_predict = {"id": "c", "question": "?"}
    examples = read(tmp_path / "a.json", document(impossible, question("b", "big", is_impossible=False), to_predict))
    assert [example.answers for example in examples] == [(), (Answer("big", 13),), None]


@pytest.mark.parametrize("ascii_only", [True, False])
def test_places_are_the_lines_of_the_ids(ascii_only, tmp_path):
    tree = document(question("ä", "big"), question("b", "Switzerland"), question("qas", "is"))
    for indent in (None, 1):
        path = tmp_path / "a.json"
        examples = read(path, tree, indent=indent, ensure_ascii=ascii_only)
        lines = path.read_text().split("\n")
        places = [int(example.where.rpartition(":")[2]) for example in examples]
        assert all('"id"' in lines[place - 1] for place in places) and len(set(places)) == (3 if indent else 1)
        assert examples[1].id == "b" and re.search('"id": "b"', lines[places[1] - 1])


def test_an_id_is_found_however_it_is_spelled(tmp_path):
    text = json.dumps(document(question("ü/1", "big"), question("x", "is")), indent=1).replace("\\u00fc/", r"\u00FC\/")
    first, second = read(tmp_path / "a.json", text)
    lines = text.split("\n")
    assert r'"id": "\u00FC\/1"' in lines[int(first.where.rpartition(":")[2]) - 1]
    assert '"id": "x"' in lines[int(second.where.rpartition(":")[2]) - 1]


def test_compressed_files_are_read(tmp_path):
    data = gzip.compress(json.dumps(document(question("a", "big"))).encode())
    assert read(tmp_path / "a.json.gz", data)[0].answers == (Answer("big", 13),)


def wrong(id, text, start):
    return {"id": id, "question": "?", "answers": [{"text": text, "answer_start": start}]}


BAD = {
    "empty file": ("", r":1: the file is empty"),
    "json cut short": (json.dumps(document(question("a", "big")), indent=1)[:-40], r":\d+: no JSON, or cut short"),
    "nested too deeply": ("[" * 100000, r":1: no JSON that can be read"),
    "a number of too many digits": ('{"data": ' + "9" * 5000 + "}", r":1: no JSON that can be read"),
    "mixed encodings": (b'{"data": [\n"caf\xc3\xa9",\n"caf\xe9"]}', r":3: byte 4 of the line, 0xe9, is no UTF-8"),
    "no data": ({"version": 1}, r":1: no SQuAD file: .* a list 'data'"),
    "no object": ([1], r":1: no SQuAD file: .* a list 'data'"),
    "no paragraphs": ({"data": [{}]}, r":1: no SQuAD file: .* a list 'paragraphs'"),
    "no questions at all": (document(), r":1: there is no question in it"),
    "question without an id": (document({"question": "?"}), r":1: a question must be an object with a string 'id'"),
    "no context": (document(question("a"), context=None), r":1: the context must be a string, not None"),
    "empty context": (document(question("a"), context=" "), r":1: the context is empty"),
    "empty question": (document(question("a", "big", question="")), r":1: question a: the text is empty"),
    "answer elsewhere": (
        document(wrong("a", "big", 12)),
        r""":1: question a: the answer 'big' is not at 12 of its context, '"bi' is; it is at 13""",
    ),
    "answer nowhere": (document(wrong("a", "small", 13)), r"the answer 'small' is not at 13 .*; it is nowhere in it"),
    "negative offset": (document(wrong("a", ".", -1)), r"question a: the answer '.' is not at -1"),
    "offset beyond the end": (document(wrong("a", "big", 999)), r"question a: the answer 'big' is not at 999"),
    "offset that is no number": (document(wrong("a", "big", "13")), r"question a: an answer must have"),
    "empty answer": (document(wrong("a", "", 3)), r"question a: an answer is empty"),
    "answers that are no list": (document(question("a", answers={})), r"question a: 'answers' must be a list"),
    "answers of an impossible question": (
        document(question("a", "big", is_impossible=True)),
        r"question a: is marked as impossible, yet has answers",
    ),
    "no answers of a possible question": (
        document(question("a", is_impossible=False)),
        r"question a: is marked as not impossible, yet has no answer",
    ),
    "one id twice": (document(question("a", "big"), question("a", "is")), r":1: question a has been at .*:1 already"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_their_line(name, tmp_path):
    tree, message = BAD[name]
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match=message) as caught:
        read(path, tree)
    assert str(caught.value).startswith(f"{path}:") and "\n" not in str(caught.value)
    assert exit_code(caught.value) == DATA


def test_a_bad_answer_is_found_in_a_file_of_many_lines(tmp_path):
    text = json.dumps(document(question("a", "big"), wrong("b", "small", 3)), indent=1)
    line = 1 + next(i for i, row in enumerate(text.split("\n")) if '"id": "b"' in row)
    with pytest.raises(DataError, match=f"a.json:{line}: question b"):
        read(tmp_path / "a.json", text)
