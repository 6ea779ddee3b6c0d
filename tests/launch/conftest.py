"""Stand-ins for gcloud, kubectl, srun and others: programs on a PATH of their own that note how they are called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
# What the scripts call that is no cloud's: without these, nothing but the stand-ins is on their PATH.
_ORDINARY = (
    "awk bash cat chmod dirname grep gzip hostname id mkdir mv python3 rm sed seq sh sleep tail tar tee touch tr"
)

_STUB = """\
#!{python} -IS
import json, os, pathlib, sys

here, program = pathlib.Path({folder!r}), {program!r}
with (here / "calls").open("a") as log:
    log.write(json.dumps([program, *sys.argv[1:]]) + chr(10))
answers = json.loads((here / (program + ".json")).read_text())
said = " ".join(sys.argv[1:])
if not sys.stdin.isatty() and "--filename=-" in sys.argv:
    (here / "stdin").write_text(sys.stdin.read())
for index, (part, output, code) in enumerate(answers):
    if part in said:
        # An answer is given once, unless it is the last one for this question.
        if any(other[0] == part for other in answers[index + 1 :]):
            answers.pop(index)
            (here / (program + ".json")).write_text(json.dumps(answers))
        print(output)
        sys.exit(code)
"""


@dataclass
class Stage:
    """A PATH with stand-ins, and what was called."""

    folder: Path

    def stub(self, program: str, *answers: tuple[str, str, int]) -> None:
        """Makes a stand-in. An answer is (part of the arguments, output, exit code): the first that fits, each used
        once, the last one of a part for ever. Without one that fits: no output, exit code 0."""
        (self.folder / f"{program}.json").write_text(json.dumps(answers))
        path = self.folder / "bin" / program
        path.write_text(_STUB.format(python=sys.executable, folder=str(self.folder), program=program))
        path.chmod(0o755)

    def calls(self, *parts: str) -> list[list[str]]:
        """The calls whose command line has all these parts, in order."""
        log = self.folder / "calls"
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [call for call in calls if all(part in " ".join(call) for part in parts)]

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a script of launch/ with these variables and no others."""
        return subprocess.run(
            ["bash", str(LAUNCH / script), *arguments],
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=LAUNCH.parent,
            stdin=subprocess.DEVNULL,
        )

    def environment(self, **variables: str) -> dict[str, str]:
        return {"PATH": str(self.folder / "bin"), "HOME": str(self.folder), "TMPDIR": str(self.folder), **variables}


@pytest.fixture
def stage(tmp_path) -> Stage:
    (tmp_path / "bin").mkdir()
    for program in _ORDINARY.split():
        found = shutil.which(program)
        if found:
            (tmp_path / "bin" / program).symlink_to(found)
    return Stage(tmp_path)


@pytest.fixture(scope="session")
def shellcheck() -> Callable[[str], str]:
    """What shellcheck has to say about a script of launch/: nothing, if all is well."""
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("shellcheck is not installed")

    def check(script: str) -> str:
        command = [program, "--external-sources", f"launch/{script}"]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=LAUNCH.parent).stdout

    return check
