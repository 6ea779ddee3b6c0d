"""Minimal pairs: reading them, right and wrong, groups, limits, mistakes."""

import json
import lzma

import numpy as np
import pytest

import bertjax
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.blimp_suite import pseudo_log_likelihoods

SENTENCES = [
    ("The cat sat.", "The cat sit."),
    ("The dogs laugh.", "The dogs laughs."),
    ("Paris is famous.", "Paris are famous."),
    ("Reading and writing are fun.", "Reading and writing is fun."),
]


def pairs(count=12):
    return [
        {
            "sentence_good": SENTENCES[i % 4][0].replace(".", f" {i}."),
            "sentence_bad": SENTENCES[i % 4][1].replace(".", f" {i}."),
            "field": "syntax" if i % 3 else "morphology",
            "linguistics_term": f"term_{i % 3}",
            "UID": f"phenomenon_{i % 4}",
            "pairID": str(i),
        }
        for i in range(count)
    ]


def write(path, records):
    text = "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records)
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    return path


def run(model, tokenizer, data, **options):
    return bertjax.evaluate.run(model, "blimp", data, tokenizer=tokenizer, **options)


def test_accuracy_is_that_of_the_decisions_one_by_one(model, tokenizer):
    result = run(model, tokenizer, pairs(), batch_tokens=64)
    score = lambda text: pseudo_log_likelihoods(model, tokenizer, [tokenizer.encode(text)], batch_tokens=1)[0]
    right = np.array([score(pair["sentence_good"]) > score(pair["sentence_bad"]) for pair in pairs()])
    assert 0 < right.sum() < len(right)
    assert result["scores"]["accuracy"]["value"] == right.mean() and result["scores"]["accuracy"]["count"] == 12
    assert list(result["groups"]) == ["field", "linguistics_term", "UID"]
    for heading, groups in result["groups"].items():
        for name, found in groups.items():
            own = right[[pair[heading] == name for pair in pairs()]]
            assert (found["value"], found["count"]) == (own.mean(), len(own))
            assert found["low"] <= found["value"] <= found["high"]
    assert sum(found["count"] for found in result["groups"]["UID"].values()) == 12


def test_a_tie_is_wrong_and_counted(model, tokenizer):
    same = [("The cat sat.", "the CAT sat."), ("The dog sat.", "The dog sat.")]
    result = run(model, tokenizer, same)
    assert result["scores"]["accuracy"]["value"] == 0.0 and result["facts"]["ties"] == 2


def test_files_folders_and_lists_are_the_same(model, tokenizer, folder, tmp_path):
    packed = write(tmp_path / "all.jsonl.xz", pairs())
    (tmp_path / "parts").mkdir()
    for name in "ab":
        write(tmp_path / "parts" / f"{name}.jsonl", pairs()[(name == "b") * 6 :][:6])
    (tmp_path / "parts" / "README").write_text("no pairs")
    expected = run(model, tokenizer, pairs())
    for data in (packed, tmp_path / "parts"):
        found = bertjax.evaluate.run(folder, "blimp", data)
        assert found["data"] == str(data) and found["model"] == str(folder)
        assert (found["scores"], found["groups"]) == (expected["scores"], expected["groups"])


def test_limit_counts_pairs_of_each_phenomenon(model, tokenizer):
    result = run(model, tokenizer, pairs(11), limit=2)
    assert {name: found["count"] for name, found in result["groups"]["UID"].items()} == {
        f"phenomenon_{i}": 2 for i in range(4)
    }
    first = run(model, tokenizer, pairs(8))
    assert (result["scores"], result["groups"]) == (first["scores"], first["groups"])


def without(record, field):
    return {name: value for name, value in record.items() if name != field}


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([*pairs(2), without(pairs()[0], "sentence_bad")], r":3: no field 'sentence_bad'; a pair has sentence_good, "),
        ([*pairs(2), without(pairs()[0], "UID")], r":3: no field 'UID'"),
        ([pairs()[0] | {"sentence_good": 7}], r":1: 'sentence_good' must be a string, not 7"),
        ([*pairs(1), "", pairs()[0] | {"sentence_bad": " "}], r":3: 'sentence_bad' is empty"),
        ([pairs()[0] | {"sentence_bad": "\x07"}], r":1: 'sentence_bad' has no tokens"),
        ([*pairs(1), "{no JSON"], r":2: not valid JSON: "),
        ([*pairs(1), '["a", "b"]'], r":2: must be a JSON object, not \['a', 'b'\]"),
        ([*pairs(1), '{"sentence_good": "\udcff"}'], r":2: byte 19 of the line, 0xff, is not valid UTF-8"),
        (
            [*pairs(1), pairs()[0] | {"sentence_good": "cat " * 39}],
            r":2: 'sentence_good' has 41 tokens with .* takes 40",
        ),
        ([], r"it holds no pairs of sentences"),
    ],
)
def test_a_bad_line_is_named(model, tokenizer, tmp_path, records, words):
    path = write(tmp_path / "pairs.jsonl", records)
    with pytest.raises(DataError, match=words) as caught:
        run(model, tokenizer, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_read_is_named(model, tokenizer, headless, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl cannot be read: No such file"):
        run(model, tokenizer, tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match=r"holds no \.jsonl file"):
        run(model, tokenizer, tmp_path)
    with pytest.raises(DataError, match=r"data\[1\]: a pair is \(good, bad\) or a mapping"):
        run(model, tokenizer, [("a", "b"), "a"])
    with pytest.raises(ConfigError, match="no masked-LM head"):
        run(headless, tokenizer, pairs())
    with pytest.raises(ConfigError, match=r"model must come from bertjax\.load_model\(path\), not be a dict"):
        run({}, tokenizer, pairs())
