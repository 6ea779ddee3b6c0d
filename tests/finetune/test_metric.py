"""The score that chooses, the positive label, and scores that mean nothing: in setups and in whole runs."""

import json

import numpy as np
import pytest

import bertjax
import bertjax.finetune
from bertjax.engine.position import Best
from bertjax.errors import ConfigError, DataError
from bertjax.finetune.classification import text_setup
from bertjax.finetune.embedding import embedding_setup
from bertjax.finetune.settings import Trial, resolve
from bertjax.finetune.task_setup import Labelled, of_run, of_summary, with_metric
from bertjax.finetune.trials import combined
from bertjax.tasks.examples import text_examples

TEXTS = ["good film", "bad book", "great plot", "poor song"]


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return bertjax.load_tokenizer(model_folder)


@pytest.fixture
def made(tokenizer):
    """``made(task, train labels, eval labels, data={...}, training={...})``: the setup of TEXTS, with its metric."""

    def make(task, train, evaluation, **sections):
        run = resolve({"task": task, "model": {"max_length": 16}, **sections})
        texts = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)) if task == "embedding" else TEXTS
        own, held_out = (text_examples(texts, labels, kind=task) for labels in (train, evaluation))
        setup = embedding_setup if task == "embedding" else text_setup
        return with_metric(setup(run, Labelled(own, held_out, tokenizer)), run)

    return make


BINARY = ["neg", "pos", "neg", "pos"]


def test_the_positive_label_is_chosen_said_and_kept(made):
    setup = made("classification", BINARY, BINARY)
    assert setup.task.positive_label == "pos" and not setup.decided
    assert "f1, precision and recall are of the label 'pos' (config.data.positive_label)" in setup.notes
    logits = [np.array(row, np.float32) for row in ([1, 0], [1, 0], [1, 0], [0, 1])]
    assert setup.outcome(logits).scores["recall"] == 0.5
    other = made("classification", BINARY, BINARY, data={"positive_label": "neg"})
    assert other.task.positive_label == "neg" and other.outcome(logits).scores["recall"] == 1.0
    # Runs of before had F1 of the second label, and go on where it is said so.
    assert other.decided["data.positive_label"] == ("neg", "--config.data.positive_label=pos")
    unset = made("classification", ["a", "not a"] * 2, ["a", "not a"] * 2)
    assert unset.task.positive_label == "a" and "data.positive_label" in unset.decided
    assert not made("classification", ["a", "not a"] * 2, ["a", "not a"] * 2, data={"positive_label": "not a"}).decided
    with pytest.raises(ConfigError, match="regression has none"):
        resolve({"task": "regression", "data": {"positive_label": "pos"}})


def test_a_class_that_is_never_predicted_is_said(made):
    outcome = made("classification", BINARY, BINARY).outcome([np.array([1, 0], np.float32)] * 4)
    assert outcome.scores["f1"] == 0.0 and outcome.undefined == {
        "mcc": "all predictions are 'neg'",
        "precision": "'pos' is never predicted",
    }
    assert outcome.remarks == ["never predicted, so that their F1 is 0: 'pos' (1 of 2 labels)"]


@pytest.mark.parametrize(
    ("task", "labels", "metric", "main"),
    [
        ("classification", BINARY, "f1", "accuracy"),
        ("classification", ["a", "b", "c", "a"], "f1_macro", "accuracy"),
        ("multi_label", [["a"], ["b"], [], ["a", "b"]], "exact_match", "f1_micro"),
        ("regression", [1.0, 2.0, 3.0, 4.0], "mse", "pearson"),
        ("embedding", [1.0, 2.0, 3.0, 4.0], "pearson", "spearman"),
        ("embedding", None, "mrr", "accuracy"),
    ],
)
def test_any_score_may_choose(task, labels, metric, main, made):
    for name in (metric, "loss"):
        setup = made(task, labels, labels, training={"metric": name})
        assert setup.metric == name and setup.decided["training.metric"] == (name, "")
    # The first score by its name is what runs without the key have.
    assert "training.metric" not in made(task, labels, labels, training={"metric": main}).decided
    with pytest.raises(ConfigError, match=rf"training.metric = 'auc' is not a score of this task; it has {main}, "):
        made(task, labels, labels, training={"metric": "auc"})


