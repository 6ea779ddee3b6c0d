import numpy as np
import pytest

import bertjax
from bertjax.inference.encoding import _truncated, mask_pattern


def test_one_text_a_pair_and_a_list(tokenizer):
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    cat, dog = tokenizer.encode("the cat"), tokenizer.encode("dog")
    one = bertjax.encode(tokenizer, "the cat")
    assert one["input_ids"].tolist() == [[cls, *cat, sep]] and one["input_ids"].dtype == np.int32
    pair = bertjax.encode(tokenizer, ("the cat", "dog"))
    assert pair["input_ids"].tolist() == [[cls, *cat, sep, *dog, sep]]
    assert pair["token_type_ids"].tolist() == [[0] * (len(cat) + 2) + [1] * (len(dog) + 1)]
    both = bertjax.encode(tokenizer, ["the cat", ("the cat", "dog")])
    padding = len(dog) + 1
    assert both["input_ids"][0].tolist() == [cls, *cat, sep] + [tokenizer.pad_id] * padding
    assert both["attention_mask"].tolist() == [[1] * (len(cat) + 2) + [0] * padding, [1] * (len(cat) + 2 + padding)]


def test_the_mask_is_a_mask_and_other_special_tokens_are_text(tokenizer):
    ids = bertjax.encode(tokenizer, "the [MASK] sat [SEP]")["input_ids"][0].tolist()
    assert ids.count(tokenizer.mask_id) == 1
    assert ids.count(tokenizer.sep_id) == 1 and ids[-1] == tokenizer.sep_id
    piece = tokenizer.token(tokenizer.mask_id)
    assert bertjax.encode(tokenizer, f"the {piece} sat [SEP]")["input_ids"][0].tolist() == ids
    assert [m.span() for m in mask_pattern(tokenizer).finditer("a [MASK] b [MASK]")] == [(2, 8), (11, 17)]


def test_long_texts_are_cut_from_the_longer_side(tokenizer):
    out = bertjax.encode(tokenizer, ("the cat " * 30, "dog"), max_length=12)
    assert out["input_ids"].shape == (1, 12)
    dog = len(tokenizer.encode("dog"))
    assert int(out["token_type_ids"].sum()) == dog + 1


@pytest.mark.parametrize("texts", [[3], [("a", "b", "c")], [None]])
def test_what_is_no_text_is_named(tokenizer, texts):
    with pytest.raises(ValueError, match=r"texts\[0\] must be a string or a pair"):
        bertjax.encode(tokenizer, texts)


@pytest.mark.parametrize("room", range(2, 14))
def test_pairs_are_cut_as_transformers_cuts_them(tokenizer, room):
    """The rule of the library tokenizers (LongestFirst), which transformers uses, on all small lengths."""
    import tokenizers

    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({str(i): i for i in range(20)}, unk_token="0"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.enable_truncation(room, strategy="longest_first")
    for first in range(1, 9):
        for second in range(1, 9):
            parts = [list(range(first)), list(range(10, 10 + second))]
            both = library.encode(*(" ".join(map(str, part)) for part in parts))
            assert [i for part in _truncated(parts, room) for i in part] == both.ids


def test_half_a_surrogate_pair_is_named(tokenizer):
    with pytest.raises(ValueError, match=r"texts\[1\] holds half a surrogate pair"):
        bertjax.encode(tokenizer, ["fine", "not \ud800 fine"])


def test_a_foreign_tokenizer_is_named():
    with pytest.raises(TypeError, match=r"tokenizer must come from bertjax\.load_tokenizer\(path\), not be a str"):
        bertjax.encode("bert-base-uncased", "text")


def test_nothing(tokenizer):
    assert bertjax.encode(tokenizer, [])["input_ids"].shape == (0, 0)
