"""Lists in memory become the same examples as files, with the same checks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bertjax.errors import ConfigError, DataError
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.examples import Answer, TaggedExample, tagged_examples, text_examples
from bertjax.tasks.squad import question_examples
from bertjax.tasks.tables import Columns, read_texts


def without_places(examples):
    return [replace(example, where="") for example in examples]


def test_texts_are_the_examples_of_a_file(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\ngood,1\nbad,0\n")
    (tmp_path / "b.csv").write_text("sentence1,sentence2,score\na,b,1\nc,d,0.5\n")
    (tmp_path / "c.csv").write_text('text,labels\na,"x,y"\nb,\n')
    for name, kind, texts, labels in (
        ("a.csv", "classification", ["good", "bad"], np.array([1, 0])),
        ("b.csv", "regression", [("a", "b"), ["c", "d"]], [1, 0.5]),
        ("c.csv", "multi_label", ["a", "b"], [["x", "y"], ()]),
    ):
        from_file = read_texts(tmp_path / name, Columns(), kind)
        assert without_places(text_examples(texts, labels, kind=kind)) == without_places(from_file)
    assert [example.where for example in text_examples(["a", "b"])] == ["texts[0]", "texts[1]"]


@pytest.mark.parametrize(
    ("given", "name"),
    [(1, "1"), (np.int32(1), "1"), (" 1 ", "1"), (True, "true"), (np.bool_(False), "false"), (np.float32(0.1), "0.1")],
)
def test_names_of_classes(given, name):
    assert text_examples(["a"], [given])[0].label == name


def test_words_are_the_examples_of_a_file(tmp_path):
    (tmp_path / "a.conll").write_text("EU\tB-ORG\nrejects\tO\n\nPeter\tB-PER\n")
    words, tags = [["EU", "rejects"], ["Peter"]], [["B-ORG", "O"], ["B-PER"]]
    assert without_places(tagged_examples(words, tags)) == without_places(read_tagged(tmp_path / "a.conll"))
    assert tagged_examples(words)[1].tags is None


def test_sentences_may_be_arrays():
    assert tagged_examples([np.array(["EU", "rejects"])], [np.array(["B-ORG", "O "])]) == [
        TaggedExample("sentences[0]", ("EU", "rejects"), ("B-ORG", "O"))
    ]


def test_questions_without_a_file():
    context = "Rome is in Italy."
    known, none, unknown = question_examples(
        [
            {"question": "Where?", "context": context, "answers": [{"text": "Italy", "answer_start": np.int64(11)}]},
            {"question": "When?", "context": context, "answers": [], "id": "x"},
            {"question": "Why?", "context": context},
        ]
    )
    assert known.answers == (Answer("Italy", 11),) and known.id == "0"
    assert none.answers == () and none.id == "x"
    assert unknown.answers is None


BAD_TEXTS = {
    "no text": ([], None, "classification", "there is no text"),
    "no string": (["a", 5], None, "classification", r"texts\[1\]: must be a string or a pair"),
    "three texts": ([("a", "b", "c")], None, "classification", r"texts\[0\]: must be a string or a pair"),
    "empty text": (["a", " "], None, "classification", r"texts\[1\]: the text is empty"),
    "empty second text": ([("a", "")], None, "classification", r"texts\[0\]: the second text is empty"),
    "no label": (["a", "b"], ["x", None], "classification", r"labels\[1\]: the label must be a string or a number"),
    "NaN of NumPy's": (["a"], [np.float32("nan")], "classification", r"labels\[0\]: the label is nan, not a name"),
    "not a number": (["a"], [float("nan")], "regression", r"labels\[0\]: the label must be a finite number"),
    "not a list": (["a"], [5], "multi_label", r"labels\[0\]: the labels must be a list"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts_are_named_by_their_index(name):
    texts, labels, kind, message = BAD_TEXTS[name]
    with pytest.raises(DataError, match=message):
        text_examples(texts, labels, kind=kind)


def test_lists_of_different_lengths():
    with pytest.raises(ConfigError, match="texts and labels must be of one length, not 2 and 1"):
        text_examples(["a", "b"], ["x"])
    with pytest.raises(ConfigError, match="must be lists"):
        text_examples("a text")


@pytest.mark.parametrize(
    ("sentences", "tags", "message"),
    [
        (["a sentence"], None, r"sentences\[0\]: must be a list of words"),
        ([["a"], []], None, r"sentences\[1\]: must be a list of words"),
        ([["a", 5]], None, r"sentences\[0\]: must be a list of words"),
        ([["a", " "]], None, r"sentences\[0\]: must be a list of words"),
        ([["a\ud800"]], None, r"sentences\[0\]: the sentence holds half of a surrogate pair"),
        ([["a", "b"]], [["O"]], r"sentences\[0\]: must have a tag for each of its 2 words"),
        ([["a", "b"]], ["OO"], r"sentences\[0\]: must have a tag for each of its 2 words, not 'OO'"),
        ([["a", "b"]], [["O", " "]], r"sentences\[0\]: must have a tag for each of its 2 words"),
    ],
)
def test_bad_sentences_are_named_by_their_index(sentences, tags, message):
    with pytest.raises(DataError, match=message):
        tagged_examples(sentences, tags)


def test_questions_with_one_id():
    item = {"id": "a", "question": "q", "context": "c"}
    with pytest.raises(DataError, match=r"questions\[1\]: question a is already at questions\[0\]"):
        question_examples([item, item])
