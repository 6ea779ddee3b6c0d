"""An exported ``tokenizer.json`` puts around texts what training puts there, whatever the given file says."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from bertjax.data.corpus.manifest import FILE, fingerprint_of
from bertjax.data.corpus.prepared import check_agrees, find_prepared, open_prepared, prepare
from bertjax.text.json_tokenizer import JsonTokenizer
from bertjax.text.tokenizer import load_tokenizer
from bertjax.workdir.config_json import check_tokenizer

TEXTS = ["the cat sat on the mat and the dog sat on the log", "a second sentence has a few words more than that"]
NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def definition(names=NAMES) -> dict:
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=names[1]))
    library.normalizer = tokenizers.normalizers.Lowercase()
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=120, special_tokens=list(names), show_progress=False)
    library.train_from_iterator(TEXTS, trainer)
    return json.loads(library.to_str())


def written(folder: Path, content: dict, **settings) -> Path:
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def template(*single: str, pair: str = "", ids=(("[CLS]", 2), ("[SEP]", 3))) -> dict:
    from tokenizers import Tokenizer, models, processors

    library = Tokenizer(models.BPE())
    pair = pair or f"{single[0]} $B:0 [SEP]:0"
    library.post_processor = processors.TemplateProcessing(single=single[0], pair=pair, special_tokens=list(ids))
    return json.loads(library.to_str())["post_processor"]


GIVEN = {
    "none": lambda: None,
    "of types that are all 0": lambda: template("[CLS] $A [SEP]"),
    "with nothing at the end": lambda: template("[CLS] $A", pair="[CLS] $A $B"),
    "with the second text first": lambda: template("[CLS] $A [SEP]", pair="[CLS] $B [SEP] $A:1 [SEP]:1"),
    "with a piece more": lambda: template("[MASK] [CLS] $A [SEP]", ids=(("[CLS]", 2), ("[SEP]", 3), ("[MASK]", 4))),
    "of BERT": lambda: {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "of RoBERTa": lambda: {
        "type": "RobertaProcessing",
        "sep": ["[SEP]", 3],
        "cls": ["[CLS]", 2],
        "trim_offsets": False,
        "add_prefix_space": False,
    },
    "for offsets alone": lambda: {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
    "in steps": lambda: {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
            template("$A [SEP]", pair="$A $B [SEP]"),
        ],
    },
}


def check_is_trained_form(folder: Path, tokenizer) -> None:
    """``transformers`` returns [CLS] A [SEP] B [SEP] with token types 0 and 1."""
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    first, second = tokenizer.encode_batch(TEXTS)
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    single, pair = peer(TEXTS[0]), peer(*TEXTS)
    assert single["input_ids"] == [cls, *first, sep]
    assert single["token_type_ids"] == [0] * (len(first) + 2)
    assert pair["input_ids"] == [cls, *first, sep, *second, sep]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_the_template_is_that_of_training(given, tmp_path):
    path = written(tmp_path / "given", definition() | {"post_processor": given()})
    tokenizer = load_tokenizer(path)
    tokenizer.save(tmp_path / "saved")
    check_is_trained_form(tmp_path / "saved", tokenizer)
    assert load_tokenizer(tmp_path / "saved").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("names", [("<pad>", "<unk>", "<s>", "</s>", "<mask>"), ("p p", "u u", "a:b", "$A", "m m")])
def test_special_tokens_of_other_names(names, tmp_path):
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=True))
    tokenizer = load_tokenizer(written(tmp_path / "given", definition(names), **roles))
    tokenizer.save(tmp_path / "saved")
    check_is_trained_form(tmp_path / "saved", tokenizer)


def test_steps_that_trim_offsets_stay(tmp_path):
    for name in ("of RoBERTa", "for offsets alone", "in steps"):
        tokenizer = load_tokenizer(written(tmp_path / name, definition() | {"post_processor": GIVEN[name]()}))
        tokenizer.save(tmp_path / "saved")
        saved = json.loads((tmp_path / "saved/tokenizer.json").read_text())["post_processor"]
        assert [step["type"] for step in saved["processors"]] == ["ByteLevel", "TemplateProcessing"]
        assert saved["processors"][0]["trim_offsets"] == (name == "for offsets alone")


CHANGES = {
    "decoder": {"decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}},
    "normalizer": {"normalizer": {"type": "NFC"}},
    "pre_tokenizer": {"pre_tokenizer": {"type": "WhitespaceSplit"}},
    "post_processor": {"post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_covers_every_part_that_is_exported(change, tmp_path):
    plain, other = (
        load_tokenizer(written(tmp_path / name, definition() | more)) for name, more in (("a", {}), ("b", change))
    )
    assert plain.fingerprint != other.fingerprint


def test_equal_exports_have_equal_fingerprints(tmp_path):
    """The export does not contain what differs between the files: template, truncation, padding."""
    truncation = {"direction": "Right", "max_length": 7, "strategy": "LongestFirst", "stride": 0}
    found = set()
    for name, given in GIVEN.items():
        if name not in ("of RoBERTa", "for offsets alone", "in steps"):
            path = written(tmp_path / name, definition() | {"post_processor": given(), "truncation": truncation})
            tokenizer = load_tokenizer(path)
            tokenizer.save(tmp_path / "saved")
            found.add((tokenizer.fingerprint, (tmp_path / "saved/tokenizer.json").read_bytes()))
    assert len(found) == 1


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"{TEXTS[i % 2]} {i}.\nAnd more {i}."}) + "\n" for i in range(30)))
    return path


def test_the_cache_does_not_swap_tokenizers(text, tmp_path, monkeypatch):
    """The run exports the given tokenizer, not another one with the same ids."""
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    plain = written(tmp_path / "plain", definition())
    other = written(tmp_path / "other", definition() | CHANGES["decoder"])
    first, second = (prepare([text], tokenizer=path) for path in (plain, other))
    assert first.path != second.path
    saved = json.loads((second.path / "tokenizer/tokenizer.json").read_text())
    assert saved["decoder"]["type"] == "Metaspace"
    assert prepare([text], tokenizer=other).path == second.path


def of_before(corpus: Path) -> str:
    """Turns a corpus into one of an earlier version, whose fingerprint did not cover the post-processor."""
    manifest = json.loads((corpus / FILE).read_text())
    former = load_tokenizer(corpus / "tokenizer").former_fingerprint
    path = corpus / "tokenizer/tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}, indent=2))
    manifest["tokenizer"]["fingerprint"] = former
    manifest["fingerprint"] = fingerprint_of(manifest["files"], former)
    manifest["files"]["tokenizer/tokenizer.json"]["size"] = path.stat().st_size
    (corpus / FILE).write_text(json.dumps(manifest))
    return former


def test_a_corpus_of_an_earlier_version_is_used(text, tmp_path):
    given = written(tmp_path / "given", definition())
    prepare([text], tmp_path / "corpus", tokenizer=given)
    former = of_before(tmp_path / "corpus")
    opened = open_prepared(tmp_path / "corpus")
    assert opened.tokenizer_fingerprint == former != opened.tokenizer.fingerprint
    assert find_prepared(opened.fingerprint, tmp_path / "corpus") is not None
    check_agrees(opened.path, opened.manifest, {"tokenizer": str(given)})
    check_tokenizer(opened.tokenizer.has_fingerprint, {"tokenizer": former, "step": 3}, tmp_path)
    opened.tokenizer.save(tmp_path / "saved")
    check_is_trained_form(tmp_path / "saved", opened.tokenizer)


def test_the_former_fingerprint_is_unchanged(tmp_path):
    """Literally as an earlier version recorded it."""
    vocab = {name: number for number, name in enumerate([*NAMES, "a", "b", "ab"])}
    added = [
        {
            "id": i,
            "content": n,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, n in enumerate(NAMES)
    ]
    content = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "unk_token": "[UNK]", "vocab": vocab, "merges": [["a", "b"]]},
    }
    tokenizer = load_tokenizer(written(tmp_path / "given", content))
    assert isinstance(tokenizer, JsonTokenizer) and tokenizer.encode("ab a") == [7, 5]
    assert tokenizer.former_fingerprint == FORMER
    assert tokenizer.has_fingerprint(FORMER) and not tokenizer.has_fingerprint(None)
    other = copy.deepcopy(content)
    other["model"]["merges"] = []
    assert not load_tokenizer(written(tmp_path / "other", other)).has_fingerprint(FORMER)


FORMER = "4f70cf08a283b488015b0313d3f9bbb7ac60270a339d98490377e7377e8bf4a0"
