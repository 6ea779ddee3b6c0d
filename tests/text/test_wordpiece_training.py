"""Which characters a learned WordPiece vocabulary contains, and which of them as continuations."""

from __future__ import annotations

import itertools
import json
import lzma
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from bertjax.text.sentences import split_sentences
from bertjax.text.vocabulary import alphabet, count_characters, train_tokenizer

REAL = os.environ.get("BERTJAX_REAL_DATA")
CHINESE = ["今天天气很好，我们去公园散步。", "他在北京大学学习计算机科学。", "这本书是BERT的第3版，共256页。"]
TEXTS = {
    "Chinese": CHINESE,
    "Chinese and English": [*CHINESE, "The cat's co-author wrote 3.14 books; re-read it."],
    "Korean": ["개가 집에서 자고 있다.", "고양이는 우유를 마신다.", "집에 개가 있다."],
    "Hindi": ["कुत्ता घर में सो रहा है।", "बिल्ली दूध पी रही है।"],
    "punctuation": ["(a)b-c_d 'e' f/g@h.i", "x=y+z; 50%–60%", "«quoted» ‘so’ …and"],
    "rare": ["abc xyz ☃snow man☃ ab☃c", "zzz"],
}


def words(text: str):
    """The words of a lowercased text by BERT's rules: punctuation and Chinese characters stand alone."""
    alone = lambda c: (
        unicodedata.category(c)[0] == "P" or (c.isascii() and not c.isalnum()) or "\u4e00" <= c <= "\u9fff"
    )
    return "".join(f" {c} " if alone(c) else c for c in text.lower()).split()


def pieces(tokenizer):
    special = set(tokenizer.special_ids)
    return {tokenizer.token(i) for i in range(tokenizer.vocab_size) if i not in special}


@pytest.mark.parametrize("name", TEXTS)
def test_exactly_the_continuations_that_occur(name):
    texts = TEXTS[name] * 5
    found = {word for text in texts for word in words(text)}
    tokenizer = train_tokenizer("wordpiece", texts, 600, True)
    single = {piece for piece in pieces(tokenizer) if len(piece.removeprefix("##")) == 1}
    inside = {f"##{c}" for word in found for c in word[1:]}
    assert {piece for piece in single if piece.startswith("##") and piece != "##"} == inside
    assert single - inside >= {
        c for word in found for c in word
    }  # also of characters only seen inside: they may begin a word
    assert all(tokenizer.unk_id not in ids for ids in tokenizer.encode_batch(texts))
    if name == "Chinese":
        assert not any("\u4e00" <= c <= "\u9fff" for piece in inside for c in piece)


def test_equal_text_gives_an_equal_vocabulary_every_time():
    """The library's trainer numbers pieces by a hash map with a new seed every time."""
    texts = [text for texts in TEXTS.values() for text in texts] * 3
    assert len({train_tokenizer("wordpiece", texts, 700, True).fingerprint for _ in range(8)}) == 1


def large(rare: str = "") -> list[str]:
    """A text of 1,000 different characters, three times, and ``rare`` once."""
    common = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))
    return [common, rare, common, common]


def test_the_rarest_of_a_large_alphabet_are_unknown():
    tokenizer = train_tokenizer("wordpiece", large("龍"), 3000, True)
    assert tokenizer.encode("龍") == [tokenizer.unk_id] and tokenizer.token_id("\u4e00") is not None
    assert tokenizer.unk_id not in tokenizer.encode("".join(large()))
    everything = train_tokenizer("wordpiece", large("龍"), 3000, True, character_coverage=1.0)
    assert everything.token_id("龍") is not None
    less = train_tokenizer("wordpiece", large("龍"), 3000, True, character_coverage=0.9)
    assert sum(len(piece) == 1 for piece in pieces(less)) == pytest.approx(900, abs=2)


def test_a_small_alphabet_keeps_foreign_letters():
    foreign = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    texts = ["the quick brown fox jumps over the lazy dog " * 1000] * 30 + [foreign]
    assert set(foreign) <= pieces(train_tokenizer("wordpiece", texts, 3000, True))
    counts = count_characters(texts)
    assert len(alphabet(counts, None, has_bytes=False)) == len(counts) > 400
    assert len(alphabet(counts, None, has_bytes=True)) < 30  # SentencePiece spells the others
    assert len(alphabet(counts, 1.0, has_bytes=True)) == len(counts)
    assert len(alphabet(counts, 0.9, has_bytes=False)) < 26
    assert alphabet(count_characters([" \t", ""]), None, has_bytes=False) == []


@pytest.mark.parametrize("size", [32, 40, 100])
def test_at_least_half_of_a_small_vocabulary_is_left_for_longer_pieces(size):
    texts = ["".join(map(chr, range(0x4E00, 0x5200)))] + ["abab abab baba caca"] * 9
    tokenizer = train_tokenizer("wordpiece", texts, size, True)
    assert tokenizer.vocab_size == size
    assert sum(len(piece.removeprefix("##")) == 1 for piece in pieces(tokenizer)) <= (size - 5) // 2
    assert {"a", "b", "##a", "##b", "abab"} <= pieces(tokenizer)


@pytest.mark.skipif(not REAL, reason="BERTJAX_REAL_DATA is not set")
@pytest.mark.parametrize(("code", "dead"), [("zh", 0.03), ("ja", 0.07)])
def test_hardly_any_entry_is_never_used(code, dead):
    """Of 30,522; with two entries for every character it was 15.8 % of Chinese, 9.9 % of Japanese."""
    with lzma.open(Path(REAL) / "languages" / f"{code}.jsonl.xz", "rt", encoding="utf-8") as lines:
        texts = list(itertools.chain.from_iterable(split_sentences(json.loads(line)["text"]) for line in lines))
    tokenizer = train_tokenizer("wordpiece", texts, 30522, True)
    ids = np.concatenate([np.array(ids, int) for ids in tokenizer.encode_batch(texts)])
    used = np.bincount(ids, minlength=tokenizer.vocab_size) > 0
    used[list(tokenizer.special_ids)] = True
    assert (~used).mean() < dead
    assert (ids == tokenizer.unk_id).mean() < 0.002
