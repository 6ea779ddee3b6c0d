"""Offsets of tokens: they cover the characters that a token was made from, whatever the text."""

import itertools
import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.text.offsets import align
from bertjax.text.sentencepiece_tokenizer import prepare_text
from bertjax.text.tokenizer import load_tokenizer
from bertjax.text.vocabulary import train_tokenizer

TEXTS = ["The cat sat on the mat, in İstanbul.", "naïve café ŒUVRE Straße Ωμέγα ΟΔΟΣ 日本 가각 fine 1/2"] * 10
# Letters that change their number when cleaned, composed and not, invisible ones, pictures, odd spaces.
ODD = list("İıßẞŒﬁﬀ½…éÅΣςẛ̣가각日本🙂👩‍👩‍👧🇫🇷\u0301\u0308\u200b\u200d\ufeff\ufe0f\u00ad\u00a0\u3000\t\n\r `'\"-.,$€")
LETTERS = st.sampled_from([*ODD, *"aAeéoTh cat"])
SOME_TEXT = st.one_of(st.text(LETTERS, max_size=30), st.text(st.characters(exclude_categories=["Cs"]), max_size=15))


@pytest.fixture(
    scope="module", params=["wordpiece", "cased wordpiece", "sentencepiece", "cased sentencepiece", "bytes"]
)
def tokenizer(request, tmp_path_factory):
    if request.param != "bytes":
        return train_tokenizer(request.param.split()[-1], TEXTS, 400, lowercase="cased" not in request.param)
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=names, initial_alphabet=alphabet))
    path = tmp_path_factory.mktemp("bytes") / "tokenizer.json"
    path.write_text(json.dumps(json.loads(library.to_str())))
    return load_tokenizer(path)


def is_visible(text):
    """Whether it contains more than white space, marks and invisible characters."""
    return any(unicodedata.category(c)[0] not in "ZCM" for c in text)


@settings(max_examples=150, deadline=None)
@given(text=SOME_TEXT)
def test_offsets_are_in_order_and_ids_those_of_encode(tokenizer, text):
    ids, spans = tokenizer.encode_with_offsets([text])[0]
    assert ids == tokenizer.encode(text) and len(ids) == len(spans)
    for begin, end in spans:
        assert 0 <= begin <= end <= len(text)
        assert text[begin:end].strip() == text[begin:end]
        assert begin < end or not text.strip()
    for (one, one_end), (other, other_end) in itertools.pairwise(spans):
        assert one <= other and one_end <= other_end


@settings(max_examples=150, deadline=None)
@given(text=st.text(LETTERS, max_size=30))
def test_no_letter_is_lost(tokenizer, text):
    spans = tokenizer.encode_with_offsets([text])[0].offsets
    inside = {position for span in spans for position in range(*span)}
    lost = "".join(character for position, character in enumerate(text) if position not in inside)
    assert not is_visible(lost), (lost, spans)


def bare(token):
    return token.removeprefix("##").removeprefix("\u2581").removeprefix("\u0120")


def test_offsets_cover_the_piece(tokenizer):
    """In texts whose letters change only in case and accents."""
    plain = lambda text: unicodedata.normalize("NFC", prepare_text(text, True))
    seen = 0
    for text in ("The cat  sat\n on the mat, in cafe\u0301.", "nai\u0308ve\tCAFÉ fine", "the\u3000mat"):
        for token_id, (begin, end) in zip(*tokenizer.encode_with_offsets([text])[0], strict=True):
            token = bare(tokenizer.token(token_id))
            if token.isascii() and token.isalpha():
                assert token.lower() in plain(text[begin:end])
                seen += token.lower() == plain(text[begin:end])
    assert seen >= 8


def test_marks_belong_to_their_letter():
    tokenizer = train_tokenizer("wordpiece", TEXTS, 200, lowercase=True)
    text = "cafe\u0301 x"
    spans = tokenizer.encode_with_offsets([text])[0].offsets
    assert text[spans[0][0] : spans[-2][1]] == "cafe\u0301"


def test_letters_that_become_two_share_offsets():
    text = "a\ufb01 ½\u0301 ``İ''"
    prepared, origins = align(text, lambda text: prepare_text(text, True))
    made = {}
    for character, span in zip(prepared, origins, strict=True):
        made.setdefault(span, []).append(character)
    assert {text[b:e]: "".join(c) for (b, e), c in made.items()} == {
        "a": "a", "\ufb01": "fi", " ": " ", "½\u0301": "1⁄2", "``": '"', "İ": "i", "''": '"'
    }  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=SOME_TEXT, lowercase=st.booleans(), strip=st.booleans())
def test_cleaning_does_not_depend_on_neighbours(text, lowercase, strip):
    prepare = lambda text: prepare_text(text, lowercase, strip)
    prepared, origins = align(text, prepare)
    assert prepared == prepare(text) and len(origins) == len(prepared)
    for span in dict.fromkeys(origins):
        together = "".join(c for c, origin in zip(prepared, origins, strict=True) if origin == span)
        assert prepare(text[slice(*span)]).replace("ς", "σ") == together.replace("ς", "σ")


def test_cleaning_that_depends_on_neighbours_still_has_offsets():
    assert align("ab", lambda text: text * 3 if len(text) > 1 else text) == (
        "ababab",
        [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2)],
    )
