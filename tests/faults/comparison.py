"""Whether a run that was disturbed is, bit for bit, the one that was not."""

from __future__ import annotations

from typing import Any

from runs import Run
from scene import STEPS

# What may differ between two runs that are the same.
OF_THE_CLOCK = {"seconds", "tokens_per_second", "mfu"}
# Folders and files that a finished run leaves; anything else is a leftover.
EXPECTED = {"checkpoints", "config.json", "metrics.jsonl", "model", "summary.json", "tokenizer", "report.html"}


def differences(run: Run, reference: Run) -> list[str]:
    """Everything in which a finished ``run`` is not the ``reference`` that nothing happened to."""
    found = []
    here, there = run.arrays(), reference.arrays()
    if here != there:
        names = [name for name in sorted(here | there) if here.get(name) != there.get(name)]
        found.append(f"{len(names)} arrays of the newest checkpoint differ, such as {names[0]}")
    for kind in ("train", "eval"):
        found += _rows_differ(kind, _of_kind(run, kind), _of_kind(reference, kind))
    found += _batches_differ(run, reference)
    return found + _leftovers(run)


def _of_kind(run: Run, kind: str) -> list[dict[str, Any]]:
    rows = [row for row in run.rows() if row["kind"] == kind]
    return [{name: value for name, value in row.items() if name not in OF_THE_CLOCK} for row in rows]


def _rows_differ(kind: str, here: list[dict[str, Any]], there: list[dict[str, Any]]) -> list[str]:
    if here == there:
        return []
    steps = [row["step"] for row in here]
    if steps != [row["step"] for row in there]:
        return [f"{kind} rows are of steps {steps}"]
    first = next(i for i in range(len(here)) if here[i] != there[i])
    names = [name for name in there[first] if here[first].get(name) != there[first][name]]
    return [f"{kind} row of step {steps[first]} differs in {', '.join(names)}"]


def _batches_differ(run: Run, reference: Run) -> list[str]:
    """Every update's rows the same whenever they were made, and no row of the run twice."""
    here, there = run.batches(), reference.batches()
    if sorted(here) != list(range(1, STEPS + 1)):
        return [f"batches were made for steps {sorted(here)}"]
    wrong = [step for step in here if here[step] != there.get(step)]
    if wrong:
        return [f"the batch of step {wrong[0]} is another one (of {len(wrong)} steps)"]
    rows = [digest for batch in here.values() for digests in batch.values() for digest in digests]
    return ["some rows came twice"] if len(set(rows)) < len(rows) else []


def _leftovers(run: Run) -> list[str]:
    left = [path.name for path in run.workdir.iterdir() if path.name not in EXPECTED and path.name != ".lock"]
    left += [path.name for path in (run.workdir / "checkpoints").iterdir() if not path.name.isdigit()]
    left += [str(path.relative_to(run.workdir)) for path in run.workdir.rglob("*tmp*")]
    return [f"left over: {', '.join(sorted(set(left)))}"] if left else []