@pytest.mark.parametrize(
    ("task", "labels", "training", "words"),
    [
        ("regression", [3.0] * 4, {}, r"leaves pearson undefined \(all labels are 3\).*--config.training.metric=mse"),
        ("regression", [3.0] * 4, {"metric": "spearman"}, "leaves spearman undefined"),
        ("classification", ["pos"] * 4, {"metric": "mcc"}, r"leaves mcc undefined \(all labels are 'pos'\).*=accuracy"),
        (
            "classification",
            ["neg"] * 4,
            {"metric": "recall"},
            "leaves recall undefined .no example has the label 'pos'",
        ),
    ],
)
def test_what_is_undefined_whatever_is_predicted_does_not_choose(task, labels, training, words, made):
    train = BINARY if task == "classification" else [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(DataError, match=words):
        made(task, train, labels, training=training)
    # The way out works, and what is undefined is said all the same.
    way_out = {"metric": "mse" if task == "regression" else "accuracy"}
    setup = made(task, train, labels, training=way_out)
    assert any(line.startswith("the evaluation data leaves ") for line in setup.cautions)


def test_labels_that_say_nothing_are_named(made):
    every = made("multi_label", [["a"], ["a", "b"], ["a"], ["a"]], [["a"], ["b"], [], []])
    assert any("every training example has the label 'a'" in line for line in every.cautions)
    constant = made("regression", [3.0] * 4, [1.0, 2.0, 3.0, 4.0])
    assert any("all training labels are 3: nothing but this number" in line for line in constant.cautions)
    without = made("classification", BINARY, BINARY, training={"class_weights": "0,1"})
    assert any("the weight of 'neg' is 0" in line for line in without.cautions)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([["a"], ["a", "b"], ["a"], ["a"]], "every example has the label 'a', which no weight can balance"),
        ([["a"], [], ["a"], []], "no example has the label 'b', which no weight can balance"),
    ],
)
def test_balance_needs_both_sides(labels, words, made):
    with pytest.raises(DataError, match=words):
        made("multi_label", labels, labels, training={"class_weights": "balanced"}, data={"labels": "a,b"})
    made("multi_label", labels, labels, training={"class_weights": "1,0"}, data={"labels": "a,b"})


def test_balanced_of_several_labels_is_torchs_pos_weight(made):
    torch = pytest.importorskip("torch")
    labels = [["a"], ["a", "b"], ["a"], []]
    setup = made("multi_label", labels, labels, training={"class_weights": "balanced"})
    assert setup.decided["balanced"].as_before == ""
    logits = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    own = setup.train.labels["labels"]
    weight = torch.tensor([1 / 3, 3.0])  # without over with: a 1 / 3, b 3 / 1
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=weight)(torch.tensor(logits), torch.tensor(own))
    assert float(_loss(setup, logits)) == pytest.approx(float(theirs), rel=1e-6)


def test_balanced_of_several_labels_counts_both_sides_alike(made):
    """By its formula; without torch."""
    labels = [["a"], ["a", "b"], ["a"], []]
    setup = made("multi_label", labels, labels, training={"class_weights": "balanced"})
    logits = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    own, weight = setup.train.labels["labels"], np.array([1 / 3, 3.0])
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert float(_loss(setup, logits)) == pytest.approx(
        -(weight * own * np.log(p) + (1 - own) * np.log(1 - p)).mean(), rel=1e-5
    )


def _loss(setup, logits):
    from types import SimpleNamespace

    import jax.numpy as jnp

    batch = {"labels": jnp.asarray(setup.train.labels["labels"]), "weights": jnp.ones(len(logits))}
    sums = setup.objective.sums(SimpleNamespace(logits=jnp.asarray(logits)), batch)
    return setup.objective.total(sums, setup.objective.weights(batch))


def test_values_of_a_metric_are_better_the_higher_they_are():
    scores = {"pearson": 0.5, "mse": 2.0}
    assert of_run(None, scores, {}, 1.5) == 0.5 and of_run("mse", scores, {}, 1.5) == -2.0
    assert of_run("loss", scores, {}, 1.5) == -1.5
    for nothing in (of_run(None, scores, {"pearson": "x"}, 1.5), of_run("mse", {"mse": float("nan")}, {}, 1.5)):
        assert nothing is None
    assert of_summary({"main_score": "f1", "scores": {"f1": 0.25}}) == 0.25  # as summaries of before are
    assert (
        of_summary({"main_score": "pearson", "scores": {"mse": 2.0}, "undefined": {"pearson": "x"}, "loss": 1}) is None
    )


