"""Labelled data that a model's tokenizer does not know is told, and refused where it is most of the text."""

from __future__ import annotations

import pytest

from bertjax.errors import DataError
from bertjax.inference.prediction_tasks import warning_of_unknown
from bertjax.tasks.examples import tagged_examples, text_examples
from bertjax.tasks.label_warnings import unknown_text_warnings
from bertjax.tasks.squad import question_examples
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer

WORDS = ["the", "river", "is", "wide", "cafe"]


def tokenizer(lowercase=True):
    return WordPieceTokenizer([*WORDPIECE_SPECIALS, *WORDS], lowercase)


EXAMPLES = {
    "texts": lambda text: text_examples([text], ["a"]),
    "pairs": lambda text: text_examples([("the river", text)], ["a"]),
    "words": lambda text: tagged_examples([text.split()], [["O"] * len(text.split())]),
    "questions": lambda text: question_examples([{"question": "the river", "context": text, "answers": []}]),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_by_characters(kind):
    good = EXAMPLES[kind]("the river is wide the river")
    assert unknown_text_warnings(tokenizer(), good, "the data", refuse=True) == []
    some = EXAMPLES[kind]("the river is wide " * 5 + "zebra")
    (line,) = unknown_text_warnings(tokenizer(), some, "the training data", refuse=True)
    assert "of the characters of the training data are [UNK], such as 'zebra'" in line and "another" not in line
    assert line.endswith("use a model whose tokenizer knows them")
    most = EXAMPLES[kind]("zebras quarrel loudly")
    with pytest.raises(DataError, match=r"% of the characters of the data are \[UNK\]"):
        unknown_text_warnings(tokenizer(), most, "the data", refuse=True)
    assert len(unknown_text_warnings(tokenizer(), most, "the data", refuse=False)) == 1


def test_the_way_out_is_one_that_helps():
    capitals = text_examples(["THE River IS Wide"], ["a"])
    with pytest.raises(DataError, match=r'set "do_lower_case": true in the tokenizer_config\.json'):
        unknown_text_warnings(tokenizer(lowercase=False), capitals, "the data", refuse=True)
    assert unknown_text_warnings(tokenizer(), capitals, "the data", refuse=True) == []
    with pytest.raises(DataError, match="does not see words of more than 100 characters; divide them by spaces"):
        unknown_text_warnings(tokenizer(), text_examples(["river" * 30], ["a"]), "the data", refuse=True)


def test_predictions_warn_once():
    said, done = [], []
    work = warning_of_unknown(lambda items: done.append(items) or items, tokenizer(), said.append)
    lots = [["the [MASK] is wide"], [("the river", "wide")], [["the", "river"], "cafe"], [], ["\ud800"], [5]]
    for lot in lots:
        assert work(lot) == lot
    assert said == []
    work(["the zebra"])
    work(["the quagga"])
    assert len(said) == 1 and "62.5% of the characters of the texts are [UNK], such as 'zebra'" in said[0]
    assert len(done) == len(lots) + 2
