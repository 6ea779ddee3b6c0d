"""The labels with their counts, and what is hardly meant of them, with a way out that works."""

from __future__ import annotations

import re

import pytest

from bertjax.tasks.examples import tagged_examples, text_examples
from bertjax.tasks.label_warnings import data_warnings, label_counts, label_warnings, majority
from bertjax.tasks.labels import count_labels, label_ids, label_map
from bertjax.tasks.squad import question_examples


def cautions(labels, held_out=(), kind="classification", separator=","):
    examples = [
        text_examples(list(map(str, range(len(own)))), list(own), kind=kind) for own in (labels, held_out or labels)
    ]
    return label_warnings(kind, label_map(examples[0]), *examples, separator)


def test_labels_are_counted_in_their_order():
    train, held_out = text_examples(["a"] * 1500, ["b"] * 1499 + ["a"]), text_examples(["a"], ["b"])
    line = label_counts(("a", "b"), train, held_out)
    assert line == "2 labels, with their training + evaluation examples: a 1 + 0, b 1,499 + 1"
    tagged = tagged_examples([["x", "y", "z"]], [["O", "B-a", "O"]])
    assert "O 2 + 2, B-a 1 + 1" in label_counts(("O", "B-a"), tagged, tagged)


def test_thousands_of_labels_are_one_short_line_and_are_learned():
    names = [f"class {i}" for i in range(4000)]
    examples = text_examples(names * 2, names * 2)
    found = label_map(examples)
    assert len(label_ids(examples, found)) == 8000
    line = label_counts(found, examples, examples)
    assert line.startswith("4,000 labels, ") and line.endswith(" and 3,960 more") and len(line) < 1200
    assert label_warnings("classification", found, examples, examples, ",") == []


QUIET = [["a", "b"] * 3, [0, 1] * 4, [-1, 0, 1] * 3, ["+", "-"] * 2, ["1.0", "2.0"] * 3]


@pytest.mark.parametrize("labels", QUIET, ids=str)
def test_sound_labels_have_no_caution(labels):
    assert cautions(labels) == []


@pytest.mark.parametrize(
    ("labels", "held_out", "words"),
    [
        (["a", "b"] * 9 + ["posi"], (), "labels with a single training example: 'posi'; a misspelled"),
        (
            ["a"] * 95 + ["b"] * 5,
            ["a", "b"],
            "95.0% of the training examples have the label 'a': always predicting it has an accuracy of 0.950",
        ),
        (["a", "b"], ["b"] * 19 + ["a"], "95.0% of the evaluation examples have the label 'b'"),
        ([0.5, 1.0, 2.5] * 3, (), "the 3 labels are numbers with fractions, .*--config.task=regression"),
        ([f"text {i}" for i in range(30)] * 1 + ["x"] * 2, (), "there are 31 labels in 32 training examples"),
        ([0, 1, 2, -1] * 3, (), "the label '-1' .3 of 12 .*--config.data.no_label=-1"),
        (["yes", "no", "-"] * 2, (), "the label '-' .*--config.data.no_label=-"),
    ],
)
def test_what_is_hardly_meant(labels, held_out, words):
    found = [line for line in cautions(labels, held_out) if re.search(words, line)]
    assert len(found) == 1


def test_another_separator():
    (line,) = cautions([["a;b"], ["a"], ["a"], ["a;b"]], kind="multi_label")
    assert "the label 'a;b' contains ';'" in line and "--config.data.separator=';'" in line
    assert cautions([["a;b", "a"], ["a"], [], ["a;b"]], kind="multi_label", separator=";") == []


def test_several_labels_of_which_no_text_has_more_than_one():
    (line,) = cautions([["a"], ["b"], ["a"], ["b"]], kind="multi_label")
    assert line == "no training text has more than one label; for such data use --config.task=classification"
    (line,) = cautions([["a b"], ["a"], ["a b"], ["c d"], ["c d"], ["a"]], kind="multi_label")
    assert line.endswith("; if blanks separate labels, as in 'a b', use --config.data.separator=' '")
    for sound in ([["a", "b"], ["a"], ["b"]], [[], ["a"], ["b"], []]):
        assert cautions(sound * 2, kind="multi_label") == []
    (line,) = cautions([["a", "b"], ["b"], ["a", "b"]], kind="multi_label")
    assert line == "every training text has the label 'b': nothing is learned about it"


def test_a_list_as_a_class():
    (line,) = cautions(["['a', 'b']", "['a']"] * 2)
    assert line.startswith("the label \"['a', 'b']\" is a list") and line.endswith("--config.task=multi_label")
    assert cautions(["[a, b]", "[see also]"] * 2) == []


def test_as_many_tags_as_words():
    words, tags = [f"w{i}" for i in range(60)], [f"{i},NN,O" for i in range(40)] + ["O"] * 20
    examples = tagged_examples([words], [tags])
    (line,) = label_warnings("tagging", label_map(examples), examples, examples, ",")
    assert line.startswith("there are 41 tags for 60 training words: is config.data.label the column of the tags")
    examples = tagged_examples([words] * 3, [tags] * 3)
    assert label_warnings("tagging", label_map(examples), examples, examples, ",") == []


def test_kinds_without_names_have_no_cautions():
    examples = text_examples(["a", "b"], [1, 2.5], kind="regression")
    assert label_warnings("regression", ("score",), examples, examples, ",") == []
    assert majority(count_labels(text_examples(["a", "b", "c"], ["x", "y", "y"]))) == ("y", 2 / 3)
    questions = question_examples([{"question": "q", "context": "c", "answers": []}])
    assert label_warnings("answering", (), questions, questions, ",") == []
    pairs = text_examples([("a", "b")], kind="embedding")  # without scores
    assert label_warnings("embedding", (), pairs, pairs, ",") == []


def test_pairs_that_are_scored_after_single_texts_were_learned_are_told():
    texts, pairs = text_examples(["a", "b"]), text_examples([("a", "c"), ("b", "c")])
    (line,) = data_warnings(texts, pairs)
    assert line.startswith("the training examples are single texts, the evaluation examples pairs of texts")
    (line,) = data_warnings(pairs, texts)
    assert line.startswith("the training examples are pairs of texts, the evaluation examples single texts")


def test_evaluation_examples_that_were_trained_on_are_told():
    train = text_examples([f"text {i}" for i in range(50)])
    (line,) = data_warnings(train, train)
    assert line.startswith("50 of 50 evaluation examples are also training examples")
    fresh = text_examples([f"other {i}" for i in range(18)] + ["text 1"])
    assert list(data_warnings(train, fresh)) == []
    sentences = tagged_examples([["a", "b"], ["c"]])
    assert len(list(data_warnings(sentences, sentences[:1]))) == 1
    questions = question_examples([{"question": "q", "context": "c", "answers": []}])
    assert len(list(data_warnings(questions, questions))) == 1
