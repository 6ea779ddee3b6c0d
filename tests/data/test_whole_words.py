"""Whole-word masking on text of every kind: words are masked together, and as many tokens as without it."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.data.corpus import prepared as corpora
from bertjax.data.corpus.building import corpus_of_documents
from bertjax.data.corpus.sources import TextList
from bertjax.data.stream.cursor import Cursor
from bertjax.data.stream.masking import TokenFacts, check_words, share_in_words
from bertjax.data.stream.pipeline import RowStream
from bertjax.data.stream.settings import ExampleSettings
from bertjax.data.stream.whole_words import MOST_PIECES, bits_at, without_long_words
from bertjax.errors import ConfigError, DataError
from bertjax.objectives.masked_batches import masked_batches
from bertjax.objectives.registry import find_objective
from bertjax.text.json_tokenizer import JsonTokenizer
from bertjax.text.sentences import split_sentences
from bertjax.text.vocabulary import train_tokenizer
from bertjax.text.wordpiece import WORDPIECE_SPECIALS

MLM = find_objective("mlm").maker
NSP = find_objective("mlm_nsp").maker

RANDOM = random.Random(7)


def some(letters: str, low: int, high: int) -> str:
    return "".join(RANDOM.choice(letters) for _ in range(RANDOM.randint(low, high)))


def sentences(word, joint: str, end: str) -> list[list[str]]:
    """80 documents of 8 sentences of 5 to 20 words."""
    return [[joint.join(word() for _ in range(RANDOM.randint(5, 20))) + end for _ in range(8)] for _ in range(80)]


CHINESE = "".join(map(chr, range(0x4E00, 0x4E80)))
THAI = "".join(map(chr, range(0x0E01, 0x0E2F)))
KANA = "".join(map(chr, range(0x3042, 0x3090)))
ROOTS = [some("abcdefghijklmnoprstuvwz", 3, 9) for _ in range(400)]
MADE = {
    "zh": sentences(lambda: some(CHINESE, 1, 4), "", "。"),
    "th": sentences(lambda: some(THAI, 2, 7), "", " "),
    "ja": sentences(lambda: some(CHINESE, 1, 2) + some(KANA, 1, 12), "", "。"),
    "de": sentences(lambda: "".join(RANDOM.choices(ROOTS, k=RANDOM.choice([1, 1, 2, 3]))), " ", "."),
    "protein": sentences(lambda: some("ACDEFGHIKLMNPQRSTVWY", 4, 5), "", ""),
    "long words": sentences(lambda: some("abcdefgh", 5, 7), " ", ""),
}
KINDS = ["wordpiece", "sentencepiece", "byte_level", "whitespace"]


def tokenizer_of(kind: str, documents: list[list[str]], size: int):
    texts = [sentence for document in documents for sentence in document]
    if kind in ("wordpiece", "sentencepiece"):
        return train_tokenizer(kind, texts, size, lowercase=True)
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    library = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    splits = {"byte_level": pre_tokenizers.ByteLevel(add_prefix_space=False), "whitespace": pre_tokenizers.Whitespace()}
    library.pre_tokenizer = splits[kind]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "byte_level" else []
    library.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(WORDPIECE_SPECIALS), initial_alphabet=alphabet, show_progress=False
        ),
    )
    return JsonTokenizer(json.loads(library.to_str()), {})


def epoch(corpus, tokenizer, settings):
    """All rows of an epoch as one batch."""
    stream = RowStream(corpus, TokenFacts.of(tokenizer), [settings], 0, 0)
    rows = len(stream.plan(Cursor()))
    return stream.read(Cursor(), rows, np.arange(rows))[0][0]


def masked_places(batch) -> np.ndarray:
    masked = np.zeros(batch["input_ids"].shape, bool)
    row, slot = np.nonzero(batch["masked_lm_weights"])
    masked[row, batch["masked_lm_positions"][row, slot]] = True
    return masked


def check_rate(corpus, tokenizer, settings):
    """Exactly as many tokens as without whole words, in each row; and that is masked_lm_prob of them."""
    whole = replace(settings, whole_word_masking=True)
    batch, single = epoch(corpus, tokenizer, whole), epoch(corpus, tokenizer, settings)
    count = batch["masked_lm_weights"].sum(1)
    assert count.tolist() == single["masked_lm_weights"].sum(1).tolist()
    tokens = (batch["example_ids"] > 0).sum(1)
    if settings.max_examples_per_row == 1:
        assert count.tolist() == [min(20, max(1, round(n * 0.15))) for n in tokens.tolist()]
    else:  # rounded once a row, up or down
        assert abs(count.sum() - 0.15 * tokens.sum()) < 4 * np.sqrt(len(tokens) / 4)
        assert (abs(count - 0.15 * tokens) < 1).all()
    assert count[tokens > 20].min() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MADE)
def test_as_many_are_masked_as_without_whole_words(name, kind):
    documents = MADE[name]
    tokenizer = tokenizer_of(kind, documents, 400)
    corpus = corpus_of_documents(documents, tokenizer)
    assert corpus.num_tokens > 3000
    check_rate(corpus, tokenizer, ExampleSettings(NSP, max_examples_per_row=1))
    check_rate(corpus, tokenizer, ExampleSettings(MLM))


REAL = Path(os.environ.get("BERTJAX_REAL_DATA") or "/nonexistent") / "languages"


@pytest.mark.skipif(not REAL.is_dir(), reason="BERTJAX_REAL_DATA names no folder with languages/")
@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
@pytest.mark.parametrize("name", ["zh", "th", "ja", "de"])
def test_as_many_are_masked_as_without_whole_words_in_real_text(name, kind):
    import lzma

    with lzma.open(REAL / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
        documents = [split_sentences(json.loads(line)["text"]) for _, line in zip(range(60), file, strict=False)]
    tokenizer = tokenizer_of(kind, documents, 5000 if name in ("zh", "ja") else 2000)
    corpus = corpus_of_documents(filter(None, documents), tokenizer)
    check_rate(corpus, tokenizer, ExampleSettings(NSP, max_examples_per_row=1))
    check_rate(corpus, tokenizer, ExampleSettings(MLM))


def test_words_are_masked_together_but_for_one_of_an_example_that_has_no_shorter():
    documents = MADE["de"]
    tokenizer = tokenizer_of("whitespace", documents, 400)
    corpus = corpus_of_documents(documents, tokenizer)
    settings = ExampleSettings(MLM, max_examples_per_row=1, whole_word_masking=True)
    stream = RowStream(corpus, TokenFacts.of(tokenizer), [settings], 0, 0)
    plan = stream.plan(Cursor())
    ((batch, _),) = stream.read(Cursor(), len(plan), np.arange(len(plan)))
    masked = masked_places(batch)
    starts = bits_at(corpus.word_starts, np.arange(corpus.num_tokens))
    together = several = 0
    for row, example in enumerate(plan.rows.examples):
        begin, size = plan.examples.a_start[example], plan.examples.a_length[example]
        begins = starts[begin : begin + size].copy()
        begins[0] = True
        words = np.cumsum(without_long_words(begins)) - 1
        pieces, hidden = np.bincount(words), np.bincount(words, weights=masked[row, 1 : 1 + size])
        parts = (hidden > 0) & (hidden < pieces)
        assert parts.sum() <= 1
        several += (pieces > 1).sum()
        together += ((hidden == pieces) & (pieces > 1)).sum()
    assert several > 1000 and 0.08 * several < together < 0.25 * several


def test_a_word_of_many_pieces_is_masked_piece_by_piece():
    begins = np.zeros(MOST_PIECES * 2 + 3, bool)
    begins[[0, 1, 1 + MOST_PIECES]] = True
    expected = begins.copy()
    expected[1 + MOST_PIECES :] = True  # one piece more
    assert without_long_words(begins.copy()).tolist() == expected.tolist()


@pytest.mark.parametrize("name,kind", [("protein", "sentencepiece"), ("th", "wordpiece"), ("zh", "wordpiece")])
def test_an_option_without_effect_is_refused(name, kind):
    documents = MADE[name]
    tokenizer = tokenizer_of(kind, documents, 400)
    texts = ["\n".join(document) for document in documents]
    with pytest.raises(ConfigError, match=r"^whole_word_masking has no effect: .* leave it out$") as error:
        masked_batches(texts, tokenizer, whole_word_masking=True)
    assert "\n" not in str(error.value)
    assert next(masked_batches(texts, tokenizer))["masked_lm_weights"].any()


def test_an_option_with_little_effect_is_told():
    documents = [*MADE["zh"], MADE["de"][0][:2]]
    tokenizer = tokenizer_of("wordpiece", MADE["zh"] + MADE["de"], 400)
    corpus = corpus_of_documents(documents, tokenizer)
    settings = ExampleSettings(MLM, whole_word_masking=True)
    assert 0 < share_in_words(corpus, tokenizer, settings) < 0.01
    (line,) = check_words(corpus, tokenizer, settings, "data.whole_word_masking")
    assert line.startswith("data.whole_word_masking does little: 0.")
    assert not check_words(corpus, tokenizer, replace(settings, whole_word_masking=False), "")


def test_batches_of_texts_have_whole_words():
    texts = [" ".join(document) for document in MADE["de"]]
    tokenizer = tokenizer_of("whitespace", MADE["de"], 400)
    whole, single = (
        list(masked_batches(texts, tokenizer, whole_word_masking=on, batch_size=8)) for on in (True, False)
    )
    assert any((a["masked_lm_positions"] != b["masked_lm_positions"]).any() for a, b in zip(whole, single, strict=True))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A corpus prepared with a tokenizer whose pieces do not tell where words begin."""
    folder = tmp_path_factory.mktemp("words")
    tokenizer_of("whitespace", MADE["de"], 400).save(folder / "tokenizer")
    texts = [" ".join(document) for document in MADE["de"]]
    return corpora.prepare([TextList(texts)], folder / "corpus", tokenizer=folder / "tokenizer"), folder


