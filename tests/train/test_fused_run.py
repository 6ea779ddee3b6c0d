"""A whole run with the fused kernel in Pallas's interpreter, on packed rows with dropout, against ``explicit``."""

import json
from dataclasses import replace

import bertjax.train
from bertjax.attention_kernels import KERNELS


def losses(config, workdir, attention):
    config.model.attention = attention
    lines = []
    bertjax.train.run(config, workdir, say=lines.append)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"], lines


def test_fifty_steps_lose_what_explicit_loses(config, tmp_path, monkeypatch):
    """The bar: within 1e-5 at every step, in float32."""
    monkeypatch.setitem(KERNELS, "fused", replace(KERNELS["fused"], backends=("cpu",)))
    config.model.update(hidden_size=64, attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1)
    config.phases.phase1.update(steps=50, sequence_length=64, batch_size=8, learning_rate=1e-3)
    config.phases.phase2.steps = 0
    config.logging.every_steps = 1
    config.checkpoint.every_steps = 50
    plain, _ = losses(config, tmp_path / "explicit", "explicit")
    fast, said = losses(config, tmp_path / "auto", "auto")
    assert "attention: fused" in said
    assert len(fast) == len(plain) == 50
    assert sum(plain[-10:]) / 10 < plain[0] - 0.3  # it learns
    apart = max(abs(a - b) for a, b in zip(fast, plain, strict=True))
    print(f"the losses of 50 steps differ by {apart:.2e} at most")
    assert apart < 1e-5
