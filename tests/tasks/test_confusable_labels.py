"""Labels that a person takes for one are an error that names both and a line of each, wherever they are from."""

from __future__ import annotations

import json
import re

import pytest

from bertjax.errors import DATA, DataError, exit_code
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.entities import TagNames
from bertjax.tasks.examples import tagged_examples, text_examples
from bertjax.tasks.labels import label_ids, label_map
from bertjax.tasks.tables import Columns, read_texts

ALIKE = {
    "zero width": ("pos", "pos\u200b", "characters that cannot be seen"),
    "byte order mark": ("pos", "\ufeffpos", "characters that cannot be seen"),
    "soft hyphen": ("positive", "posi\u00adtive", "characters that cannot be seen"),
    "variation selector": ("\u2764", "\u2764\ufe0f", "characters that cannot be seen"),
    "no-break space": ("very good", "very\u00a0good", "the kind or number of their spaces"),
    "two spaces": ("very good", "very  good", "the kind or number of their spaces"),
    "decomposed": ("n\u00e9gatif", "ne\u0301gatif", "how Unicode writes their characters"),
    "full width": ("1", "\uff11", "how Unicode writes their characters"),
    "whole number with a point": ("1", "1.0", "how the number is written"),
    "minus nought": ("0", "-0.0", "how the number is written"),
    "signed": ("1", "+1", "how the number is written"),
    "quotes": ("pos", '"pos"', "the quotes around it"),
    "other quotes": ("pos", "\u201cpos\u201d", "the quotes around it"),
    "case": ("pos", "Pos", "case"),
    "truth values": ("true", "True", "case"),
    "upper case of sharp s": ("gro\u00df", "GROSS", "case"),
    "two differences": ("pos", "\u201cPos\u200b\u201d", "how it is written"),
}
# Alike, but each may well be meant.
APART = [("01", "1"), ("1.1", "1.10"), ("sci-fi", "sci_fi"), ("``", "''"), (",", "."), ("B-PER", "I-PER"), ("+", "-")]


@pytest.mark.parametrize("name", ALIKE)
def test_lookalikes_are_named_with_a_line_of_each(name, tmp_path):
    one, other, words = ALIKE[name]
    (tmp_path / "a.tsv").write_text(f"text\tlabel\na\t{one}\nb\tx\nc\t{one}\nd\t{other}\n")
    examples = read_texts(tmp_path / "a.tsv", Columns(), "classification")
    with pytest.raises(DataError) as caught:
        label_map(examples)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/a.tsv:5: the label ") and f"({tmp_path}/a.tsv:2) only in {words};" in line
    mine, theirs = re.findall(r"'(?:[^'\\]|\\.)*'", line)
    assert mine != theirs and exit_code(caught.value) == DATA
    # What the line names works: a list of all labels has both.
    assert label_ids(examples, (one, "x", other)).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(("one", "other"), APART)
def test_labels_that_differ_in_what_may_be_meant_are_two(one, other):
    assert set(label_map(text_examples(["a", "b"], [one, other]))) == {one, other}


@pytest.mark.parametrize(
    ("labels", "kind", "words"),
    [
        ([1, 0, 1.0], "classification", r"labels differ"),
        ([True, False, "True"], "classification", "case"),
        ([["a", "b"], ["c"], ["A"]], "multi_label", "case"),
        ([["a", "b"], [], ["b\u200b"]], "multi_label", "characters that cannot be seen"),
    ],
)
def test_lists_in_memory_and_json_are_looked_at_alike(labels, kind, words, tmp_path):
    texts = ["x", "y", "z"]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": t, "label": own}) for t, own in zip(texts, labels, strict=True)))
    for examples in (text_examples(texts, labels, kind=kind), read_texts(path, Columns(), kind)):
        with pytest.raises(DataError, match=words.replace("labels differ", "how the number is written")):
            label_map(examples)


def test_one_and_its_string_are_one_label():
    assert label_map(text_examples(["x", "y", "z"], [1, "1", 0])) == ("0", "1")
    assert label_map(text_examples(["x", "y", "z"], [True, "true", False])) == ("false", "true")
    assert label_map(text_examples(["x", "y"], [1.0, 0.0])) == ("0.0", "1.0")


def test_tags_and_labels_of_evaluation_are_looked_at_too():
    with pytest.raises(
        DataError, match=r"sentences\[1\]\[0\]: the label 'B-Per' differs from 'B-PER' \(sentences\[0\]\[0\]\)"
    ):
        label_map(tagged_examples([["a", "b"], ["c"]], [["B-PER", "B-PER"], ["B-Per"]]))
    with pytest.raises(DataError, match=r"'pos\\u200b' is not in the label map; it differs from 'pos' only in char"):
        label_ids(text_examples(["a"], ["pos\u200b"]), ("neg", "pos"))
    with pytest.raises(DataError, match=r"sentences\[1\].*: the label 'B-per' is not in .* from 'B-PER' only in case"):
        TagNames.of(("O", "B-PER"), tagged_examples([["a"], ["b", "c"]], [["O"], ["O", "B-per"]]))
    assert TagNames.of(("O", "B-PER"), tagged_examples([["a", "b"]], [["O", "B-LOC"]])) == ("O", "B-PER", "B-LOC")


def test_the_line_of_a_tag_is_that_of_its_word(tmp_path):
    (tmp_path / "a.conll").write_text("anna B-PER\nlives O\nhere O\n\nin O\nparis B-Per\n")
    with pytest.raises(DataError, match=r"a\.conll:6: the label 'B-Per' differs from 'B-PER' \(.*a\.conll:1\)"):
        label_map(read_tagged(tmp_path / "a.conll"))
