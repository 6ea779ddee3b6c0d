"""Rollbacks past damaged checkpoints: the run goes on to its end, or ends with one line."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from typing import Any

import in_process
import scene
import setbacks
from result import Result
from runs import Run
from whole import OVERRIDES, whole

BAR = "all go on to the end, with every step, row and document once, or end with one line"
FINE = ("went on", "one line")


def rollbacks(count: int, seed: int) -> Result:
    """``count`` runs: of ten, eight in one process through Python, one by the command, one by two processes."""
    numbers = range(seed, seed + count)
    by_command = {number: 1 + number % 2 for number in numbers if number % 10 >= 8}
    in_python = [number for number in numbers if number not in by_command]
    found = dict(zip(in_python, _in_python(in_python), strict=True))
    found |= {number: _by_command(number, processes) for number, processes in by_command.items()}
    result, outcomes = Result("rollbacks", BAR), Counter[str]()
    for number, line in sorted(found.items()):
        result.tried += 1
        outcome = line.get("outcome", "took the process along")
        outcomes[outcome] += 1
        if outcome not in FINE:
            again = f"python tests/faults/catalogue.py --only rollbacks --seed {number} --count 1"
            result.failures.append(f"{line['done']}: {outcome}: {line.get('detail', '')[:400]}  [{again}]")
    result.figures = {outcome: str(times) for outcome, times in sorted(outcomes.items())}
    result.figures |= {f"by {n} process{'es' * (n > 1)}": str(list(by_command.values()).count(n)) for n in (1, 2)}
    return result


def _in_python(numbers: list[int]) -> list[dict[str, Any]]:
    return list(in_process.lines("rolling", numbers, whole().workdir, scene.config_file())) if numbers else []


def _by_command(number: int, processes: int) -> dict[str, Any]:
    plan = setbacks.drawn(number)
    run = Run("rollback", count=processes, overrides=OVERRIDES)
    copy_from(whole().workdir, run.workdir, plan.start)
    start = run.start(setbacks=plan.setbacks)
    codes = start.wait()
    texts = [log.read_text(errors="replace") for log in start.logs]
    done = f"from step {plan.start}, {plan.setbacks}, by {processes} process{'es' * (processes > 1)}"
    outcome, detail = _judged(run, codes, texts)
    if outcome in FINE:
        shutil.rmtree(run.folder)
    return {"done": done, "outcome": outcome, "detail": detail}


def _judged(run: Run, codes: list[int | None], texts: list[str]) -> tuple[str, str]:
    last = " || ".join(" / ".join(text.strip().split("\n")[-3:]) for text in texts)
    if any("Traceback" in text for text in texts) or len(set(codes)) != 1:
        return "unforeseen", f"exit codes {codes}: {last}"
    errors = [re.findall(r"^(?:\[\d+\] )?error: .*", text, re.MULTILINE) for text in texts]  # [1]: of process 1
    if codes[0] in (3, 4):
        return ("one line", last) if all(len(lines) == 1 for lines in errors) else ("not one line", last)
    if codes[0] != 0 or any(errors):
        return "unforeseen", f"exit codes {codes}: {last}"
    steps = [row["step"] for row in run.rows() if row["kind"] == "train"]
    return ("went on", "") if steps == list(range(1, scene.STEPS + 1)) else ("WRONG", f"train rows of steps {steps}")


def copy_from(source, workdir, step: int) -> None:
    """A copy of the whole run as it was when it had saved ``step``."""
    later = [str(save) for save in scene.SAVES if save > step]
    shutil.copytree(source, workdir, ignore=shutil.ignore_patterns(*later, "model", "summary.json", "report.html"))


FAULTS = {"rollbacks": rollbacks}
