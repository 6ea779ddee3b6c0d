import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.text.vocabulary import train_tokenizer
from bertjax.text.words import encode_words, split_words

TEXTS = ["The cat sat on the mat.", "Naïve cafés, 日本 3.14 don't"] * 5
ODD = list("aZ09 éİß日本🙂👩‍👩‍👧🇫🇷\u0301\u200b\u200d\ufeff\ufe0f\u00ad\u00a0\u3000\t\n\r'\"-.,$€+^`|~（）。\x00\x07")


@pytest.fixture(scope="module", params=["wordpiece", "sentencepiece"])
def tokenizer(request):
    return train_tokenizer(request.param, TEXTS, 300, lowercase=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t\u200b", []),
        ("The cat's mat.", ["The", "cat", "'", "s", "mat", "."]),
        ("a,b  c\nd\u00a0e\u3000f", ["a", ",", "b", "c", "d", "e", "f"]),
        ("3.14 $5 a+b x_y €9", ["3", ".", "14", "$", "5", "a", "+", "b", "x", "_", "y", "€9"]),
        ("日本語 is 日本.", ["日", "本", "語", "is", "日", "本", "."]),
        ("cafe\u0301s. e\u0301", ["cafe\u0301s", ".", "e\u0301"]),
        ("\u200bzero\u200bwidth\u200b", ["zero\u200bwidth"]),
        ("soft\u00adhyphen\u00ad!", ["soft\u00adhyphen", "!"]),
        ("👩‍👩‍👧 x", ["👩‍👩‍👧", "x"]),
        ("❤\ufe0f!\ufe0f?", ["❤\ufe0f", "!\ufe0f", "?"]),
        ("İstanbul", ["İstanbul"]),
        ("\u0301a", ["\u0301a"]),
        ("。\u200b日", ["。", "日"]),
    ],
)
def test_words(text, words):
    assert [text[begin:end] for begin, end in split_words(text)] == words


@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.text(st.sampled_from(ODD)), st.text()))
def test_words_are_in_order_with_nothing_visible_between_them(text):
    at = 0
    for begin, end in [*split_words(text), (len(text), len(text))]:
        assert at <= begin <= end
        between = text[at:begin]
        assert all(c.isspace() or unicodedata.category(c)[0] == "C" for c in between)
        assert text[begin:end] == text[begin:end].strip()
        at = end


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from([c for c in ODD if c.isspace() or c.isprintable()])))
def test_the_pieces_of_the_words_are_those_of_the_text(text):
    """In WordPiece, if cleaning removes no whole word."""
    tokenizer = train_tokenizer("wordpiece", TEXTS, 200, lowercase=True)
    text = text.replace("\u0301", "").replace("\ufe0f", "")
    words = [text[begin:end] for begin, end in split_words(text)]
    pieces = [piece for word in encode_words(tokenizer, words) for piece in word]
    assert pieces == tokenizer.encode(text)


def test_every_word_has_a_piece(tokenizer):
    words = ["the", "", "\u200b", "the", "\u0301", " "]
    pieces = encode_words(tokenizer, words)
    assert all(pieces) and pieces[0] == pieces[3] == tokenizer.encode("the")
    assert pieces[1] == [tokenizer.unk_id]
    assert encode_words(tokenizer, []) == []