def test_a_prepared_corpus_keeps_where_words_begin(prepared):
    corpus, _ = prepared
    for split in (corpus.train, corpus.held_out):
        starts = bits_at(split.word_starts, np.arange(split.num_tokens))
        begin = 0
        for size in split.sentence_lengths.tolist():
            ids = split.tokens[begin : begin + size]
            words = np.split(ids, np.flatnonzero(starts[begin : begin + size])[1:])
            told = ["".join(corpus.tokenizer.token(i) for i in word) for word in words]
            (again, first) = corpus.tokenizer.encode_with_word_starts([" ".join(told)])
            assert again[0] == ids.tolist() and first.tolist() == starts[begin : begin + size].tolist()
            begin += size


def test_lost_words_are_damage(prepared, tmp_path):
    shutil.copytree(prepared[0].path, tmp_path / "c")
    (tmp_path / "c/index/train.word_starts.npy").unlink()
    with pytest.raises(DataError, match=r"train\.word_starts\.npy is missing; prepare it again"):
        corpora.open_prepared(tmp_path / "c")


def test_tokenizers_whose_pieces_tell_need_no_record(tmp_path):
    texts = [" ".join(document) for document in MADE["de"]]
    corpus = corpora.prepare([TextList(texts)], tmp_path / "c", vocab_size=400)
    assert corpus.train.word_starts is None and not list(corpus.path.rglob("*word_starts*"))
    assert share_in_words(corpus.train, corpus.tokenizer, ExampleSettings(NSP, whole_word_masking=True)) > 0.1


def test_a_corpus_of_before_is_refused_for_whole_words_alone(prepared, tmp_path, monkeypatch):
    """And prepared again into another folder, as the line says, it does."""
    _, folder = prepared
    texts = [" ".join(document) for document in MADE["de"]]
    with monkeypatch.context() as before:
        told = TokenFacts.of(tokenizer_of("wordpiece", MADE["de"], 400)).marks
        before.setattr(JsonTokenizer, "word_boundaries", lambda self: told)
        old = corpora.prepare([TextList(texts)], tmp_path / "old", tokenizer=folder / "tokenizer")
    assert old.train.word_starts is None
    settings = ExampleSettings(MLM, whole_word_masking=True)
    with pytest.raises(DataError, match="prepare the text again into another folder, or leave"):
        epoch(old.train, old.tokenizer, settings)
    assert epoch(old.train, old.tokenizer, replace(settings, whole_word_masking=False))["masked_lm_weights"].any()
    assert epoch(old.train, old.tokenizer, replace(settings, order=1))["masked_lm_weights"].any()
    again = corpora.prepare([TextList(texts)], tmp_path / "new", tokenizer=folder / "tokenizer")
    assert epoch(again.train, again.tokenizer, settings)["masked_lm_weights"].any()
