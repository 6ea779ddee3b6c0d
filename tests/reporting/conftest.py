"""Workdirs as runs leave them, made up: of a pretraining and of a fine-tuning run."""

import json
import math

import pytest

# What a page must show as text, whatever it looks like.
HOSTILE = '<script>alert("x")</script><img src=https://example.org/a.png onerror=alert(1)>'
RIGHT_TO_LEFT = "هذا فيلم رائع (جدا) 2026"
CHINESE = "这部电影很精彩，但是结尾太长了。"


def write_rows(workdir, rows):
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def train_row(step, phase="phase1", every=10, **more):
    loss = 3.0 + 6.0 / (1 + step / (20 * every))
    row = {"kind": "train", "step": step, "phase": phase, "loss": loss + 0.6, "mlm_loss": loss}
    row |= {"mlm_accuracy": 0.4 - loss / 30, "nsp_loss": 0.6, "nsp_accuracy": 0.7, "loss_scale": 1.0}
    row |= {"learning_rate": 1e-4 * (1 + math.sin(step)), "grad_norm": 1.0 + step % 7, "mfu": None}
    return row | {"tokens_per_second": 1e4 + step % 5, "padding_fraction": 0.01, "seconds": step * 0.1} | more


def eval_row(step, phase="phase1", **more):
    row = {"kind": "eval", "step": step, "phase": phase, "mlm_loss": 5.5, "mlm_accuracy": 0.2, "unigram_loss": 6.4}
    return row | {"nsp_loss": 0.5, "nsp_accuracy": 0.8, "nsp_chance": 0.51, "loss": 6.0, "seconds": step * 0.1} | more


@pytest.fixture
def pretraining(tmp_path):
    """Makes the workdir of a run of two phases, 900 and 100 steps, with one event of each kind; returns its path."""

    def make(finished=True, steps=1000):
        workdir = tmp_path / "pretraining"
        workdir.mkdir(exist_ok=True)
        phases = {"phase1": {"steps": 900, "batch_size": 16}, "phase2": {"steps": 100, "batch_size": 8}}
        config = {"name": "small-run", "phases": phases, "optimizer": {"name": "adamw", "beta2": 0.98}, "seed": 0}
        versions = {"bertjax": "0.1.0", "python": "3.11.7", "jax": "0.10.2"}
        record = {"config": config, "identity_fingerprint": "d60b35", "versions": versions}
        record |= {"corpus": {"path": "/corpora/own", "fingerprint": "4364a9"}}
        (workdir / "config.json").write_text(json.dumps(record))
        rows = []
        for step in [1, *range(10, steps + 1, 10)]:
            phase = "phase1" if step <= 900 else "phase2"
            rows.append(train_row(step, phase))
            if step % 200 == 0:
                rows.append(eval_row(step, phase, mlm_loss=5.0 + 200 / step))
        events = [
            {"event": "resumed", "step": 280},
            {"event": "skipped", "step": 466, "batch": "bad_batches/step-466.npz"},
            {"event": "went back", "step": 550, "reason": "8 steps in a row were bad"},
        ]
        rows += [{"kind": "event"} | event for event in events if event["step"] <= steps]
        rows.sort(key=lambda row: row["step"])
        write_rows(workdir, rows)
        summary = {
            "name": "small-run",
            "held_out": {"mlm_loss": 5.2, "mlm_accuracy": 0.2, "nsp_loss": 0.5, "nsp_accuracy": 0.8},
            "unigram_loss": 6.4,
            "nsp_chance": 0.51,
            "steps": 1000,
            "real_tokens": 4474042,
            "seconds": 343.26,
            "tokens_per_second": 13033.97,
            "padding_fraction": 0.007,
            "peak_memory": {"host_bytes": 1166090240},
            "devices": {"kind": "cpu", "platform": "cpu", "count": 1},
            "versions": versions,
        }
        if finished:
            (workdir / "summary.json").write_text(json.dumps(summary))
        return workdir

    return make


@pytest.fixture
def fine_tuning(tmp_path):
    """Makes the workdir of a finished classification with so many classes, three runs, and hostile examples."""

    def make(classes=3):
        workdir = tmp_path / f"fine-tuning-{classes}"
        workdir.mkdir()
        labels = [f"label {HOSTILE}" if index == 1 else f"class-{index}" for index in range(classes)]
        rows = []
        for step in range(10, 601, 10):
            phase = f"epoch {(step - 1) // 200 + 1}"
            loss = 1.2 / (1 + step / 100)
            rows.append({"kind": "train", "step": step, "phase": phase, "loss": loss, "seconds": step / 10})
            rows[-1] |= {"learning_rate": 5e-5 - step * 8e-8, "grad_norm": 2.0 + step % 3}
            rows[-1] |= {"tokens_per_second": 3800.0 + step % 90, "padding_fraction": 0.04 + step % 7 / 1000}
            if step % 200 == 0:
                rows.append({"kind": "eval", "step": step, "phase": phase, "loss": 0.4 + step / 4000, "seconds": 9})
                rows[-1] |= {"accuracy": 0.86 + step / 12000, "f1_macro": 0.84 + step / 12000, "mcc": 0.7 + step / 9000}
        write_rows(workdir, rows)
        confusion = [[(90 if t == p else (t * 7 + p * 3) % 5) for p in range(classes)] for t in range(classes)]
        if classes > 2:
            confusion[2][0] = 40
        figures = {"precision": 0.91, "recall": 0.88, "f1": 0.8947, "support": 96}
        texts = [HOSTILE, RIGHT_TO_LEFT, CHINESE, "a long text " * 200, "two\nlines \0 and a zero byte \ud800"]
        errors = [{"text": text, "label": labels[0], "predicted": labels[1], "probability": 0.93} for text in texts]
        runs = [
            {"learning_rate": 5e-5, "epochs": 3, "seed": seed, "scores": {"accuracy": 0.9 + seed / 100, "mcc": 0.8}}
            for seed in range(3)
        ]
        summary = {"task": "classification", "labels": labels, "main_score": "accuracy", "runs": runs}
        summary |= {"scores": {"mcc": 0.8, "accuracy": 0.91}, "mean": {"accuracy": 0.91, "mcc": 0.8}}
        summary |= {"spread": {"accuracy": 0.01, "mcc": 0.0}, "confusion": confusion, "errors": errors}
        summary |= {"per_class": dict.fromkeys(labels, figures)}
        (workdir / "summary.json").write_text(json.dumps(summary))
        config = {"name": "sentiment", "task": {"kind": "classification"}, "learning_rates": [5e-5], "note": HOSTILE}
        (workdir / "config.json").write_text(json.dumps({"config": config, "versions": {"bertjax": "0.1.0"}}))
        return workdir

    return make
