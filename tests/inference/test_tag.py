import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

import bertjax
from bertjax.inference.tag import TaggedEntity
from bertjax.text.words import encode_words

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ODD = list("a the cat İé日本🙂👩‍👧\u0301\u200b\u200d\ufeff\ufe0f½ﬁ\u00a0\u3000\t\n\r`'\"-.,$")


@pytest.fixture(scope="module")
def tagger(new_task_model):
    return new_task_model("tagging", LABELS, max_length=40)


def test_tags_are_those_of_first_pieces(tagger, tokenizer):
    words = ["The", "cat", "sat", "on", "3.14", "unbelievable", "mats", "."]
    pieces = [tokenizer.encode(word) for word in words]
    ids = [tokenizer.cls_id, *(piece for word in pieces for piece in word), tokenizer.sep_id]
    logits = np.asarray(tagger([ids]).logits)[0]
    firsts = np.cumsum([1, *map(len, pieces)])[:-1]
    expected = softmax(logits[firsts], axis=-1)
    assert len(ids) > len(words) + 3
    found = bertjax.tag(tagger, tokenizer, [words])[0]
    assert [word.text for word in found.words] == words
    assert [word.tag for word in found.words] == [LABELS[i] for i in expected.argmax(-1)]
    np.testing.assert_allclose([word.probability for word in found.words], expected.max(-1), atol=1e-5)
    text = " ".join(words)
    assert all(text[word.start : word.end] == word.text for word in found.words)


def test_a_text_is_its_words(tagger, tokenizer):
    text = "The cat, sat\ton  mats."
    alone = bertjax.tag(tagger, tokenizer, text)
    assert [text[word.start : word.end] for word in alone.words] == ["The", "cat", ",", "sat", "on", "mats", "."]
    as_words = bertjax.tag(tagger, tokenizer, ["x", [word.text for word in alone.words]], batch_size=1)[1]
    assert [word.tag for word in alone.words] == [word.tag for word in as_words.words]


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from(ODD), max_size=40))
def test_offsets_are_into_the_callers_text(tagger, tokenizer, text):
    found = bertjax.tag(tagger, tokenizer, text, batch_size=1)
    for part in (*found.words, *found.entities):
        assert text[part.start : part.end] == part.text != ""
    for entity in found.entities:
        words = found.words[entity.first_word : entity.last_word + 1]
        assert (words[0].start, words[-1].end) == (entity.start, entity.end)
        assert {word.tag[2:] for word in words} == {entity.type}
    assert sum(e.last_word - e.first_word + 1 for e in found.entities) == sum(w.tag != "O" for w in found.words)


def test_every_word_of_a_long_text_gets_a_tag(new_task_model, tokenizer):
    """In windows: what is far from the edge of a window is as if the text were nothing but it."""
    small = new_task_model("tagging", LABELS, max_length=16)
    of_one_piece = [
        word for word in (*"abcdef", "the", "cat", "sat", "dog") if len(encode_words(tokenizer, [word])[0]) == 1
    ]
    words = random.Random(0).choices(of_one_piece, k=120)
    found = bertjax.tag(small, tokenizer, [words])[0]
    assert [word.text for word in found.words] == words
    assert len({word.probability for word in found.words}) > 10
    # The second window, of 14 words, begins three before the end of the first.
    alone = bertjax.tag(small, tokenizer, [words[11:25]])[0].words
    for place in range(14, 22):
        assert found.words[place].probability == pytest.approx(alone[place - 11].probability, rel=1e-4)
    assert found.words[12].probability != pytest.approx(alone[1].probability, rel=1e-4)  # read in the first one


def test_entities_are_made_of_tags(tagger, tokenizer, monkeypatch):
    tags = ["B-PER", "I-PER", "O", "I-LOC"]
    logits = 5.0 * np.eye(5)[[LABELS.index(tag) for tag in tags]]
    logits[1] /= 2
    given = lambda model, tokenizer, examples, batch_size: [
        np.concatenate([np.zeros((1, 5)), logits, np.zeros((9, 5))]) for _ in examples
    ]
    monkeypatch.setattr("bertjax.inference.tag.task_logits", given)
    monkeypatch.setattr("bertjax.inference.tag.encode_words", lambda tokenizer, words: [[7]] * len(words))
    found = bertjax.tag(tagger, tokenizer, "Ada  Lovelace in\nLondon")
    assert [word.tag for word in found.words] == tags
    low, high = softmax(logits[1]).max(), softmax(logits[3]).max()
    assert found.entities == [
        TaggedEntity("Ada  Lovelace", 0, 13, "PER", pytest.approx(low), 0, 1),
        TaggedEntity("London", 17, 23, "LOC", pytest.approx(high), 3, 3),
    ]


def test_other_tags_make_no_entities(new_task_model, tokenizer):
    tagger = new_task_model("tagging", ("NOUN", "VERB"), max_length=40)
    found = bertjax.tag(tagger, tokenizer, "the cat sat")
    assert found.entities == [] and {word.tag for word in found.words} <= {"NOUN", "VERB"}


def test_nothing(tagger, tokenizer):
    empty = bertjax.tag(tagger, tokenizer, ["", [], " \n\u200b", [""]])
    assert [len(found.words) for found in empty] == [0, 0, 0, 1]
    assert empty[3].words[0].text == ""
    assert bertjax.tag(tagger, tokenizer, []) == []


def test_mistakes_are_named(tagger, new_task_model, tokenizer):
    with pytest.raises(ValueError, match=r"texts\[1\] must be a string or a list of words, not int"):
        bertjax.tag(tagger, tokenizer, ["a", 3])
    with pytest.raises(ValueError, match=r"texts\[0\]\[1\] must be a string, not int"):
        bertjax.tag(tagger, tokenizer, [["a", 3]])
    with pytest.raises(ValueError, match=r"texts\[0\] holds half a surrogate pair"):
        bertjax.tag(tagger, tokenizer, "\ud800")
    with pytest.raises(ValueError, match="model is for answering, not tagging; use answer"):
        bertjax.tag(new_task_model("answering", max_length=40), tokenizer, "a")


@pytest.mark.parametrize(
    "tags",
    [
        ["B-PER", "L-PER", "O", "U-LOC"],
        ["B-PER", "E-PER", "O", "S-LOC"],
        ["B_PER", "I_PER", "O", "B_LOC"],
        ["PER-B", "PER-I", "O", "LOC-B"],
        ["b-PER", "i-PER", "o", "b-LOC"],
        ["I-PER", "I-PER", "O", "I-LOC"],
        ["B-PER", "M-PER", "0", "W-LOC"],
        ["B", "E", "O", "S"],
    ],
)
def test_entities_of_every_scheme(tags, new_task_model, tokenizer, monkeypatch):
    labels = tuple(sorted(set(tags)))
    logits = np.eye(len(labels))[[0, *(labels.index(tag) for tag in tags), 0]]
    monkeypatch.setattr("bertjax.inference.tag.task_logits", lambda model, tokenizer, examples, size: [logits])
    monkeypatch.setattr("bertjax.inference.tag.encode_words", lambda tokenizer, words: [[7]] * len(words))
    found = bertjax.tag(new_task_model("tagging", labels, max_length=40), tokenizer, "Ada  Lovelace in\nLondon")
    assert [(one.text, one.first_word, one.last_word) for one in found.entities] == [
        ("Ada  Lovelace", 0, 1),
        ("London", 3, 3),
    ]
    bare = all(len(tag) == 1 for tag in tags)
    assert [one.type for one in found.entities] == (["_", "_"] if bare else ["PER", "LOC"])
