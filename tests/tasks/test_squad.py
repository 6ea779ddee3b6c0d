"""SQuAD's json, whole and broken."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from bertjax.errors import DATA, DataError, exit_code
from bertjax.tasks.examples import Answer, QuestionExample
from bertjax.tasks.squad import read_questions

CONTEXT = 'Zürich 😀 is "big".\nIt lies in Switzerland.'


def question(id, *answers, **more):
    found = [{"text": text, "answer_start": CONTEXT.index(text)} for text in answers]
    return {"id": id, "question": f"what is {id}?", "answers": found} | more


def document(*questions, context=CONTEXT):
    return {"version": "x", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def row(id, *answers):
    """A question as ``datasets`` has it."""
    found = {"text": list(answers), "answer_start": [CONTEXT.index(text) for text in answers]}
    return {"id": id, "title": "t", "context": CONTEXT, "question": f"what is {id}?", "answers": found}


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
    "json cut short": (
        json.dumps(document(question("a", "big")), indent=1)[:-40],
        r":\d+: not valid JSON, or truncated",
    ),
    "nested too deeply": ("[" * 100000, r":1: not JSON that can be read"),
    "a number of too many digits": ('{"data": ' + "9" * 5000 + "}", r":1: not JSON that can be read"),
    "mixed encodings": (
        b'{"data": [\n"caf\xc3\xa9",\n"caf\xe9"]}',
        r":3: byte 4 of the line, 0xe9, is not valid UTF-8",
    ),
    "no data": ({"version": 1}, r":1: not a SQuAD file: .* a list 'data'"),
    "no object": ([1], r":1: not a SQuAD file: .* a list 'data'"),
    "no paragraphs": ({"data": [{}]}, r":1: not a SQuAD file: .* a list 'paragraphs'"),
    "no questions at all": (document(), r":1: there is no question in it"),
    "question without an id": (document({"question": "?"}), r":1: a question must be an object with a string 'id'"),
    "no context": (document(question("a"), context=None), r":1: the context must be a string, not None"),
    "empty context": (document(question("a"), context=" "), r":1: the context is empty"),
    "empty question": (document(question("a", "big", question="")), r":1: question a: the text is empty"),
    "answer elsewhere": (
        document(wrong("a", "big", 12)),
        r""":1: question a: the answer 'big' is not at 12 in its context, but '"bi' is; it is at 13""",
    ),
    "answer nowhere": (
        document(wrong("a", "small", 13)),
        r"the answer 'small' is not at 13 .*; the context does not contain it",
    ),
    "negative offset": (document(wrong("a", ".", -1)), r"question a: the answer '.' is not at -1"),
    "offset beyond the end": (document(wrong("a", "big", 999)), r"question a: the answer 'big' is not at 999"),
    "offset that is no number": (document(wrong("a", "big", "13")), r"question a: an answer must have"),
    "empty answer": (document(wrong("a", "", 3)), r"question a: an answer is empty"),
    "answers that are no list": (document(question("a", answers={})), r"question a: 'answers' must be a list"),
    "is_impossible that is no bool": (
        document(question("a", is_impossible="false")),
        r"question a: 'is_impossible' must be true or false, not 'false'",
    ),
    "texts and starts of two lengths": (
        [row("a") | {"answers": {"text": ["big"], "answer_start": []}}],
        r"question a: 'answers' has 1 texts and 0 starts",
    ),
    "a row without a question": (
        [{"context": CONTEXT}],
        r":1: not a SQuAD file: .* or rows with 'question', 'context' and",
    ),
    "an id that is a truth": (
        document(question(True)),
        r":1: a question must be an object with a string 'id', or a whole",
    ),
    'ids 1 and "1"': ([row(1, "big"), row("1", "is")], r":1: question 1 is already at .*:1"),
    "context of a row is empty": ([row("a") | {"context": ""}], r":1: the context is empty"),
    "an object a line, cut short": ('{"question": "?", "context": "c"}\n{"question": ', r":2: not valid JSON"),
    "no answers of a possible question": (
        document(question("a", is_impossible=False)),
        r"question a: is marked as not impossible, but has no answer",
    ),
    "one id twice": (document(question("a", "big"), question("a", "is")), r":1: question a is already at .*:1"),
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


# --- Rows, and what is passed over --------------------------------------------------------------------------------


def lines_of(rows):
    return "".join(json.dumps(one) + "\n" for one in rows)


ROWS = [row(7, "big"), row("b"), {"id": 9, "question": "?", "context": CONTEXT}, row(10, "is", "Switzerland")]
FORMS = {
    "an object a line": ("a.jsonl", lines_of(ROWS), [1, 2, 3, 4]),
    "an object a line, named json": ("a.json", lines_of(ROWS), [1, 2, 3, 4]),
    "blank lines between": ("a.json", lines_of(ROWS).replace("\n", "\n\n"), [1, 3, 5, 7]),
    "a list": ("a.json", json.dumps(ROWS), [1, 1, 1, 1]),
    "a list of many lines": ("a.json", json.dumps(ROWS, indent=1), None),
    "under data": ("a.json", json.dumps({"version": "1", "data": ROWS}), [1, 1, 1, 1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_as_datasets_writes_them(form, tmp_path):
    name, text, places = FORMS[form]
    examples = read(tmp_path / name, text)
    assert [one.id for one in examples] == ["7", "b", "9", "10"]
    assert [one.answers for one in examples] == [
        (Answer("big", 13),), (), None, (Answer("is", 9), Answer("Switzerland", 30))
    ]  # fmt: skip
    assert all(one.context == CONTEXT for one in examples)
    found = [int(one.where.rpartition(":")[2]) for one in examples]
    if places is None:
        rows = text.split("\n")
        assert all('"id": "b"' in rows[p - 1] or '"question"' in rows[p - 1] for p in found) and len(set(found)) == 4
    else:
        assert found == places


def test_one_row_is_a_file(tmp_path):
    one = read(tmp_path / "a.json", row("x", "big"))
    assert one[0].answers == (Answer("big", 13),) == read(tmp_path / "b.jsonl", lines_of([row("x", "big")]))[0].answers
    bare = {name: value for name, value in row("x", "big").items() if name != "id"}
    assert [found.id for found in read(tmp_path / "c.jsonl", lines_of([bare, bare]))] == ["0", "1"]
    nested = document(question(3, "big"))["data"][0]
    assert read(tmp_path / "d.jsonl", lines_of([nested, document(question(4, "is"))["data"][0]]))[1].id == "4"


def warned(path, tree):
    said = []
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return read_questions(path, said.append), said


def test_answers_of_impossible_questions_are_plausible_ones(tmp_path):
    path = tmp_path / "a.json"
    impossible = [question("a", "big", is_impossible=True), question("c", "is", is_impossible=1)]
    examples, said = warned(path, document(impossible[0], question("b", "is"), impossible[1]))
    assert [one.answers for one in examples] == [(), (Answer("is", 9),), ()]
    assert said == [
        f"{path}:1: question a: marked as impossible, but has answers, which are taken to be plausible ones; 2 of 3 "
        "questions are like this"
    ]
    nowhere = {"text": "no", "answer_start": 999}
    assert warned(path, document(question("a", is_impossible=None), question("b", "is")))[1] == []
    assert warned(path, document(question("a", is_impossible=True, answers=[nowhere])))[0][0].answers == ()


def test_a_few_misaligned_answers_are_left_out_and_counted(tmp_path):
    path = tmp_path / "a.json"
    right = [row(number, "big") for number in range(198)]
    two = row("b", "is", "big")
    two["answers"]["answer_start"][0] += 1
    alone = row("c", "is")
    alone["answers"]["answer_start"] = [10]
    examples, said = warned(path, [*right, two, alone])
    assert len(examples) == 199 and examples[-1].answers == (Answer("big", 13),)
    assert said == [
        f"{path}:1: question b: the answer 'is' is not at 10 in its context, but 's ' is; it is at 9; 2 of 200 "
        "questions have such an answer; it is left out, and so is 1 question without another"
    ]
    with pytest.raises(
        DataError, match=r"question b: .* it is at 9; 2 of 199 questions have such an answer, more than 1%"
    ):
        warned(path, [*right[1:], two, alone])
    assert warned(path, [*right, two])[1][0].endswith("1 of 199 questions has such an answer; it is left out")


UNITS = {
    "bytes of UTF-8": lambda text: len(CONTEXT[: CONTEXT.index(text)].encode()),
    "units of UTF-16": lambda text: len(CONTEXT[: CONTEXT.index(text)].encode("utf-16-le")) // 2,
    "characters from 1": lambda text: CONTEXT.index(text) + 1,
}


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_that_offsets_count_is_named(unit, tmp_path):
    rows = [row(n, text) for n, text in enumerate(("big", "Switzerland", "lies"))]
    for one in rows:
        one["answers"]["answer_start"] = [UNITS[unit](one["answers"]["text"][0])]
    with pytest.raises(
        DataError, match=f"3 of 3 .*; all fit if they count .*{unit}.*: answer_start must count characters"
    ):
        warned(tmp_path / "a.json", rows)
    rows[1]["answers"]["answer_start"] = [3]
    with pytest.raises(DataError, match=r"more than 1%; correct their answer_start, or take them out of the file$"):
        warned(tmp_path / "a.json", rows)


@pytest.mark.parametrize(
    ("text", "start", "answer"),
    [
        (" big", 13, ("big", 13)),
        (" big", 12, ("big", 13)),
        ("big ", 13, ("big", 13)),
        ("\nbig\t", 12, ("big", 13)),
        (" is ", 8, (" is ", 8)),
        ("big", 13.0, ("big", 13)),
    ],
)
def test_white_space_around_an_answer_is_no_part_of_it(text, start, answer, tmp_path):
    examples, said = warned(tmp_path / "a.json", document(wrong("a", text, start)))
    assert examples[0].answers == (Answer(*answer),) and said == []
