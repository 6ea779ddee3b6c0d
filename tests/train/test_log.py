import json

from bertjax.train.log import MetricsLog


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().split("\n") if line]


def test_one_row_a_step_across_restarts(tmp_path):
    log = MetricsLog(tmp_path, from_step=0, tensorboard=False)
    for step in (1, 2, 3):
        log.write({"kind": "train", "step": step, "loss": 1.0})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # killed in the middle of a line
    log = MetricsLog(tmp_path, from_step=2, tensorboard=False)
    log.write({"kind": "train", "step": 3, "loss": float("nan")})
    log.close()
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    assert rows(tmp_path)[2]["loss"] is None


def test_tensorboard_is_written(tmp_path):
    log = MetricsLog(tmp_path, from_step=0, tensorboard=True)
    log.write({"kind": "train", "step": 1, "loss": 1.0, "phase": "phase1", "mfu": None})
    log.close()
    assert list((tmp_path / "tensorboard").glob("events*"))
