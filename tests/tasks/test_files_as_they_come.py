"""Labelled files with delimiters, headers and gaps of their own: they are read, or one line names the way out."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import subprocess

import pytest

from bertjax.errors import ConfigError, DataError
from bertjax.tasks.examples import text_examples
from bertjax.tasks.squad import read_questions
from bertjax.tasks.tables import Columns, read_texts

NUMBERED = Columns(text="0", label="1")


def read(path, content, columns=None, kind="classification", warn=lambda line: None):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_texts(path, columns or Columns(), kind, warn)


def short(examples):
    return [(example.text, example.label) for example in examples]


# --- Delimiters ---------------------------------------------------------------------------------------------------

GOOD = [("a good, fine film", "pos"), ("a bad film", "neg")]
DELIMITED = {
    "semicolons": "text;label\na good, fine film;pos\na bad film;neg\n",
    "tabs": "text\tlabel\na good, fine film\tpos\na bad film\tneg\n",
    "bars": "text|label\na good, fine film|pos\na bad film|neg\n",
    "quotes and semicolons": '"text";"label"\n"a good, fine film";"pos"\n"a bad film";"neg"\n',
    "commas": 'text,label\n"a good, fine film",pos\na bad film,neg\n',
    "a delimiter after the last cell": 'text,label,\n"a good, fine film",pos,\na bad film,neg,\n',
    "one that the header lacks": 'text,label\n"a good, fine film",pos,\na bad film,neg,\n',
    "one that the rows lack": 'text,label,\n"a good, fine film",pos\na bad film,neg\n',
    "empty rows of a spreadsheet": "text;label\na good, fine film;pos\n;\na bad film;neg\n;\n;\n",
    "a line of Excel's own": "sep=;\r\ntext;label\r\na good, fine film;pos\r\na bad film;neg\r\n",
    "the same with a mark": "\ufeffsep=|\ntext|label\na good, fine film|pos\na bad film|neg\n",
    "a mark before a quote": '\ufeff"text","label"\n"a good, fine film","pos"\na bad film,neg\n',
    "blanks after commas": '"text", "label"\n"a good, fine film", "pos"\n"a bad film", "neg"\n',
    "blank rows before": ';\n\ntext;label\n"a good, fine film";pos\na bad film;neg\n',
    "names of IMDB": 'review,sentiment\n"a good, fine film",pos\na bad film,neg\n',
    "an index without a name": ',text,label\n0,"a good, fine film",pos\n1,a bad film,neg\n',
}


@pytest.mark.parametrize("name", DELIMITED)
def test_csv_is_divided_by_what_divides_it(name, tmp_path):
    examples = read(tmp_path / "a.csv", DELIMITED[name])
    assert short(examples) == GOOD
    lines = DELIMITED[name].split("\n")
    for example in examples:
        assert example.text in lines[int(example.where.rpartition(":")[2]) - 1]


def test_a_delimiter_that_divides_all_lines_alike_is_taken_without_a_header(tmp_path):
    content = "good, and fine;pos\na bad film;neg\nno; not; bad, at all\nfine;pos\n"
    with pytest.raises(DataError, match="csv:3: fields: 3, while line 1 has 2"):
        read(tmp_path / "a.csv", content, NUMBERED)
    quoted = read(tmp_path / "a.csv", content.replace("no; not;", '"no; not";'), NUMBERED)
    assert short(quoted)[:3:2] == [("good, and fine", "pos"), ("no; not", "bad, at all")]
    # Commas come first where both would do, and a line sep= says otherwise.
    both = "good, fine;pos\nbad, poor;neg\n"
    assert short(read(tmp_path / "b.csv", both, NUMBERED))[0] == ("good", "fine;pos")
    assert short(read(tmp_path / "b.csv", "sep=;\n" + both, NUMBERED))[0] == ("good, fine", "pos")


def test_breaks_and_delimiters_within_quotes_in_the_lines_that_decide(tmp_path):
    path = tmp_path / "a.csv"
    rows = [(f"one; {'two, ' * (i % 3)}\nthree {i}", ("x", "y")[i % 2]) for i in range(300)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows([("text", "label"), *rows])
    assert short(read_texts(path, Columns(), "classification")) == rows


def test_a_tsv_that_is_a_csv_is_told_so_and_read_under_that_name(tmp_path):
    with pytest.raises(
        DataError, match=r"no column has a usual name.*'text;label'; tabs separate the columns of a \.tsv.*name the"
    ):
        read(tmp_path / "a.tsv", DELIMITED["semicolons"])
    (tmp_path / "a.tsv").rename(tmp_path / "a.csv")
    assert short(read_texts(tmp_path / "a.csv", Columns(), "classification")) == GOOD
    with pytest.raises(DataError, match=r"'\"text\"', '\"label\"'; in a \.tsv quotes belong to the cells, name the"):
        read(tmp_path / "b.tsv", '"text"\t"label"\n"a film"\t"pos"\n')
    (tmp_path / "b.tsv").rename(tmp_path / "b.csv")
    assert short(read_texts(tmp_path / "b.csv", Columns(), "classification")) == [("a film", "pos")]
    with pytest.raises(DataError, match=r"a\.tsv:3: fields: 1.*in a .csv, quote a text that contains .* a line break"):
        read(tmp_path / "a.tsv", 'text\tlabel\na film\tpos\n"a good\nfilm"\tneg\n')
    (tmp_path / "a.tsv").replace(tmp_path / "a.csv")
    assert len(read_texts(tmp_path / "a.csv", Columns(), "classification")) == 2


# --- Headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.tsv", "text\tlabel\na\tpos\nb\tneg\ntext\tlabel\nc\tpos\n", 4),
        ("a.csv", "Text;Label\na;pos\n\ufeffText;Label\nc;neg\n", 3),
        ("a.csv", "text,label\na,pos\nb,neg\nlabel,text\npos,c\n", 4),
        ("a.tsv", "body\tstance\na\tpos\nb\tneg\nbody\tstance\n", 4),
    ],
)
def test_a_header_in_the_middle_is_an_error(name, content, line, tmp_path):
    columns = Columns(text="body", label="stance") if "body" in content else Columns()
    with pytest.raises(DataError, match=rf"{name}:{line}: the header of line 1 again") as caught:
        read(tmp_path / name, content, columns)
    assert "remove the line" in str(caught.value)
    lines = content.split("\n")
    del lines[line - 1]
    if "label,text" not in content:  # there the columns change their places, too
        assert len(read(tmp_path / name, "\n".join(lines), columns)) == len(lines) - (2 if lines[-1] == "" else 1)


SWALLOWED = {
    "a number under it": "Body\tStance\na film\t1\nb\t0\nc\t1\n",
    "one word over sentences": "Body\tStance\n" + "".join(f"film number {i}\t{'ab'[i % 2]}\n" for i in range(9)),
    "a usual name": "text\tstars\n" + "".join(f"film number {i}\t{'ab'[i % 2]}\n" for i in range(9)),
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_a_header_that_numbered_columns_would_read_as_an_example(name, tmp_path):
    content = SWALLOWED[name]
    text, label = content.split("\n")[0].split("\t")
    with pytest.raises(DataError, match=rf"a\.tsv:1: the line looks like a header, '{text}', '{label}'"):
        read(tmp_path / "a.tsv", content, NUMBERED)
    named = read(tmp_path / "a.tsv", content, Columns(text=text, label=label))
    assert len(named) == content.count("\n") - 1
    if "number" in name:  # as an example it may stand anywhere but first
        lines = content.splitlines()
        moved = "\n".join([*lines[1:], lines[0]])
        assert len(read(tmp_path / "a.tsv", moved, NUMBERED)) == len(lines)


@pytest.mark.parametrize(
    "content",
    [
        "good\tpos\na bad film\tneg\na fine film\tpos\n" * 3,  # a word that is an example: its label is elsewhere
        "a good film\tmixed\n" + "a bad film\tneg\na fine film\tpos\n" * 5,  # a class with one example, first of all
        "good\tpos\nbad\tneg\n",
    ],
)
def test_a_first_example_is_no_header(content, tmp_path):
    assert len(read(tmp_path / "a.tsv", content, NUMBERED)) == content.count("\n")


def test_a_first_example_with_the_names_of_a_header_is_an_example(tmp_path):
    """Words and what they name: the label of the first line stands elsewhere."""
    content = "question\tclass\nlecture\tclass\nhammer\ttool\n"
    assert short(read(tmp_path / "a.tsv", content, NUMBERED))[0] == ("question", "class")
    assert len(read(tmp_path / "a.tsv", content.replace("lecture\tclass", "saw\ttool"), NUMBERED)) == 2


def test_columns_of_a_file_without_a_header_are_named_or_numbered(tmp_path):
    content = "a good film\tpos\na bad film\tneg\n"
    with pytest.raises(DataError, match=r"no column 'text'; .* if this is not a header, give the columns by number"):
        read(tmp_path / "a.tsv", content, Columns(text="text", label="label"))
    assert short(read(tmp_path / "a.tsv", content, NUMBERED)) == [("a good film", "pos"), ("a bad film", "neg")]
    numbers = "body\tgrade\na\t1\nb\t2.5\n"
    with pytest.raises(DataError, match=r"a number, not 'grade'; if the line is a header, give the columns by name"):
        read(tmp_path / "b.tsv", numbers, NUMBERED, "regression")
    assert short(read(tmp_path / "b.tsv", numbers, Columns("body", None, "grade"), "regression")) == [
        ("a", 1),
        ("b", 2.5),
    ]
    with pytest.raises(DataError, match=r"tsv:3: the label must be a number, not '2,5'; a decimal point is a point$"):
        read(tmp_path / "b.tsv", numbers.replace(".", ","), Columns("body", None, "grade"), "regression")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (Columns(text="label"), "the text and the label"),
        (Columns(label="text"), "the text and the label"),
        (Columns(text="text", second="label"), "the second text and the label"),
        (Columns(text="text", second="text"), "the text and the second text"),
        (Columns(text="0", label="0"), "the text and the label"),
    ],
)
def test_one_column_is_not_both_text_and_label(ending, columns, what, tmp_path):
    """What is asked for would stand in the text: every accuracy would be 1."""
    content = "text,label\na film,pos\na book,neg\n"
    if ending == "jsonl":
        if columns.text == "0":
            return
        content = '{"text": "a film", "label": "pos"}\n{"text": "a book", "label": "neg"}\n'
    with pytest.raises(
        ConfigError, match=rf"a\.{ending}:1: the column .* cannot be both {what}; choose another with config"
    ):
        read(tmp_path / f"a.{ending}", content, columns)


# --- Gaps -------------------------------------------------------------------------------------------------------


def rows(count, **gaps):
    """``count`` rows; gaps: column -> the values of the first rows."""
    found = [{"text": f"film {i}", "label": "ab"[i % 2]} for i in range(count)]
    for column, values in gaps.items():
        for row, value in zip(found, values, strict=False):
            row[column] = value
    return found


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "memory"])
@pytest.mark.parametrize(
    ("column", "what"), [("text", r"the text .*is empty"), ("label", "the label is empty")], ids=["text", "label"]
)
def test_an_empty_cell_in_a_hundred_is_left_out_and_counted_more_are_refused(ending, column, what, tmp_path):
    def examples(count, gaps):
        found, said = rows(count, **{column: [""] * gaps}), []
        if ending == "memory":
            given = ([row[name] for row in found] for name in ("text", "label"))
            return text_examples(*given, warn=said.append), said
        path = tmp_path / f"a.{ending}"
        sign = {"csv": ",", "tsv": "\t", "jsonl": ""}[ending]
        lines = ["text" + sign + "label"] * bool(sign)
        lines += [sign.join(row.values()) if sign else json.dumps(row) for row in found]
        return read(path, "\n".join(lines), warn=said.append), said

    whole, said = examples(200, 2)
    assert len(whole) == 198 and whole[0].text == "film 2" and said[0].startswith("2 of 200 examples left out: ")
    assert len(said) == 1 and said[0].endswith("is empty, and 1 more")
    assert examples(200, 0)[1] == []
    with pytest.raises(DataError, match=rf"{what} \(2 more like it among 200 examples\); remove such examples"):
        examples(200, 3)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("regression", {"text": "x", "label": None}),
        ("multi_label", {"text": "x", "label": None}),
        ("classification", {"text": None, "label": "a"}),
        ("classification", {"text": "x", "label": float("nan")}),
        ("classification", {"sentence1": "x", "sentence2": "", "label": "a"}),
    ],
)
def test_null_and_nan_are_gaps_too(kind, row, tmp_path):
    label = 1 if kind == "regression" else "b"
    good = {name: label if name == "label" else "words" for name in row}
    said = []
    content = "\n".join(json.dumps(one) for one in [row, *[good] * 99])
    assert len(read(tmp_path / "a.jsonl", content, kind=kind, warn=said.append)) == 99 and len(said) == 1


def test_an_empty_cell_of_several_labels_is_no_gap(tmp_path):
    said = []
    assert [e.label for e in read(tmp_path / "a.csv", "text,labels\nx,\ny,a\n", kind="multi_label", warn=said.append)]
    assert said == []


# --- No label -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
def test_the_dash_of_a_gold_label_is_no_label(ending, tmp_path):
    pairs = [("p", "h", label) for label in ("entailment", "-", "neutral", "-")]
    names = ("sentence1", "sentence2", "gold_label")
    lines = ["\t".join(names), *map("\t".join, pairs)]
    if ending == "jsonl":
        lines = [json.dumps(dict(zip(names, pair, strict=True))) for pair in pairs]
    said = []
    examples = read(tmp_path / f"a.{ending}", "\n".join(lines), warn=said.append)
    assert [example.label for example in examples] == ["entailment", "neutral"]
    first = f"{tmp_path}/a.{ending}:{2 if ending == 'jsonl' else 3}"
    assert said == [f"2 of 4 examples have no label ('-', the first at {first}) and are left out"]


def test_any_sign_of_no_label_can_be_named_and_none_is_assumed_elsewhere(tmp_path):
    content = "text\tlabel\na\t+\nb\t-\nc\t+\n"
    assert len(read(tmp_path / "a.tsv", content)) == 3
    assert [e.label for e in read(tmp_path / "a.tsv", content, Columns(no_label="-"))] == ["+", "+"]
    assert len(text_examples(["a", "b", "c"], [0, -1, 1], no_label="-1")) == 2
    with pytest.raises(DataError, match=r"a\.tsv:2: no example has a label, all have '-'"):
        read(tmp_path / "a.tsv", "text\tgold_label\na\t-\nb\t-\n")


# --- Several labels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["['a', 'b, c']", '["a", "b, c"]', "[ 'a' ,'b, c' ]"])
def test_a_list_written_into_a_cell_is_that_list(cell, tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "labels"), ("x", cell), ("y", "[]"), ("z", "a"), ("w", "[1, 2]")])
    labels = [example.label for example in read_texts(path, Columns(), "multi_label")]
    assert labels == [("a", "b, c"), (), ("a",), ("1", "2")]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['a' 'b c']", ("a", "b c")),
        ("[0 12]", ("0", "12")),
        ("['a'\n 'b']", ("a", "b")),
        ("[see also]", ("[see also]",)),
    ],
)
def test_a_list_that_an_array_wrote_into_a_cell_is_that_list(cell, labels, tmp_path):
    """For Python 'a' 'b' is the one string "ab"."""
    examples = read(tmp_path / "a.csv", f'text,labels\nx,"{cell}"\ny,c\n', kind="multi_label")
    assert examples[0].label == labels


@pytest.mark.parametrize(
    "labels", [[0, 1, 1], [0.0, 0.0, 1.0], [False, True], "[0, 1, 0]", "[0 1 0]", "0,1,0"], ids=str
)
def test_a_yes_or_no_for_each_label_is_no_list_of_labels(labels, tmp_path):
    rows = [{"text": "x", "labels": labels}, {"text": "y", "labels": [0]}]
    content = "\n".join(map(json.dumps, rows))
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: the labels .* are a yes or no for each label; list the names, or"
    ):
        read(tmp_path / "a.jsonl", content, kind="multi_label")
    rows[0]["labels"] = [1, 2]  # the numbers of those that it has
    content = "\n".join(map(json.dumps, rows))
    assert read(tmp_path / "a.jsonl", content, kind="multi_label")[0].label == ("1", "2")


def test_labels_that_are_called_0_and_1_are_labels(tmp_path):
    assert read(tmp_path / "a.csv", 'text,labels\nx,"0,1"\ny,1\n', kind="multi_label")[0].label == ("0", "1")


def test_labels_with_commas_need_another_separator(tmp_path):
    content = "text\tlabels\nx\tParis, Texas|film\n"
    assert read(tmp_path / "a.tsv", content, Columns(separator="|"), "multi_label")[0].label == ("Paris, Texas", "film")


# --- Encodings --------------------------------------------------------------------------------------------------


def test_a_spreadsheet_in_another_encoding_is_read_when_its_line_is_followed(tmp_path):
    content = "sep=;\r\nKommentar;Urteil\r\nschön, wirklich schön;gut\r\nmüde Späße, überall;schlecht\r\n"
    columns = Columns(text="Kommentar", label="Urteil")
    with pytest.raises(DataError, match=r"a\.csv:3: .*not valid UTF-8.*CP1252: `iconv -f CP1252 ") as caught:
        read(tmp_path / "a.csv", content.encode("cp1252"), columns)
    if shutil.which("iconv"):
        subprocess.run(str(caught.value).split("`")[1], shell=True, check=True)
        found = short(read_texts(tmp_path / "a.utf8.csv", columns, "classification"))
        assert found == [("schön, wirklich schön", "gut"), ("müde Späße, überall", "schlecht")]


def test_lines_that_end_as_they_did_on_old_machines(tmp_path):
    examples = read(tmp_path / "a.csv", 'text;label\r"a good, fine film";pos\ra bad film;neg\r')
    assert short(examples) == GOOD and [e.where.rpartition(":")[2] for e in examples] == ["2", "3"]


# --- Other kinds of files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", r"a zip archive, or the \.xlsx of a spreadsheet; .* save the sheet as \.csv"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"the \.xls of a spreadsheet"),
        (b"PAR1\x15\x04", "a parquet file"),
        # Without the time of day, which would be part of the name of the test and differ from worker to worker.
        (gzip.compress(b"text,label\n", mtime=0), r"compressed by gzip; its name must end in \.gz"),
    ],
)
def test_a_file_that_is_no_text_is_called_what_it_is(head, words, tmp_path):
    with pytest.raises(DataError, match=rf"a\.csv is {words}"):
        read(tmp_path / "a.csv", head)
    (tmp_path / "a.json").write_bytes(head)
    with pytest.raises(DataError, match=rf"a\.json is {words}"):
        read_questions(tmp_path / "a.json")


@pytest.mark.parametrize(("indent", "is_list"), [(None, True), (1, True), (1, False)])
def test_json_that_is_no_object_a_line_is_made_so_by_its_line(indent, is_list, tmp_path):
    rows = [{"text": "a film", "label": "pos"}, {"text": "a book", "label": "neg"}]
    content = json.dumps(rows, indent=indent) if is_list else "\n".join(json.dumps(row, indent=1) for row in rows)
    with pytest.raises(DataError, match=r"a\.jsonl:1: .*; there must be an object a line: `jq -c '.*' FILE") as caught:
        read(tmp_path / "a.jsonl", content)
    if shutil.which("jq"):
        line = str(caught.value).split("`")[1].replace("NEW_FILE", "b").replace("FILE", "a.jsonl")
        subprocess.run(line, shell=True, check=True, cwd=tmp_path)
        assert len(read_texts(tmp_path / "b.jsonl", Columns(), "classification")) == 2
