"""Ids in many languages: those of a vocabulary that is learned here, and of ``AutoTokenizer`` of its folder."""

from __future__ import annotations

import itertools
import json
import lzma
import os
from pathlib import Path

import pytest

from bertjax.text.sentences import split_sentences
from bertjax.text.vocabulary import train_tokenizer

transformers = pytest.importorskip("transformers")

REAL = os.environ.get("BERTJAX_REAL_DATA")
TEXTS = {
    "hi": "कुत्ता घर में सो रहा है। बिल्ली दूध पी रही है।",
    "th": "ที่นี่ไม่มีใครอยู่บ้าน น้ำใจ",
    "ja": "ガラスのびんが、ﾃｰﾌﾞﾙにあります。か\u3099",
    "ru": "Ёжик живёт в лесу, а мой край далёк. ЙОД и\u0306",
    "tr": "IĞDIR'da İzmir'den I\u0307lk i\u0307lk I\u0307\u0307 i\u0307\u0307 ışık; DİYARBAKIR şiş ﬁ Ｉ",
    "ko": "개가 집에서 자고 있다. \u1112\u1161\u11ab",
    "ar": "مَرْحَبًا بِكُمْ فِي البَيْتِ",
    "fr": "L'ÉLÈVE a été à la forêt, où le maïs naît.",
    "de": "DIE SCHÖNE STRASSE führt über den Fluß.",
    "el": "Ο ΣΚΎΛΟΣ κοιμάται στο σπίτι, ὦ ἄνδρες. Ὀδυσσεύς",
    "vi": "Người ta thường NÓI như vậy với những người mới.",
}
NAMED = {"tr": ("tr", None), "de": ("de", None)}
KINDS = (("wordpiece", ""), ("sentencepiece", "unigram"), ("sentencepiece", "bpe"))


def real_sentences(code: str) -> list[str]:
    path = Path(REAL or "/nonexistent") / "languages" / f"{code}.jsonl.xz"
    if not path.is_file():
        return []
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        texts = (json.loads(line)["text"] for line in itertools.islice(lines, 150))
        return list(itertools.islice((s for text in texts for s in split_sentences(text)), 1_000))


@pytest.mark.parametrize(("kind", "model_type"), KINDS, ids=["wordpiece", "unigram", "bpe"])
@pytest.mark.parametrize("code", TEXTS)
def test_transformers_gives_the_same_ids(code, kind, model_type, tmp_path):
    real = real_sentences(code)
    texts = [TEXTS[code], TEXTS["fr"], TEXTS["tr"], *real]
    for language in NAMED.get(code, (None,)):
        folder = tmp_path / str(language)
        tokenizer = train_tokenizer(kind, [TEXTS[code]] * 9 + real[::4], 900, True, model_type, language=language)
        tokenizer.save(folder)
        peer = transformers.AutoTokenizer.from_pretrained(folder)
        theirs = peer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        different = [t for t, a, b in zip(texts, tokenizer.encode_batch(texts), theirs, strict=True) if a != b]
        assert not different, f"{len(different)} of {len(texts)}, the first: {different[0]!a}"
        pair = peer(texts[0], texts[1])
        first, second = tokenizer.encode_batch(texts[:2])
        sep = tokenizer.sep_id
        assert pair["input_ids"] == [tokenizer.cls_id, *first, sep, *second, sep]
        assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
