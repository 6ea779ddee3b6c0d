"""Where words begin: shown by the pieces if they can, else by the library."""

import json

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from bertjax.text.json_tokenizer import JsonTokenizer
from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer
from bertjax.text.vocabulary import train_tokenizer
from bertjax.text.word_boundaries import boundaries_of
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceRules, WordPieceTokenizer

TEXTS = [
    "The river speaks of undiscovered countries, again.",
    "中国人民在河边说话。",
    "Mixed 中国 words中and คนไทยพูดไทย numbers 12,345.67 here",
    "カタカナとひらがなの言葉です。",
    "don't re-enter (the house) at 10:30!",
    "  two  spaces ",
    "",
    "한국어는 낱말을 띄어 쓴다",
]


def learned(model, trainer, pre_tokenizer, normalizer=None):
    """A tokenizer.json that the library learned on the texts."""
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        library.normalizer = normalizer
    library.train_from_iterator(TEXTS * 3, trainer)
    return JsonTokenizer(json.loads(library.to_str()), {})


def bpe(pre_tokenizer, normalizer=None, size=420, **more):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(WORDPIECE_SPECIALS), show_progress=False, **more)
    return learned(models.BPE(unk_token="[UNK]"), trainer, pre_tokenizer, normalizer)


def byte_level():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), initial_alphabet=alphabet)


def words_of(tokenizer, text) -> list[list[str]]:
    """Pieces, grouped by word."""
    ids, starts = tokenizer.encode_with_word_starts([text])
    assert ids == tokenizer.encode_batch([text])
    found = []
    for token, first in zip(ids[0], starts, strict=True):
        if first:
            found.append([])
        found[-1].append(tokenizer.token(token))
    return found


def test_words_of_byte_level_bpe_are_those_of_its_pre_tokenizer():
    tokenizer = byte_level()
    assert tokenizer.word_boundaries() is None
    assert ["".join(word) for word in words_of(tokenizer, "rivers, again!")] == ["rivers", ",", "Ġagain", "!"]
    # Pieces of three bytes: each Chinese or Thai character that no piece joins to another is a word.
    assert [len(word) for word in words_of(tokenizer, "鑫鑫")] == [3, 3]
    assert len(words_of(tokenizer, "人中民国")) == len("人中民国")
    assert len(words_of(tokenizer, "ไทยพูดคน")) > 3


def test_words_of_a_pre_tokenizer_without_marks():
    tokenizer = bpe(pre_tokenizers.Whitespace(), size=60)
    assert tokenizer.word_boundaries() is None
    assert not tokenizer.continues_word().any()  # no piece shows it
    text = "the river, speaks"
    assert ["".join(word) for word in words_of(tokenizer, text)] == ["the", "river", ",", "speaks"]
    assert max(map(len, words_of(tokenizer, text))) > 1


def test_without_a_pre_tokenizer_words_begin_at_white_space():
    # As in models whose normalizer writes the mark: no text is split before the model.
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = bpe(None, normalizer, size=70)
    assert tokenizer.word_boundaries() is None
    words = ["".join(word).replace("▁", "") for word in words_of(tokenizer, "river speaks countries")]
    assert "".join(words) == "riverspeakscountries" and len(words) >= 2


@pytest.mark.parametrize("chinese", [True, False])
@pytest.mark.parametrize("kind", ["bert", "metaspace"])
def test_pieces_show_the_words_of_the_library(kind, chinese):
    """Marks of pieces against the library's words, over all the texts."""
    if kind == "bert":
        trained = train_tokenizer("wordpiece", TEXTS, 300, lowercase=False)
        tokens = [trained.token(i) for i in range(trained.vocab_size)]
        tokenizer = WordPieceTokenizer(tokens, False, rules=WordPieceRules(handle_chinese_chars=chinese))
    else:
        tokenizer = bpe(pre_tokenizers.Metaspace(prepend_scheme="always"), size=130)
    marks = tokenizer.word_boundaries()
    ids, starts = tokenizer.encode_with_word_starts(TEXTS)
    told = []
    for sentence in filter(None, ids):
        begins = marks.begins[sentence]
        begins[1:] |= marks.ends[sentence[:-1]]
        begins[0] = True
        told += begins.tolist()
    unknown = np.array([token == tokenizer.unk_id for sentence in ids for token in sentence])
    near = unknown | np.append(False, unknown[:-1])  # an unknown piece shows nothing about its characters
    assert (starts == told)[~near].all()
    assert 0.3 < starts.mean() < 1 and (~near).mean() > 0.8


def test_chinese_characters_are_words_in_sentencepiece():
    texts = [*TEXTS, *("中国人民在河边说话" * 3 for _ in range(30)), *(["人中民国"] * 30)]
    tokenizer = train_tokenizer("sentencepiece", texts, 320, lowercase=True)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    marks = tokenizer.word_boundaries()
    ids = tokenizer.encode("民人国中人民")
    assert len(ids) > 3 and tokenizer.token(ids[0]).startswith("▁")
    own = [i for i in ids if tokenizer.token(i) != "▁" and not tokenizer.token(i).startswith("<0x")]
    assert len(own) > 2 and marks.begins[own].all() and marks.ends[own].all()
    ids = tokenizer.encode("rivers")
    assert len(ids) > 1 and marks.begins[ids].tolist() == [True] + [False] * (len(ids) - 1)
    assert not marks.ends[ids].any()


def test_single_bytes_and_neighbours_of_chinese_characters():
    pieces = ["▁a", "b", "国", "国b", "b国", "<0xE4>", "<0xB8>", "<0xC3>", "[MASK]"]
    continues = np.array([False, True, True, True, True, True, True, True, False])
    marks = boundaries_of(pieces, lambda piece: piece.strip("▁"), continues)
    assert marks.begins.tolist() == [True, False, True, True, False, True, False, False, True]
    assert marks.ends.tolist() == [False, False, True, False, True, False, False, False, False]


def test_a_prefix_that_begins_words_shows_nothing():
    tokens = [*WORDPIECE_SPECIALS, "a", "b", "c", "ab"]
    tokenizer = WordPieceTokenizer(tokens, rules=WordPieceRules(continuing_subword_prefix=""))
    assert tokenizer.word_boundaries() is None
    assert words_of(tokenizer, "abc ca") == [["ab", "c"], ["c", "a"]]
