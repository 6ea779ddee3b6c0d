"""The last lines of a run: an accuracy stands beside that of saying one label always."""

from pathlib import Path

from bertjax.finetune.trial import summary_lines

SUMMARY = {
    "best_step": 7,
    "steps": 9,
    "real_tokens": 1000,
    "seconds": 2.0,
    "tokens_per_second": 500.0,
    "padding_fraction": 0.1,
    "remarks": [],
    "positive_label": None,
    "undefined": {},
}


def test_an_accuracy_stands_beside_that_of_the_commonest_label():
    found = {"neg": {"support": 95}, "pos": {"support": 5}}
    summary = SUMMARY | {
        "task": "classification",
        "main_score": "accuracy",
        "scores": {"accuracy": 0.96, "mcc": 0.2},
        "per_class": found,
    }
    line = summary_lines(summary, Path("run"))[0]
    assert line == "best at step 7: accuracy 0.9600 (0.9500 is always 'neg'), mcc 0.2000"


def test_other_kinds_have_no_commonest_label():
    summary = SUMMARY | {
        "task": "tagging",
        "main_score": "f1",
        "scores": {"f1": 0.5, "accuracy": 0.96},
        "per_class": {},
    }
    assert summary_lines(summary, Path("run"))[0] == "best at step 7: f1 0.5000, accuracy 0.9600"
