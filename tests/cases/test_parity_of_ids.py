"""Ids of what bertjax trains and exports against those of ``transformers``, for every sentence of thirteen languages,
alone and in pairs: none may differ. Real data is needed."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from bertjax.text.sentences import split_sentences
from bertjax.text.tokenizer import Tokenizer, load_tokenizer
from bertjax.text.vocabulary import train_tokenizer

transformers = pytest.importorskip("transformers")

REAL = Path(os.environ.get("BERTJAX_REAL_DATA") or "/nonexistent")
LANGUAGES = ("ar", "de", "en", "fa", "fr", "hi", "ja", "ko", "ru", "th", "tr", "uk", "zh")
KINDS = (("wordpiece", "unigram"), ("sentencepiece", "unigram"), ("sentencepiece", "bpe"))
# lowercase, strip_accents (None: decided from the text).
CLEANINGS = {"cased": (False, None), "uncased": (True, None), "stripped": (True, True), "marked": (True, False)}
# What "uncased" is decided to be is one of the other two.
DEEP = ["cased", "stripped", "marked"]
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="BERTJAX_REAL_DATA is not set")


def gold(language: str) -> list[str]:
    """The sentences of ``sentences/``."""
    with lzma.open(REAL / "sentences" / f"{language}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [sentence for line in lines for sentence in json.loads(line)["sentences"]]


def prose(path: Path) -> list[str]:
    """The sentences of a file of ``languages/``."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [sentence for line in lines for sentence in split_sentences(json.loads(line)["text"])]


def check(tokenizer: Tokenizer, texts: Sequence[str], folder: Path) -> int:
    """Compares every text alone, and some with the next as a pair, also as read again; returns how many."""
    tokenizer.save(folder)
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = tokenizer.encode_batch(texts)
    assert load_tokenizer(folder).encode_batch(texts[::9]) == ours[::9]
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    theirs = peer(list(texts), truncation=False, verbose=False)
    different = [text for text, a, b in zip(texts, ours, theirs["input_ids"], strict=True) if [cls, *a, sep] != b]
    assert not different, f"{len(different)} of {len(texts)} differ, the first: {different[0]!a}"
    pairs = peer(list(texts[:-1:9]), list(texts[1::9]), truncation=False, verbose=False)
    together = zip(ours[:-1:9], ours[1::9], pairs["input_ids"], pairs["token_type_ids"], strict=True)
    for a, b, ids, types in together:
        assert ids == [cls, *a, sep, *b, sep]
        assert types == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    return len(texts) + len(pairs["input_ids"])


def compare(texts: Sequence[str], size: int, folder: Path, cleanings: Sequence[str], language: str | None) -> int:
    compared = 0
    for kind, model_type in KINDS:
        for name in cleanings:
            lowercase, strip = CLEANINGS[name]
            tokenizer = train_tokenizer(kind, texts, size, lowercase, model_type, strip, language)
            compared += check(tokenizer, texts, folder / f"{kind}-{model_type}-{name}")
    return compared


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_gold_sentences(language, tmp_path):
    named = "tr" if language == "tr" else None
    assert compare(gold(language)[:200], 1000, tmp_path, ["cased", "uncased"], named) > 1200


def test_a_vocabulary_of_all_languages(tmp_path):
    texts = [sentence for language in LANGUAGES for sentence in gold(language)[:40]]
    assert compare(texts, 4000, tmp_path, ["cased", "uncased"], None) > 3000


@pytest.mark.slow
@pytest.mark.parametrize("language", [*LANGUAGES, "th_news"])
def test_every_sentence(language, tmp_path):
    """Prints how many comparisons it was."""
    texts = [] if language == "th_news" else gold(language)
    files = [path for path in [REAL / "languages" / f"{language}.jsonl.xz"] if path.is_file()]
    texts += [sentence for path in files for sentence in prose(path)]
    compared = compare(texts, 8000, tmp_path, DEEP, None)
    if language == "tr":
        compared += compare(texts, 8000, tmp_path / "named", ["uncased", "marked"], "tr")
    print(f"{language}: {len(texts):,} sentences, {compared:,} comparisons, 0 differ")


@pytest.mark.slow
def test_every_gold_sentence_by_a_vocabulary_of_all_languages(tmp_path):
    texts = [sentence for language in LANGUAGES for sentence in gold(language)]
    compared = compare(texts, 30_000, tmp_path, DEEP, None)
    print(f"all: {len(texts):,} sentences, {compared:,} comparisons, 0 differ")
