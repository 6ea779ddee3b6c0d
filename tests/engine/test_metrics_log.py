"""metrics.jsonl: a row a step, also across restarts, whatever was done to the file."""

import json
import os
import shutil
import tracemalloc

import pytest

from bertjax.engine.metrics_log import MetricsLog, keep_rows_up_to
from bertjax.errors import CheckpointError
from bertjax.reporting.record import read_metrics


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


# --- Files that are not as they were left ----------------------------------------------------------------------------


ODD = [
    b"\xff\xfe\xfd",
    b"null",
    b"[]",
    b'{"step": "3"}',
    b'{"kind": "train"}',
    b'{"step": 1e400}',
    b"",
    b"{" * 5000,
    b"3",
]
ODD += [b'{"step": ' + b"9" * 5000 + b"}", b'{"kind": "train", "step": null}', b"\0\0", b'"\xc3"']


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd[:20]))
def test_an_odd_line_costs_no_run_and_stays(odd, tmp_path):
    row = lambda step: json.dumps({"kind": "train", "step": step}).encode()
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([row(1), odd, row(2), row(3), odd, b""]))
    log = MetricsLog(tmp_path, from_step=2, tensorboard=False)
    log.write({"kind": "train", "step": 3, "loss": 1.0})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_bytes().split(b"\n")
    assert lines[:4] == [row(1), odd, row(2), odd] and json.loads(lines[4])["loss"] == 1.0
    assert read_metrics(tmp_path / "metrics.jsonl", []).last_step == 3


def test_a_last_row_without_its_end_is_a_row(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1}')  # an editor may leave it like that
    log = MetricsLog(tmp_path, from_step=1, tensorboard=False)
    log.write({"kind": "train", "step": 2})
    log.close()
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_many_rows_are_resumed_in_the_memory_of_one(tmp_path):
    row = json.dumps({"kind": "train", "step": 1, "phase": "phase1"} | {f"field{i}": 1.2345 for i in range(10)})
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{row}\n" * 20_000 + "x" * (1 << 20) + "\n" + '{"kind": "train", "step": 2}\n')
    tracemalloc.start()
    keep_rows_up_to(path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20 < path.stat().st_size
    assert read_metrics(path, []).last_step == 1 and len(path.read_text().split("\n")) == 20_002


def test_a_line_without_end_is_taken_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("bertjax.engine.metrics_log._LONGEST", 64)
    line = b"x" * 1000 + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"kind": "train", "step": 1}\n' + line + b'{"kind": "train", "step": 2}\n'
    )
    keep_rows_up_to(tmp_path / "metrics.jsonl", 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"kind": "train", "step": 1}\n' + line


# --- Removed, moved or shortened while it is written ----------------------------------------------------------------


def harmed(tmp_path, harm):
    """What was said, of a log to which this was done between two rows."""
    said, path = [], tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    log = MetricsLog(path.parent, from_step=0, tensorboard=False, say=said.append)
    for step in (1, 2):
        log.write({"kind": "train", "step": step})
    harm(path)
    for step in (3, 4):
        log.write({"kind": "train", "step": step})
    log.sync()
    log.close()
    return said


@pytest.mark.parametrize(
    ("harm", "what", "steps"),
    [
        (lambda path: path.unlink(), "removed", [3, 4]),
        (lambda path: path.rename(path.with_name("mine")), "removed", [3, 4]),
        (lambda path: os.truncate(path, 0), "shortened", [3, 4]),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "shortened", [1, 3, 4]),
        (lambda path: os.truncate(path, path.stat().st_size // 2 + 5), "shortened", [1, 3, 4]),
        (lambda path: path.write_text('{"kind": "train", "step": 1}'), "shortened", [1, 3, 4]),
    ],
)
def test_rows_go_on_where_the_name_is(harm, what, steps, tmp_path):
    (said,) = harmed(tmp_path, harm)
    assert f"metrics.jsonl was {what} while the run wrote to it" in said
    assert list(read_metrics(tmp_path / "run/metrics.jsonl", []).train.steps) == steps


def test_a_copy_in_its_place_is_gone_on_with(tmp_path):
    def edit(path):  # as editors save
        path.with_name("copy").write_bytes(path.read_bytes())
        path.with_name("copy").rename(path)

    assert harmed(tmp_path, edit) == []
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3, 4]


@pytest.mark.parametrize("harm", [lambda run: shutil.rmtree(run), lambda run: run.rename(run.with_name("moved"))])
def test_a_workdir_that_is_gone_ends_the_run(harm, tmp_path):
    with pytest.raises(CheckpointError, match=r"workdir .*run was removed or moved while the run was in it"):
        harmed(tmp_path, lambda path: harm(path.parent))
    assert not (tmp_path / "run").exists()
