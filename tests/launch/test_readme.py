from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "launch" / "README.md").read_text()
SECTIONS = {text.split("\n", 1)[0].strip(): text for text in README.split("\n## ")}


def commands(section: str) -> tuple[dict[str, str], list[list[str]]]:
    """What a section exports, and the commands in it that call a script of launch/."""
    variables: dict[str, str] = {}
    calls = []
    for line in SECTIONS[section].splitlines():
        if line.startswith("    export "):
            variables |= dict(word.split("=", 1) for word in shlex.split(line)[1:])
        elif line.startswith("    launch/"):
            calls.append(shlex.split(line, comments=True))
    return variables, calls


@pytest.mark.parametrize(("section", "number"), [("4. The run", 4), ("6. The model, and the end", 1), ("GKE", 2)])
def test_the_commands_of_the_readme_run_dry(stage, section, number):
    variables, calls = commands(section)
    exported = {} if variables else commands("4. The run")[0]
    assert len(calls) == number
    for script, *arguments in calls:
        done = stage.run(script.removeprefix("launch/"), "--dry-run", *arguments, **exported, **variables)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_slurm_command_of_the_readme_runs_dry(stage):
    variables, _ = commands("SLURM")
    done = stage.run("slurm.sbatch", **variables, DRY_RUN="1")
    assert done.returncode == 0 and "--workdir=/shared/runs/bert-large" in done.stdout


def test_the_python_of_the_readme_is_python():
    (snippet,) = [part.split("```")[0] for part in README.split("```python\n")[1:]]
    ast.parse(snippet)
