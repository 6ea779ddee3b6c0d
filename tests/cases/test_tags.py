"""Tagged files as people have them: tags_*.conll."""

import numpy as np
import pytest

from bertjax.errors import DataError
from bertjax.finetune.settings import resolve
from bertjax.finetune.tagging import tagging_setup
from bertjax.finetune.task_setup import Labelled
from bertjax.tasks.conll import read_tagged
from bertjax.text.wordpiece import WordPieceTokenizer

WORDS = ("Ada", "Lovelace", "saw", "Paris"), ("Grace", "left", "New", "York")
TAGS = ("B-PER", "I-PER", "O", "B-LOC"), ("B-PER", "O", "B-LOC", "I-LOC")


def setup_of(path, **columns):
    """(the setup of a file against itself, what its reading said)."""
    said = []
    examples = read_tagged(path, warn=said.append, **columns)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = WordPieceTokenizer([*special, *(word for own in WORDS for word in own)], False, "made up")
    return tagging_setup(resolve({"task": "tagging"}), Labelled(examples, examples, tokenizer)), said


def right_scores(setup):
    """The scores of a model that says what the file does, and the number of its entities."""
    labels, outputs = setup.eval.token_labels["labels"], []
    for row in np.split(labels, setup.eval.starts[1:-1]):
        outputs.append(np.eye(len(setup.task.labels))[np.maximum(row, 0)])
    outcome = setup.outcome(outputs)
    return outcome.scores, sum(figures["support"] for figures in outcome.details()["per_class"].values())


ALL_RIGHT = {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}


def test_bilou_is_scored_by_its_four_entities(cases):
    setup, said = setup_of(cases / "tags_bilou.conll")
    assert right_scores(setup) == (ALL_RIGHT, 4) and said == [] and setup.cautions == []


def test_a_zero_for_o_is_told(cases):
    setup, _ = setup_of(cases / "tags_zero_for_o.conll")
    (line,) = setup.cautions
    assert line.startswith(f"{cases / 'tags_zero_for_o.conll'}:3: the tag 0 is not an entity tag like B-, I-, O")
    assert right_scores(setup)[0] == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("name", "columns", "line"),
    [
        ("tags_header.conll", {}, ":1: a header, not a word; the words are in the column 'word', the tags in 'tag'"),
        ("tags_comment.conll", {}, ":1: a comment, not a word; 2 such lines of the file are skipped"),
        ("tags_index_first.conll", {"word": "1", "tag": "2"}, None),
    ],
)
def test_words_and_tags_of_what_is_beside_them(name, columns, line, cases):
    path = cases / name
    setup, said = setup_of(path, **columns)
    assert said == ([] if line is None else [f"{path}{line}"])
    found = read_tagged(path, **columns)
    assert (tuple(one.words for one in found), tuple(one.tags for one in found)) == (WORDS, TAGS)
    assert setup.task.labels == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER") and right_scores(setup) == (ALL_RIGHT, 4)


def test_an_index_is_no_word(cases):
    path = cases / "tags_index_first.conll"
    with pytest.raises(
        DataError, match=r"column 0 counts them; choose that of the words, such as 1 \(here 'Ada'\), .*label=2,"
    ):
        read_tagged(path)


def test_one_tag_only_is_refused(cases):
    with pytest.raises(
        DataError, match=r"tags_all_o\.conll:6: up to here all words have the tag 'O'; there must be two"
    ):
        setup_of(cases / "tags_all_o.conll")
