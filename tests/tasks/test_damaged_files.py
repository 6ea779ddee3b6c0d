"""Whatever is done to a good file, it is read, or one line says where it is bad: no other error, no traceback."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertjax.errors import DataError
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.squad import read_questions
from bertjax.tasks.tables import Columns, read_texts

CONTEXT = "Zürich lies in Switzerland.\n"
SQUAD = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": "a", "question": "Where?", "answers": [{"text": "Switzerland", "answer_start": 15}]},
                        {"id": "b", "question": "When?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}
ROWS = [{"text": "café au lait", "label": "good"}, {"text": 'say "no"', "label": 0}]
FILES = {
    "a.tsv": ('label\ttext\r\n1\tcafé\r\n0\t"as ""x"" says"\r\n', lambda p: read_texts(p, Columns(), "classification")),
    "a.csv": ('text,score\n"one, ""two""\nthree",2.5\nfour,-1e3\n', lambda p: read_texts(p, Columns(), "regression")),
    "b.csv": ("a,b,c\nd,e,f\n", lambda p: read_texts(p, Columns("0", "1", "2"), "multi_label")),
    "a.jsonl": ("\n".join(map(json.dumps, ROWS)), lambda p: read_texts(p, Columns(), "classification")),
    "a.conll": ("EU\tB-ORG\n.\tO\n\t\nÉté\tO\n", read_tagged),
    "a.conllu": ("# x\n1-2\tab\t_\t_\t_\t_\t_\t_\t_\t_\n1\tâ\ta\tX\tY\t_\t0\troot\t_\t_\n", read_tagged),
    "a.json": (json.dumps(SQUAD, indent=1, ensure_ascii=False), read_questions),
}
PIECES = [
    b"",
    b"\n",
    b"\t",
    b'"',
    b",",
    b"\0",
    b"\xff",
    b"\xe9",
    b"\r",
    b"[",
    b"}",
    b"null",
    b"NaN",
    b"1e999",
    b"-",
    b" ",
    b"9" * 5000,
]


@settings(max_examples=120, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(PIECES)), max_size=4))
@example(changes=[(0.0, 999, b"")])
@example(changes=[(0.0, 0, b"\xff\xfe")])
@example(changes=[(0.3359375, 23, b"9" * 5000)])
@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name, changes, tmp_path_factory):
    content, read = FILES[name]
    data = content.encode()
    for place, removed, added in changes:
        at = int(place * len(data))
        data = data[:at] + added + data[at + removed :]
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    try:
        examples = read(path)
    except DataError as error:
        message = str(error)
        assert (
            message.startswith(f"{path}:") and "\n" not in message and len(message.replace(str(path.parent), "")) < 600
        )
        line = message.removeprefix(f"{path}:").split(":")[0]
        breaks = data.count(b"\n") or data.count(b"\r")
        assert 1 <= int(line) <= breaks + 1
    else:
        assert examples and all(example.where.startswith(f"{path}:") for example in examples)


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_good_before_that(name, tmp_path):
    content, read = FILES[name]
    (tmp_path / name).write_bytes(content.encode())
    assert len(read(tmp_path / name)) in (1, 2)
