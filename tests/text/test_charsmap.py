"""The character map of a SentencePiece model against the normalizers of ``tokenizer.json`` that replace it, on texts of
everything that composes, joins or is deleted."""

from __future__ import annotations

import io
import random
import unicodedata

import pytest

from bertjax.text.charsmap import entries, mapping_steps, without
from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer
from bertjax.text.vocabulary import with_exact_scores

sentencepiece = pytest.importorskip("sentencepiece")
RULES = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf")


def train(rule: str, **options) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f g", "hello world ... and what more there is"] * 20),
        model_writer=model,
        vocab_size=options.pop("vocab_size", 40),
        hard_vocab_limit=False,
        normalization_rule_name=rule,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def map_of(model: bytes) -> bytes:
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto = messages.ModelProto()
    proto.ParseFromString(model)
    return proto.normalizer_spec.precompiled_charsmap


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return {rule: train(rule) for rule in RULES}


def written(characters: str) -> list[str]:
    return list(characters)


def block(first: int, last: int) -> list[str]:
    return [chr(code) for code in range(first, last)]


def pools(charsmap: bytes) -> list[list[str]]:
    # Without the additions of Unicode 16: the library composes as earlier versions do.
    found = [key for key in entries(charsmap) if all(unicodedata.category(c) != "Cn" for c in key)]
    return [
        [key for key in found if len(key) > 1],
        [key for key in found if len(key) == 1],
        list({character for key in found for character in key[1:]}),
        [c for c in block(0, 0x20000) if unicodedata.category(c)[0] == "M"],
        written("abcdeoisuAEIOSK \u200d\u200c\ufeff\ufffd\u2581\r\n\t\x00\x07\u0085\u00ad\u200b   "),
        block(0x300, 0x370),  # marks
        block(0x600, 0x6F0),  # Arabic
        block(0x900, 0x980),  # Devanagari
        block(0xE00, 0xE80),  # Thai
        block(0xF00, 0xFD0),  # Tibetan
        block(0x1100, 0x1200),  # halves of Hangul syllables
        block(0x1EA0, 0x1F00),  # Vietnamese
        block(0x3040, 0x3100),  # kana
        block(0xFB00, 0xFDD0),  # ligatures, Arabic forms; after them come the separators of maps that leave controls
        block(0xFF00, 0xFFF0),  # full and half width
        block(0x1F300, 0x1F650),  # emoji
    ]


@pytest.mark.parametrize("rule", RULES)
def test_normalizers_do_what_the_map_does(rule, models):
    from tokenizers import Regex, normalizers

    charsmap = map_of(models[rule])
    steps = mapping_steps(charsmap)
    assert steps is not None
    steps += [normalizers.Replace(Regex("  +"), " "), normalizers.Replace(Regex(r"\A | \z"), "")]
    ours = normalizers.Sequence(steps)
    theirs = sentencepiece.SentencePieceNormalizer(
        model_proto=models[rule], add_dummy_prefix=False, escape_whitespaces=False
    )
    pick, characters = random.Random(rule), pools(charsmap)
    if rule == "nmt_nfkc":  # the others leave controls, the first of which stand for separators, as they are
        characters.append(written("\x01\x02"))
    texts = [
        "".join(pick.choice(pick.choice(chosen)) for _ in range(pick.randint(1, 9)))
        for chosen in (pick.choices(characters, k=pick.randint(1, 4)) for _ in range(4000))
    ]
    if rule.endswith("_cf"):
        held = entries(charsmap)
        alone = {key: "".join(held.get(character, character) for character in key) for key in held if len(key) > 1}
        known = [key for key, parts in alone.items() if unicodedata.normalize("NFC", parts) != held[key]]
        assert len(known) < 1000  # Greek with an iota subscript, capital I with a dot
        texts = [text for text in texts if not any(key in text for key in known)]
        assert len(texts) > 3000
    different = [text for text in texts if ours.normalize_str(text) != theirs.normalize(text)]
    assert not different, f"{len(different)} differ, the first: {different[0]!a}"


TEXTS = {
    "marks of Arabic in two orders": "مُعَيَّن مُعَيَّن \u0644\u0651\u064e \u0644\u064e\u0651 \ufefb\u064e",
    "half width": "ﾊﾞｽ ｶﾞ ﾊﾟ ｳﾞ ﾞ ｱﾞ",
    "marks in odd order": "a\u0323\u0302 a\u0302\u0323 \u1ea1\u0302 s\u0307\u0323 q\u0307\u0323",
    "after a ligature": "\ufb01\u0323 \u0132\u0301 \u00bd\u0338 \uff21\u0301 \u2460\u20dd",
    "joiners": "\u00aa\u200d \u00b2\u200c \u00bc\u200d\u0301",
    "halves of syllables": "\u1112\u1161\u11ab \ud558\u11ab \u1112\uffc2 \u3131\u314f\u3134",
    "Tibetan and Devanagari": "\u0f73 \u0f71\u0f72 \u0f40\u0fb5 \u0928\u093c \u0915\u093c \u0958",
    "decomposed": unicodedata.normalize("NFD", "Việt Nam, Ångström, ḱṷṓn, 한글, ガギグ"),
    "controls": "\x01a\x01\u0301 \x02b\x02 c\x07\u0327",
    "a mark first": "\u0301a \u0327",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_ids_of_composing_characters(text, lowercase, models, tmp_path):
    """Through the whole tokenizer, in which every character has a piece or is spelled in bytes."""
    tokenizers = pytest.importorskip("tokenizers")
    model = train(
        "nmt_nfkc", vocab_size=400, byte_fallback=True, user_defined_symbols=["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    )
    tokenizer = SentencePieceTokenizer(model, lowercase, strip_accents=False)
    tokenizer.save(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert library.encode(text, add_special_tokens=False).ids == tokenizer.encode(text)


def test_entries_of_a_map():
    charsmap = map_of(train("nmt_nfkc"))
    found = entries(charsmap)
    assert len(found) > 200_000
    assert found["\uff21"] == "A" and found["\x07"] == "" and found["\t"] == " " and found["e\u0301"] == "\xe9"
    assert "e" not in found and "e\u0301\u0301" not in found
    fewer = entries(without(charsmap, "\x01\x07"))
    assert {key for key in found if key not in fewer} == {"\x01", "\x07"}
    assert {key: found[key] for key in fewer} == fewer


@pytest.mark.parametrize("charsmap", [b"", b"\0\0", b"\x08\0\0\0abc", b"\x04\0\0\0" + b"\xff" * 4, b"\xff" * 600])
def test_damaged_maps_have_no_entries(charsmap):
    assert entries(charsmap) == {} and mapping_steps(charsmap) is None


def test_maps_of_another_kind_have_no_steps(tmp_path):
    rules = tmp_path / "rules.tsv"
    rules.write_text(
        "".join(" ".join(f"{ord(c):X}" for c in a) + f"\t{ord(b):X}\n" for a, b in (("ab", "c"), ("d", "e")))
    )
    model = train("identity", normalization_rule_tsv=str(rules))
    assert entries(map_of(model)) == {"ab": "c", "d": "e"}
    assert mapping_steps(map_of(model)) is None


def test_sums_of_scores_are_exact():
    """Of two splits with equal scores the same is chosen, whatever stands before."""
    from sentencepiece import sentencepiece_model_pb2 as messages

    model = with_exact_scores(train("nmt_nfkc"))
    proto = messages.ModelProto()
    proto.ParseFromString(model)
    assert all(piece.score * 256 == int(piece.score * 256) for piece in proto.pieces)
    assert with_exact_scores(model) == model
