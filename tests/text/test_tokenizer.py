from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertjax.errors import ConfigError
from bertjax.text.sentencepiece_tokenizer import prepare_text
from bertjax.text.tokenizer import check_tokenizer, load_tokenizer
from bertjax.text.vocabulary import TextSample, train_tokenizer
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer

TEXTS = [
    "The cat sat on the mat, and the dog sat on the log.",
    "Café owners in Zürich were naïve; they said so twice.",
    "Numbers such as 3.14 and 2,718 are famous.",
    "Reading and writing and running and singing are fun.",
    "我 love 漢字 and emoji 🙂.",
] * 5
REAL = os.environ.get("BERTJAX_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="BERTJAX_REAL_DATA is not set")


def _tokenizers():
    for lowercase in (True, False):
        yield pytest.param(("wordpiece", "", lowercase), id=f"wordpiece-{lowercase}")
        for model_type in ("unigram", "bpe"):
            yield pytest.param(("sentencepiece", model_type, lowercase), id=f"{model_type}-{lowercase}")


@pytest.fixture(params=_tokenizers())
def tokenizer(request):
    kind, model_type, lowercase = request.param
    return train_tokenizer(kind, TEXTS, 400, lowercase, model_type)


def test_ids_and_text(tokenizer):
    ids = tokenizer.encode(TEXTS[0])
    assert ids == tokenizer.encode_batch([TEXTS[1], TEXTS[0]])[1]
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert not set(ids) & set(tokenizer.special_ids)
    expected = TEXTS[0].lower() if tokenizer.lowercase else TEXTS[0]
    assert tokenizer.decode(ids).replace(" ", "") == expected.replace(" ", "")
    assert [tokenizer.token_id(tokenizer.token(i)) for i in ids] == ids
    assert tokenizer.token_id("no such piece") is None
    assert tokenizer.encode("") == []


def test_special_tokens(tokenizer):
    assert tokenizer.pad_id == 0
    ids = [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    assert ids == [0, 1, 2, 3, 4]
    assert set(ids) <= set(tokenizer.special_ids)
    assert tokenizer.special_tokens()["mask"] == "[MASK]"
    assert "[MASK]" in tokenizer.decode([tokenizer.mask_id, *tokenizer.encode("cat")])


def test_names_of_special_tokens_in_text_are_ordinary_text(tokenizer):
    ids = tokenizer.encode("the [MASK] and [SEP] and [CLS] and [PAD]")
    assert not set(ids) & {tokenizer.mask_id, tokenizer.sep_id, tokenizer.cls_id, tokenizer.pad_id}


def test_continues_word(tokenizer):
    continues = tokenizer.continues_word()
    assert continues.shape == (tokenizer.vocab_size,) and continues.dtype == bool
    assert not continues[list(tokenizer.special_ids)].any()
    # As many pieces begin a word as there are words between white space and punctuation.
    ids = np.array(tokenizer.encode("cat sat mat singing"))
    assert int((~continues[ids]).sum()) == 4


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    # The folder knows about lowercasing; the argument is for bare files.
    again = load_tokenizer(tmp_path, lowercase=not tokenizer.lowercase)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert again.special_ids == tokenizer.special_ids


def test_the_file_for_transformers_gives_the_same_ids(tokenizer, tmp_path):
    from tokenizers import Tokenizer

    tokenizer.save(tmp_path)
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS[:5]:
        ids = tokenizer.encode(text)
        encoded = library.encode(text)
        assert encoded.ids == [tokenizer.cls_id, *ids, tokenizer.sep_id]
        pair = library.encode(text, "cat")
        assert pair.type_ids == [0] * (len(ids) + 2) + [1] * (len(pair.ids) - len(ids) - 2)
    assert tokenizer.mask_id in library.encode("the [MASK] sat").ids
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    classes = {"wordpiece": "BertTokenizer", "sentencepiece": "PreTrainedTokenizerFast"}
    assert config["tokenizer_class"] == classes[tokenizer.kind]
    assert config["do_lower_case"] is tokenizer.lowercase
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["cls_token"] == "[CLS]"


def test_training_is_deterministic_across_processes():
    """The library's trainer numbers pieces by a hash map with a new seed in every process."""
    program = (
        "import sys; from bertjax.text.vocabulary import train_tokenizer as t; texts = sys.stdin.read().split('\\n')\n"
        "for k, m in (('wordpiece', ''), ('sentencepiece', 'unigram'), ('sentencepiece', 'bpe')):\n"
        "    print(t(k, texts, 350, True, m).fingerprint)"
    )
    root = str(Path(__file__).parents[2])
    run = [
        subprocess.run(
            [sys.executable, "-c", program],
            input="\n".join(TEXTS),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(3)
    ]
    assert run[0] == run[1] == run[2] and run[0].count("\n") == 3


def test_wordpiece_lowercases_and_strips_accents():
    tokenizer = train_tokenizer("wordpiece", TEXTS, 400, True)
    assert tokenizer.encode("CAFÉ Zürich") == tokenizer.encode("cafe zurich")


@pytest.mark.parametrize(
    ("text", "lowercase", "expected"),
    [("``Hi'' Né", True, '"hi" ne'), ("``Hi'' Né", False, '"Hi" Né'), ("한글 İ", True, "한글 i")],
)
def test_prepare_text(text, lowercase, expected):
    assert prepare_text(text, lowercase) == expected


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_one_sentence_is_enough(kind, model_type):
    tokenizer = train_tokenizer(kind, ["One sentence is enough."], 8192, True, model_type)
    assert tokenizer.vocab_size <= 8192
    assert tokenizer.encode("One sentence is enough.")
    check_tokenizer(tokenizer, 8192, trained=True)


@pytest.mark.parametrize(("kind", "size"), [("wordpiece", 40), ("sentencepiece", 301)])
def test_never_larger_than_requested(kind, size):
    texts = [*TEXTS, "".join(chr(c) for c in range(0x4E00, 0x5200))]
    assert train_tokenizer(kind, texts, size, True).vocab_size <= size


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
def test_vocab_size_too_small(kind):
    with pytest.raises(ConfigError, match=r"config\.model\.vocab_size = 20 is too small"):
        train_tokenizer(kind, TEXTS, 20, True)


def test_wordpiece_is_filled_up_with_unused():
    tokenizer = train_tokenizer("wordpiece", TEXTS, 1000, True)
    assert tokenizer.vocab_size == 1000
    unused = tokenizer.token_id("[unused0]")
    assert unused is not None and unused in tokenizer.special_ids


def test_sample_is_bounded_and_does_not_depend_on_the_order():
    documents = [[f"document {i} " + "x" * 100] for i in range(200)]
    forward, backward = TextSample(2000), TextSample(2000)
    for document in documents:
        forward.add(document)
    for document in reversed(documents):
        backward.add(document)
    assert set(forward.sentences()) == set(backward.sentences())
    assert 0 < sum(map(len, forward.sentences())) <= 2000


def test_missing_special_tokens_are_named(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\nthe\n")
    with pytest.raises(ConfigError, match=r"lacks the special tokens .*\[SEP\].*\[MASK\]"):
        load_tokenizer(tmp_path / "vocab.txt")


def test_invalid_tokenizer_files(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"neither spiece\.model, tokenizer\.json nor vocab\.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "x.model").write_bytes(b"no model")
    with pytest.raises(ConfigError, match="not a valid SentencePiece model"):
        load_tokenizer(tmp_path / "x.model")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_tokenizer(tmp_path / "x.txt")


def test_vocab_size_must_match_the_config():
    tokenizer = WordPieceTokenizer([*WORDPIECE_SPECIALS, "a"])
    check_tokenizer(tokenizer, 6, trained=False)
    check_tokenizer(tokenizer, 7, trained=True)
    for size, trained in ((7, False), (5, False), (5, True)):
        with pytest.raises(ConfigError, match=rf"6 entries.*vocab_size = {size}; use --config\.model\.vocab_size=6"):
            check_tokenizer(tokenizer, size, trained=trained)


@needs_real_data
def test_berts_vocabulary():
    tokenizer = load_tokenizer(Path(REAL) / "tokenizers/bert_base_uncased_vocab.txt")
    assert tokenizer.vocab_size == 30522
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        *(0, 100, 101),
        *(102, 103),
    )
    # Ids as published with the model.
    assert tokenizer.encode("Hello, my dog is cute") == [7592, 1010, 2026, 3899, 2003, 10140]
    assert tokenizer.decode([7592, 1010, 2026, 3899]) == "hello, my dog"


@needs_real_data
def test_alberts_model(tmp_path):
    tokenizer = load_tokenizer(Path(REAL) / "tokenizers/albert_30k_spiece.model")
    assert tokenizer.vocab_size == 30000
    assert tokenizer.special_tokens() == {
        "pad": "<pad>",
        "unk": "<unk>",
        "cls": "[CLS]",
        "sep": "[SEP]",
        "mask": "[MASK]",
    }
    ids = tokenizer.encode("This is a Test")
    assert [tokenizer.token(i) for i in ids] == ["▁this", "▁is", "▁a", "▁test"]
    assert ids == [48, 25, 21, 1289]
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