def test_what_has_no_value_is_not_the_best():
    best, steps = Best(), []
    for step, score in enumerate((None, -0.5, None, 0.0), start=1):
        best = best.after(step, score)
        steps.append(best.step)
    assert steps == [None, 2, 2, 4] and best == Best(4, 0.0, evaluations_since=0)


def test_a_trial_without_a_value_is_not_the_best():
    trials = [Trial(rate, 1, 0) for rate in (1e-3, 2e-3, 3e-3)]
    lost = {"main_score": "pearson", "scores": {"mse": 2.0}, "undefined": {"pearson": "x"}, "loss": 2.0}
    bad = {"main_score": "pearson", "scores": {"pearson": -0.5, "mse": 3.0}, "undefined": {}, "loss": 3.0}
    good = {"main_score": "pearson", "scores": {"pearson": 0.1, "mse": 5.0}, "undefined": {}, "loss": 5.0}
    best, summary = combined(trials, [lost, bad, good])
    assert best == 2 and summary["mean"]["pearson"] == pytest.approx(-0.2) and len(summary["runs"]) == 3
    by_loss = [one | {"main_score": "loss"} for one in (good, lost, bad)]
    assert combined(trials, by_loss)[0] == 1 and combined(trials, by_loss)[1]["runs"][1]["scores"]["loss"] == 2.0


# --- Whole runs ---------------------------------------------------------------------------------------------------


def run(config, model_folder, data, workdir):
    lines = []
    return bertjax.finetune.run(config, model_folder, *data, workdir, say=lines.append), lines


def rows(workdir, kind):
    return [row for row in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()) if row["kind"] == kind]


def test_the_loss_chooses_the_checkpoint_and_the_run_goes_on(config, model_folder, moods, tmp_path):
    config.training.metric = "loss"
    config.training.learning_rate = "0.05"
    config.training.evaluate_every = 5
    config.training.epochs = "1"
    config.guard.loss_rise = config.guard.gradient_factor = 1e6
    summary, lines = run(config, model_folder, moods, tmp_path)
    losses = {row["step"]: row["loss"] for row in rows(tmp_path, "eval")}
    best = min(losses, key=lambda step: (losses[step], step))
    assert summary["main_score"] == "loss" and summary["best_step"] == best and summary["loss"] == losses[best]
    assert summary["positive_label"] == "pos"
    assert any(line.startswith(f"best by loss at step {best}: ") and "f1 of 'pos'" in line for line in lines)
    assert bertjax.load_task_model(tmp_path)[0].task.positive_label == "pos"
    with pytest.raises(ConfigError, match=r"training\.metric \(there 'loss', here None\)"):
        config.training.metric = None
        run(config, model_folder, moods, tmp_path)
    config.training.metric = "loss"
    assert run(config, model_folder, moods, tmp_path)[0]["best_step"] == best
    recorded = json.loads((tmp_path / "config.json").read_text())["identity"]
    assert recorded["training.metric"] == "loss" and "data.positive_label" not in recorded


def test_predictions_that_are_all_the_same_are_no_success(small_config, model_folder, tmp_path):
    config = small_config("regression")
    config.training.epochs = "1"
    train = (TEXTS * 2, [1.0, 2.0, 3.0, 4.0] * 2)
    summary, lines = run(config, model_folder, (train, (["good film"] * 4, [1.0, 2.0, 3.0, 4.0])), tmp_path)
    assert summary["best_step"] is None and set(summary["undefined"]) == {"pearson", "spearman"}
    assert set(summary["scores"]) == {"mse"} and summary["main_score"] == "pearson"
    assert not any(
        "best" in line and not line.startswith("warning: pearson was undefined in every evaluation") for line in lines
    )
    assert any("pearson undefined (all predictions are " in line for line in lines)
    (row,) = rows(tmp_path, "eval")
    assert "pearson" not in row and "mse" in row
    assert (tmp_path / "model" / "model.safetensors").exists()
