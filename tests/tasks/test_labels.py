"""Label maps do not depend on the order of examples, and say where a label is that they do not know."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bertjax.errors import DATA, DataError, exit_code
from bertjax.tasks.examples import tagged_examples, text_examples
from bertjax.tasks.labels import label_ids, label_map, unused_labels
from bertjax.tasks.tables import Columns, read_texts


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["pos", "neg", "Neutral", "neg"], ("Neutral", "neg", "pos")),
        ([10, 9, 0, 10], ("0", "9", "10")),
        ([1, -1, "0.5"], ("-1", "0.5", "1")),
        (["1", "2", "nan"], ("1", "2", "nan")),
    ],
)
def test_order_of_labels(labels, names):
    for seed in range(5):
        shuffled = random.Random(seed).sample(labels, len(labels))
        assert label_map(text_examples(["x"] * len(labels), shuffled)) == names


def test_the_tag_of_no_entity_is_first():
    examples = tagged_examples([["a", "b"], ["c"]], [["I-x", "B-x"], ["O"]])
    names = label_map(examples)
    assert names == ("O", "B-x", "I-x")
    ids = label_ids(examples, names)
    assert [row.tolist() for row in ids] == [[2, 1], [0]] and ids[0].dtype == np.int32


def test_ids_of_texts():
    texts = ["a", "b", "c"]
    one = label_ids(text_examples(texts, ["y", "x", "y"]), ("x", "y"))
    assert one.tolist() == [1, 0, 1] and one.dtype == np.int32
    several = text_examples(texts, [["y"], [], ["x", "y"]], kind="multi_label")
    assert label_map(several) == ("x", "y")
    np.testing.assert_array_equal(label_ids(several, ("x", "y")), np.array([[0, 1], [0, 0], [1, 1]], np.float32))
    numbers = text_examples(texts, [1, 2.5, -3], kind="regression")
    assert label_map(numbers) == ("score",)
    np.testing.assert_array_equal(label_ids(numbers, ("score",)), np.array([1, 2.5, -3], np.float32))


def test_an_unknown_label_is_named_with_its_line(tmp_path):
    (tmp_path / "dev.tsv").write_text("label\ttext\npos\ta\nnegative\tb\n")
    examples = read_texts(tmp_path / "dev.tsv", Columns(), "classification")
    with pytest.raises(DataError, match=r"dev\.tsv:3: the label 'negative' is not in the label map") as caught:
        label_ids(examples, ("neg", "pos"))
    assert exit_code(caught.value) == DATA
    with pytest.raises(DataError, match=r"sentences\[0\]: the label 'B-y' is not in the label map; did you mean 'B-x'"):
        label_ids(tagged_examples([["a"]], [["B-y"]]), ("O", "B-x"))


def test_labels_without_examples_are_told(tmp_path):
    (tmp_path / "train.tsv").write_text("label\ttext\npos\ta\nneg\tb\n")
    examples = read_texts(tmp_path / "train.tsv", Columns(), "classification")
    assert unused_labels(examples, ("neg", "pos")) == []
    assert unused_labels(examples, ("neg", "neutral", "pos", "?")) == [
        "no training example has the label 'neutral', '?', of which nothing is learned"
    ]
    assert unused_labels(text_examples(["a"], [1], kind="regression"), ("score",)) == []
    with pytest.raises(DataError, match=r"train\.tsv:2: up to here all examples have the label 'pos'") as caught:
        unused_labels(examples[:1], ("neg", "pos"))
    assert exit_code(caught.value) == DATA


def test_examples_that_no_map_can_be_made_of():
    with pytest.raises(DataError, match=r"texts\[1\]: up to here all examples have the label 'x'"):
        label_map(text_examples(["a", "b"], ["x", "x"]))
    with pytest.raises(DataError, match=r"sentences\[1\]: up to here all words have the tag 'O'; there must be two"):
        label_map(tagged_examples([["a"], ["b", "c"]], [["O"], ["O", "O"]]))
    with pytest.raises(DataError, match=r"texts\[0\]: no label"):
        label_map(text_examples(["a", "b"]))
    with pytest.raises(DataError, match=r"texts\[1\]: up to here no example has a label"):
        label_map(text_examples(["a", "b"], [[], []], kind="multi_label"))
