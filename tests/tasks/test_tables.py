"""tsv, csv and jsonl as people have them, and what is said of the ones that cannot be used."""

from __future__ import annotations

import csv
import gzip
import json
import lzma

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.errors import DATA, ConfigError, DataError, exit_code
from bertjax.tasks.examples import TextExample
from bertjax.tasks.tables import Columns, read_texts


def read(path, content, columns=None, kind="classification"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_texts(path, columns or Columns(), kind)


def short(examples):
    return [(example.text, example.second, example.label) for example in examples]


def test_a_header_with_usual_names_is_recognised_in_any_order(tmp_path):
    assert read(tmp_path / "a.tsv", "label\tsentence\n1\tgood\n0\tbad\n") == [
        TextExample(f"{tmp_path}/a.tsv:2", "good", None, "1"),
        TextExample(f"{tmp_path}/a.tsv:3", "bad", None, "0"),
    ]
    pairs = read(tmp_path / "b.tsv", "index\tPremise\thypothesis\tgold_label\n7\tp\th\tneutral\n")
    assert short(pairs) == [("p", "h", "neutral")]
    qnli = read(tmp_path / "c.tsv", "index\tquestion\tsentence\tlabel\n7\twhy?\tso.\tentailment\n")
    assert short(qnli) == [("why?", "so.", "entailment")]


def test_columns_have_numbers_where_there_is_no_header(tmp_path):
    columns = Columns(text="3", label="1")
    examples = read(tmp_path / "cola.tsv", 'gj04\t1\t\tThey "left".\ngj04\t0\t*\t"Left they.\n', columns)
    assert short(examples) == [('They "left".', None, "1"), ('"Left they.', None, "0")]
    assert examples[0].where.endswith(":1")


def test_columns_may_have_numbers_though_there_is_a_header(tmp_path):
    by_number = read(tmp_path / "a.tsv", "label\tsentence\n1\tgood\n", Columns(text="1", label="0"))
    label_found = read(tmp_path / "b.tsv", "label\tstrange\n1\tgood\n", Columns(text="1"))
    assert short(by_number) == short(label_found) == [("good", None, "1")]


def test_columns_of_unusual_names_are_found_by_name(tmp_path):
    columns = Columns(text="Body", second="Reply", label="Stance")
    assert short(read(tmp_path / "a.csv", "Stance,body,Reply\nfor,b,r\n", columns)) == [("b", "r", "for")]
    # A second text is not looked for where the first one is named.
    assert short(read(tmp_path / "b.csv", "sentence1,sentence2,label\na,b,1\n", Columns(text="sentence1"))) == [
        ("a", None, "1")
    ]


def test_quotes_of_a_tsv_are_characters_unless_a_spreadsheet_wrote_them(tmp_path):
    content = 'label\ttext\n1\t"Quoted" she said, "twice"\n0\t"It\'s ""Dr. Death"" again"\n1\t"whole"\n0\t"\n'
    assert [example.text for example in read(tmp_path / "a.tsv", content)] == [
        '"Quoted" she said, "twice"',
        'It\'s "Dr. Death" again',
        '"whole"',
        '"',
    ]


def test_a_byte_order_mark_and_carriage_returns_are_no_text(tmp_path):
    for name, content in (("a.tsv", "text\tlabel\r\ngood\t1\r\n"), ("b.csv", 'text,label\r\n"good",1\r\n')):
        assert short(read(tmp_path / name, b"\xef\xbb\xbf" + content.encode())) == [("good", None, "1")]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
def test_only_a_line_feed_ends_a_line(ending, tmp_path):
    text = "one\u2028two\u2029three\x85four\x0bfive\x1csix"
    content = {
        "tsv": f"text\tlabel\n{text}\t1\nnext\t0\n",
        "csv": f"text,label\n{text},1\nnext,0\n",
        "jsonl": f'{{"text": {json.dumps(text, ensure_ascii=True)}, "label": 1}}\n{{"text": "next", "label": 0}}\n',
    }[ending]
    examples = read(tmp_path / f"a.{ending}", content)
    assert short(examples) == [(text, None, "1"), ("next", None, "0")]


def test_line_breaks_in_quoted_cells_are_counted(tmp_path):
    content = 'text,label\n"one\ntwo, ""three""\n",1\n\n"four",0\nfive\n'
    with pytest.raises(DataError, match=r"a\.csv:7: fields: 1, while line 1 has 2"):
        read(tmp_path / "a.csv", content)
    examples = read(tmp_path / "a.csv", content.removesuffix("five\n"))
    assert short(examples) == [('one\ntwo, "three"\n', None, "1"), ("four", None, "0")]
    assert [example.where.rpartition(":")[2] for example in examples] == ["2", "6"]


def test_cells_may_be_longer_than_pythons_limit(tmp_path):
    limit = csv.field_size_limit()
    examples = read(tmp_path / "a.csv", f"text,label\n{'word ' * limit},1\n")
    assert len(examples[0].text) == 5 * limit and csv.field_size_limit() == limit


def test_json_lines_hold_names_numbers_and_truth_values(tmp_path):
    rows = [
        {"sentence1": "a", "sentence2": "b", "label": "yes"},
        {"label": 1, "sentence2": "d", "sentence1": "c"},
        {"sentence1": "e", "sentence2": "f", "label": True, "more": None},
    ]
    content = "\n\n".join(map(json.dumps, rows))
    examples = read(tmp_path / "a.jsonl", content)
    assert short(examples) == [("a", "b", "yes"), ("c", "d", "1"), ("e", "f", "true")]
    assert examples[1].where.endswith(":3")


def test_keys_of_json_lines_may_be_in_any_case(tmp_path):
    assert short(read(tmp_path / "a.jsonl", '{"Text": "x", "Label": 1}')) == [("x", None, "1")]
    pairs = '{"sentence1": "a", "Sentence2": "b", "LABEL": 1}\n{"LABEL": 0, "sentence1": "c", "Sentence2": "d"}'
    assert short(read(tmp_path / "b.jsonl", pairs)) == [("a", "b", "1"), ("c", "d", "0")]
    named = read(tmp_path / "c.jsonl", '{"Body": "x", "Stance": 1}', Columns(text="body", label="stance"))
    assert short(named) == [("x", None, "1")]
    both = '{"Text": "x", "text": "y", "label": 1}'
    assert short(read(tmp_path / "d.jsonl", both, Columns(text="Text"))) == [("x", None, "1")]


def test_several_labels_are_a_list_or_divided_cells(tmp_path):
    cells = "text;labels\na\tx|y | x\nb\t\n".replace(";", "\t")
    examples = read(tmp_path / "a.tsv", cells, Columns(separator="|"), "multi_label")
    objects = '{"text": "a", "labels": ["x", "y"]}\n{"text": "b", "labels": []}\n'
    assert short(examples) == short(read(tmp_path / "a.jsonl", objects, kind="multi_label"))
    assert short(examples) == [("a", None, ("x", "y")), ("b", None, ())]


def test_regression_reads_numbers(tmp_path):
    columns = Columns("0", "1", "2")
    examples = read(tmp_path / "a.csv", '"a, b",c,2.5\nd,e,1e1\n', columns, "regression")
    assert short(examples) == [("a, b", "c", 2.5), ("d", "e", 10.0)]


def test_embedding_does_not_need_a_label(tmp_path):
    pairs = "anchor\tpositive\na\tb\n"
    assert short(read(tmp_path / "a.tsv", pairs, kind="embedding")) == [("a", "b", None)]
    scored = "sentence1\tsentence2\tscore\na\tb\t3\n"
    assert short(read(tmp_path / "b.tsv", scored, kind="embedding")) == [("a", "b", 3.0)]


def test_compressed_files_are_read(tmp_path):
    content = b"text\tlabel\ngood\t1\n"
    for name, data in (
        ("a.tsv.gz", gzip.compress(content)),
        ("a.tsv.xz", lzma.compress(content)),
        ("a.tsv.zst", zstandard.compress(content)),
    ):
        assert short(read(tmp_path / name, data)) == [("good", None, "1")]
    with pytest.raises(DataError, match="damaged or cut short"):
        read(tmp_path / "a.tsv.gz", gzip.compress(content)[:-9])


BAD = {
    "missing text column": ("a.tsv", "label\tbody\n1\tx\n", {}, r":1: no column has a usual name of a text.*'body'"),
    "missing label column": ("a.tsv", "text\tmark\nx\t1\n", {}, r":1: no column has a usual name of a label.*'mark'"),
    "missing named column": (
        "a.csv",
        "text,label\nx,1\n",
        {"text": "body"},
        r":1: no column 'body'; the columns are 'text', 'label'",
    ),
    "missing numbered column": (
        "a.csv",
        "x,1\n",
        {"text": "0", "label": "2"},
        r":1: there is no column 2; the 2 columns are numbered from 0",
    ),
    "column twice": ("a.csv", "text,label,label\nx,1,1\n", {}, r":1: several columns 'label'"),
    "missing key in the first object": (
        "a.jsonl",
        '{"body": 1, "label": 1}',
        {"text": "text"},
        r":1: no column 'text'.*'body'",
    ),
    "missing key later": (
        "a.jsonl",
        '{"text": "x", "label": 1}\n{"text": "y"}',
        {},
        r":2: no column 'label'; the columns are 'text'",
    ),
    "key in another case later": (
        "a.jsonl",
        '{"Text": "x", "label": 1}\n{"text": "y", "label": 1}',
        {},
        r":2: no column 'Text'; the columns are 'text', 'label'",
    ),
    "empty tsv": ("a.tsv", "", {}, r":1: the file is empty"),
    "empty csv": ("a.csv", "\n\n", {}, r":1: the file is empty"),
    "empty jsonl": ("a.jsonl", "\n", {}, r":1: the file is empty"),
    "header only": ("a.tsv", "text\tlabel\n", {}, r":1: there is a header and no example"),
    "empty text": ("a.tsv", "label\ttext\n1\tx\n0\t \n", {}, r":3: the text \(column 1\) is empty"),
    "empty second text": (
        "a.csv",
        "premise,hypothesis,label\nx,,1\n",
        {},
        r":2: the second text \(column 1\) is empty",
    ),
    "text that is no string": ("a.jsonl", '{"text": 5, "label": 1}', {}, r":1: the text .* must be a string, not 5"),
    "half a character": ("a.jsonl", '{"text": "\\ud83d", "label": 1}', {}, r":1: .* half of a surrogate pair"),
    "empty label": ("a.tsv", "label\ttext\n1\tx\n\ty\n", {}, r":3: the label is empty"),
    "label that is null": (
        "a.jsonl",
        '{"text": "x", "label": null}',
        {},
        r":1: the label must be a string or a number",
    ),
    "label that is NaN": ("a.jsonl", '{"text": "x", "label": NaN}', {}, r":1: the label is nan"),
    "labels that are no list": (
        "a.jsonl",
        '{"text": "x", "labels": 5}',
        {"kind": "multi_label"},
        r":1: the labels must be a list or a string, not 5",
    ),
    "too few fields": ("a.tsv", "label\ttext\n1\tx\n0\n", {}, r":3: fields: 1, while line 1 has 2"),
    "too many fields": ("a.tsv", "label\ttext\n1\tx\ty\n", {}, r":2: fields: 3, while line 1 has 2"),
    "open quote": ("a.csv", 'label,text\n1,x\n0,"y\n1,z\n', {}, r":3: the record that begins here is not valid csv"),
    "stray quote": ("a.csv", 'label,text\n1,"x"y"\n', {}, r":2: the record that begins here is not valid csv"),
    "json cut short": ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y", "la', {}, r":2: not valid JSON"),
    "json nested too deeply": ("a.jsonl", '{"text": ' + "[" * 100000, {}, r":1: not valid JSON"),
    "json that is no object": ("a.jsonl", '["x", 1]', {}, r":1: must be a JSON object"),
    "latin-1 in one line": (
        "a.tsv",
        b"label\ttext\n1\tcaf\xc3\xa9\n0\tcaf\xe9\n",
        {},
        r":3: byte 5 of the line, 0xe9, is not valid UTF-8",
    ),
    "UTF-16": ("a.tsv", "label\ttext\n".encode("utf-16"), {}, r":1: the file is UTF-16"),
    "NUL": ("a.csv", b"label,text\n1,\0\n", {}, r":2: the line holds a NUL"),
    "word for a number": (
        "a.tsv",
        "text\tscore\nx\t1\ny\tfive\n",
        {"kind": "regression"},
        r":3: the label must be a number, not 'five'",
    ),
    "NaN for a number": ("a.tsv", "text\tscore\nx\tNaN\n", {"kind": "regression"}, r":2: .* finite number, not 'NaN'"),
    "infinite number": ("a.jsonl", '{"text": "x", "score": 1e999}', {"kind": "regression"}, r":1: .* finite number"),
    "number beyond any float": (
        "a.jsonl",
        '{"text": "x", "score": ' + "9" * 400 + "}",
        {"kind": "regression"},
        r":1: .* finite number",
    ),
    "number beyond float32": ("a.tsv", "text\tscore\nx\t1e39\n", {"kind": "regression"}, r":2: .* finite number"),
    "digits with an underscore": ("a.tsv", "text\tscore\nx\t1_0\n", {"kind": "regression"}, r":2: .* not '1_0'"),
    "truth value for a number": ("a.jsonl", '{"text": "x", "score": true}', {"kind": "regression"}, r":1: .* not True"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_their_line(name, tmp_path):
    file, content, settings, message = BAD[name]
    kind = settings.get("kind", "classification")
    columns = Columns(**{key: value for key, value in settings.items() if key != "kind"})
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / file, content, columns, kind)
    assert str(caught.value).startswith(f"{tmp_path / file}:") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert exit_code(caught.value) == DATA == 3


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path):
    with pytest.raises(DataError, match=r"missing\.tsv cannot be read: No such file"):
        read_texts(tmp_path / "missing.tsv", Columns(), "classification")
    with pytest.raises(DataError, match=r"a\.parquet is not a known kind of file; known are \.tsv, \.csv and \.jsonl"):
        read(tmp_path / "a.parquet", "x")


def test_mistakes_of_the_config_are_no_mistakes_of_the_file(tmp_path):
    with pytest.raises(ConfigError, match="kind = 'clasification'; allowed: classification"):
        read(tmp_path / "a.tsv", "text\tlabel\nx\t1\n", kind="clasification")
    with pytest.raises(ConfigError, match="second text is given without"):
        read(tmp_path / "a.tsv", "text\tlabel\nx\t1\n", Columns(second="text"))


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\ufeff"), min_size=1).filter(
    str.strip
)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, st.sampled_from(["0", "1", "x,y"])), min_size=1),
    delimiter=st.sampled_from(",;\t|"),
)
def test_what_pythons_csv_writes_is_read_back(rows, delimiter, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("sentence1", "sentence2", "label"), *rows])
    examples = read_texts(path, Columns(), "classification")
    assert short(examples) == rows
    lines = path.read_text(encoding="utf-8").split("\n")
    for example in examples:
        line = lines[int(example.where.rpartition(":")[2]) - 1]
        assert line.lstrip('"').startswith(example.text.split("\n")[0].split('"')[0])


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, st.sampled_from(["0", "1"])), min_size=1))
def test_json_lines_are_read_back(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "a.jsonl"
    content = [json.dumps({"text": text, "label": label}, ensure_ascii=len(text) % 2 == 0) for text, label in rows]
    path.write_text("\n".join(content), encoding="utf-8", newline="")
    assert short(read_texts(path, Columns(), "classification")) == [(text, None, label) for text, label in rows]
