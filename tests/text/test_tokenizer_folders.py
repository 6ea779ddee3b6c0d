"""Which file of a folder is read, and what the other files decide."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from bertjax.errors import ConfigError
from bertjax.text.json_tokenizer import JsonTokenizer
from bertjax.text.tokenizer import SentencePieceTokenizer, WordPieceTokenizer, load_tokenizer
from bertjax.text.vocabulary import train_tokenizer

TEXTS = ["The cat sat on the mat.", "Café owners in Zürich were naïve.", "我 love 漢字 and 3.14 emoji 🙂."] * 5


@pytest.fixture(scope="module")
def wordpiece():
    return train_tokenizer("wordpiece", TEXTS, 150, False)


@pytest.fixture(scope="module")
def sentencepiece():
    return train_tokenizer("sentencepiece", TEXTS, 330, False)


def edit(path: Path, **changes) -> None:
    """Sets keys of a JSON object; ``...`` removes one."""
    value = json.loads(path.read_bytes()) if path.exists() else {}
    value |= changes
    path.write_text(json.dumps({key: entry for key, entry in value.items() if entry is not ...}))


def test_the_order_of_preference(wordpiece, sentencepiece, tmp_path):
    sentencepiece.save(tmp_path)
    (tmp_path / "z.model").write_bytes((tmp_path / "spiece.model").read_bytes())
    (tmp_path / "vocab.txt").write_text("damaged")
    assert isinstance(load_tokenizer(tmp_path), SentencePieceTokenizer)
    (tmp_path / "spiece.model").unlink()
    assert isinstance(load_tokenizer(tmp_path), JsonTokenizer)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("".join(f"{wordpiece.token(i)}\n" for i in range(wordpiece.vocab_size)))
    assert load_tokenizer(tmp_path).fingerprint == wordpiece.fingerprint
    (tmp_path / "vocab.txt").unlink()
    assert load_tokenizer(tmp_path).fingerprint == sentencepiece.fingerprint


def test_a_model_with_other_ids_needs_its_json(sentencepiece, tmp_path):
    sentencepiece.save(tmp_path)
    (tmp_path / "spiece.model").rename(tmp_path / "sentencepiece.bpe.model")
    assert isinstance(load_tokenizer(tmp_path), JsonTokenizer)
    (tmp_path / "tokenizer.json").unlink()
    for path in (tmp_path, tmp_path / "sentencepiece.bpe.model"):
        with pytest.raises(
            ConfigError, match=r"sentencepiece\.bpe\.model numbers its pieces otherwise.*tokenizer\.json"
        ):
            load_tokenizer(path)


def test_a_json_alone_knows_its_casing(wordpiece, tmp_path):
    wordpiece.save(tmp_path)
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).unlink()
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        again = load_tokenizer(path, lowercase=True)
        assert isinstance(again, WordPieceTokenizer) and again.fingerprint == wordpiece.fingerprint
    model = json.loads((tmp_path / "tokenizer.json").read_bytes())["model"]
    edit(tmp_path / "tokenizer.json", model={key: value for key, value in model.items() if key != "type"})
    assert load_tokenizer(tmp_path).fingerprint == wordpiece.fingerprint


def test_tokenizer_config_overrides_the_json(wordpiece, tmp_path):
    wordpiece.save(tmp_path)
    edit(tmp_path / "tokenizer_config.json", do_lower_case=True)
    assert load_tokenizer(tmp_path).lowercase
    # A class that uses the file as it stands.
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert not load_tokenizer(tmp_path).lowercase
    edit(tmp_path / "tokenizer_config.json", tokenizer_class=..., do_lower_case=...)
    assert not load_tokenizer(tmp_path).lowercase


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("entry", ["<hide>", {"content": "<hide>", "lstrip": True}])
def test_the_names_of_special_tokens(name, entry, wordpiece, tmp_path):
    tokens = [wordpiece.token(i) for i in range(wordpiece.vocab_size)]
    tokens[tokens.index("[unused0]")] = "<hide>"
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    edit(tmp_path / name, mask_token=entry)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.special_tokens()["mask"] == "<hide>" and tokenizer.mask_id == tokens.index("<hide>")
    tokenizer.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").mask_id == tokenizer.mask_id
    edit(tmp_path / name, mask_token="<other>")
    with pytest.raises(ConfigError, match="lacks the special tokens <other>"):
        load_tokenizer(tmp_path)


def test_truncation_and_padding_are_ignored(wordpiece, sentencepiece, tmp_path):
    for tokenizer in (wordpiece, sentencepiece):
        tokenizer.save(tmp_path)
        (tmp_path / "spiece.model").unlink(missing_ok=True)
        edit(
            tmp_path / "tokenizer.json",
            truncation={"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
            padding={
                "strategy": {"Fixed": 5},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            },
        )
        again = load_tokenizer(tmp_path)
        for text in ("cat", "the cat sat on the mat " * 50, ""):
            assert again.encode(text) == tokenizer.encode(text)
        again.save(tmp_path / "saved")
        saved = json.loads((tmp_path / "saved/tokenizer.json").read_bytes())
        assert saved["truncation"] is None and saved["padding"] is None


def test_rules_that_BertTokenizer_lacks_are_kept(wordpiece, tmp_path):
    wordpiece.save(tmp_path / "a")
    model = json.loads((tmp_path / "a/tokenizer.json").read_bytes())["model"]
    edit(tmp_path / "a/tokenizer.json", model={**model, "max_input_chars_per_word": 3})
    tokenizer = load_tokenizer(tmp_path / "a")
    assert isinstance(tokenizer, WordPieceTokenizer) and tokenizer.fingerprint != wordpiece.fingerprint
    assert tokenizer.encode("cats mat") == [tokenizer.unk_id, *wordpiece.encode("mat")]
    tokenizer.save(tmp_path / "b")
    assert (
        json.loads((tmp_path / "b/tokenizer_config.json").read_bytes())["tokenizer_class"] == "PreTrainedTokenizerFast"
    )
    assert load_tokenizer(tmp_path / "b").fingerprint == tokenizer.fingerprint


def test_accents_of_a_sentencepiece_model(sentencepiece, tmp_path):
    sentencepiece.save(tmp_path)
    edit(tmp_path / "tokenizer_config.json", do_lower_case=False, keep_accents=False)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("Café") == sentencepiece.encode("Cafe") != sentencepiece.encode("Café")
    assert tokenizer.fingerprint != sentencepiece.fingerprint
    tokenizer.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_json_decides_the_casing_of_a_sentencepiece_model(lowercase, tmp_path):
    tokenizer = train_tokenizer("sentencepiece", TEXTS, 330, lowercase)
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    again = load_tokenizer(tmp_path, lowercase=not lowercase)
    assert again.lowercase == lowercase


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_special_tokens_that_text_mentions_are_ordinary_text(model_type, tmp_path):
    """The library's unigram model has them among its pieces."""
    train_tokenizer("sentencepiece", TEXTS, 330, True, model_type).save(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    special = tokenizer.special_tokens()
    text = f"the {special['mask']} of {special['sep']}{special['cls']} {special['pad']}"
    assert not set(tokenizer.encode(text)) & set(tokenizer.special_ids)
    assert tokenizer.decode(tokenizer.encode(text)) == text.lower()
    ids = [tokenizer.cls_id, *tokenizer.encode("the cat"), tokenizer.mask_id, tokenizer.sep_id]
    assert tokenizer.decode(ids).replace(" ", "") == "[CLS]thecat[MASK][SEP]"


def test_bpe_dropout_is_ignored(tmp_path):
    train_tokenizer("sentencepiece", TEXTS, 330, True, "bpe").save(tmp_path)
    plain = load_tokenizer(tmp_path / "tokenizer.json")
    model = json.loads((tmp_path / "tokenizer.json").read_bytes())["model"]
    edit(tmp_path / "tokenizer.json", model={**model, "dropout": 0.5})
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.encode_batch(TEXTS) == plain.encode_batch(TEXTS) and again.fingerprint == plain.fingerprint


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece", "tokenizers"])
def test_tokenizers_can_be_pickled(kind, wordpiece, sentencepiece, tmp_path):
    sentencepiece.save(tmp_path)
    found = [wordpiece, sentencepiece, load_tokenizer(tmp_path / "tokenizer.json")]
    (tokenizer,) = (tokenizer for tokenizer in found if tokenizer.kind == kind)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode("a [MASK] Café") == tokenizer.encode("a [MASK] Café")
    assert tokenizer.mask_id not in again.encode("a [MASK] Café")


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
def test_which_pieces_are_special_is_in_the_fingerprint(kind, request, tmp_path):
    """Two files with different pieces as [CLS] and [SEP] make different rows of one text."""
    plain = request.getfixturevalue(kind)
    cls, sep = (plain.token(plain.token_id("[MASK]") + number) for number in (3, 4))
    plain.save(tmp_path / "plain")
    plain.save(tmp_path / "named")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        edit(tmp_path / "named" / name, cls_token=cls, sep_token=sep)
    (tmp_path / "named/tokenizer.json").unlink()
    named = load_tokenizer(tmp_path / "named")
    assert load_tokenizer(tmp_path / "plain").fingerprint == plain.fingerprint
    assert named.token(named.cls_id) == cls and named.fingerprint != plain.fingerprint
    assert not named.has_fingerprint(plain.fingerprint)
    named.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == named.fingerprint
