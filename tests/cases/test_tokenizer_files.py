"""``tokenizer.json`` files whose post-processor is not what training does, and the cache between two of them."""

import json

import pytest

from bertjax.data.corpus.prepared import prepare
from bertjax.text.tokenizer import load_tokenizer

FOLDERS = ("tokenizer_without_post_processor", "tokenizer_pair_without_types")
TEXTS = ("the first text of two", "and here is another one")


@pytest.mark.parametrize("name", FOLDERS)
def test_transformers_gives_what_bertjax_trains_on(name, cases, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = load_tokenizer(cases / name)
    tokenizer.save(tmp_path)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    first, second = tokenizer.encode_batch(TEXTS)
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert peer(TEXTS[0])["input_ids"] == [cls, *first, sep]
    pair = peer(*TEXTS)
    assert pair["input_ids"] == [cls, *first, sep, *second, sep]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_the_given_file_is_what_is_exported(cases, tmp_path, monkeypatch):
    """Whichever was prepared with first: all but the template is as given, and the template is that of training."""
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{TEXTS[0]} {i}.\n{TEXTS[1]} {i}.\n\n" for i in range(20)))
    for name in FOLDERS:
        corpus = prepare([text], tokenizer=cases / name)
        saved = json.loads((corpus.path / "tokenizer/tokenizer.json").read_text())
        given = json.loads((cases / name / "tokenizer.json").read_text())
        template = saved.pop("post_processor")
        given.pop("post_processor")
        assert saved == given
        assert [part["Sequence"]["type_id"] for part in template["pair"] if "Sequence" in part] == [0, 1]
