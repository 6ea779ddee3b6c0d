"""A prepared corpus that is not what its manifest says: refused before the first step, with the file's name."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import condition
import harms
import scene
from result import Result
from runs import Run

BAR = "refused against the manifest before the first step: exit code 3 and one line that names the file"


def corpus(count: int, seed: int) -> Result:
    """``count`` rounds over all cases: each file of the corpus, a new run and one that has begun."""
    result = Result("corpus", BAR)
    for number in range(seed, seed + count):
        for name, change in cases():
            _try(result, name, change, number, begun=False)
        for name, change in begun_cases():
            _try(result, name, change, number, begun=True)
    return result


def tried_like(ending: str, seed: int) -> Result:
    """The first of the cases whose name ends so, for a new run."""
    result = Result("corpus", BAR)
    name, change = next(case for case in cases() if case[0].endswith(ending))
    _try(result, name, change, seed, begun=False)
    return result


Change = Callable[[Path, random.Random], str]


def cases() -> list[tuple[str, Change]]:
    """Name of each case, and what it does to a corpus; that returns the name of the file to be told of."""
    arrays = [path for path in harms.files(prepared()) if path.endswith(".npy")]
    train = [path for path in arrays if "train.document" in path]
    held_out = next(path for path in arrays if "held_out.tokens" in path)
    kinds = ("flip", "truncate", "missing", "empty", "unreadable")
    found = [(f"{path} {kind}", _harmed(path, kind)) for path in (train[0], held_out) for kind in kinds]
    found += [(f"{train[0]} and {train[1]} swapped", _swapped(train[0], train[1]))]
    found += [
        (f"{other} and {held_out} swapped", _swapped(other, held_out)) for other in arrays if "train.tok" in other
    ]
    found += [("an array too many", _extra)]
    others = [path for path in arrays if path not in (train[0], held_out)]
    found += [(f"{path} {kind}", _harmed(path, kind)) for path in others for kind in ("flip", "truncate")]
    tokenizer = "tokenizer/vocab.txt"
    return found + [(f"{tokenizer} {kind}", _harmed(tokenizer, kind)) for kind in ("flip", "missing")]


def begun_cases() -> list[tuple[str, Change]]:
    """Those that a run is put to that has begun."""
    return [case for case in cases() if case[0].endswith((" flip", " truncate", "swapped"))][:6]


def _try(result: Result, name: str, change: Change, seed: int, begun: bool) -> None:
    run, corpus = Run("corpus", overrides=()), scene.new_folder("corpus") / "prepared"
    shutil.copytree(prepared(), corpus)
    arguments = [f"--config.data.corpus={corpus}"]
    wrong = []
    if begun:
        started = condition.end(run, None, *arguments, stop_at=1)
        wrong += [] if started.code == 75 else [f"the whole corpus was not accepted: {started.last()}"]
    told = change(corpus, random.Random(seed))
    ended = condition.end(run, condition.as_ordinary_user, *arguments, stop_at=1)
    wrong += ended.refused(3, Path(told).name)
    steps = [line for line in run.trace() if line["what"] == "done"]
    if len(steps) > begun:
        wrong.append("a step was made")
    result.tried += 1
    if wrong:
        again = f"python tests/faults/catalogue.py --only corpus --seed {seed} --count 1"
        result.failures.append(f"{name}{', begun' if begun else ''}: {'; '.join(wrong)}  [{again}]")
    result.figures["refused"] = f"{result.tried - len(result.failures)} of {result.tried}"
    shutil.rmtree(run.folder)
    shutil.rmtree(corpus.parent)


def prepared() -> Path:
    """The corpus of all runs. Not to be written to."""
    folder = scene.folder() / "prepared"
    if not folder.exists():
        # Other text than that of all other runs: of theirs there is a whole copy in the cache, which would be taken.
        text = scene.folder() / "prepared.txt"
        text.write_text((scene.config_file().parent / "corpus.txt").read_text() + "\n\nba ba. ba ba ba.\n")
        condition.forked(_prepare, text, folder).join()
    return folder


def _prepare(text: Path, folder: Path) -> None:
    from bertjax.data.corpus.prepared import prepare

    prepare([text], folder, vocab_size=400)


def _harmed(path: str, kind: str) -> Change:
    def change(corpus: Path, draw: random.Random) -> str:
        harms.HARMS[kind](corpus / path, draw)
        return path

    return change


def _swapped(one: str, other: str) -> Change:
    def change(corpus: Path, draw: random.Random) -> str:
        (corpus / one).rename(corpus / "aside")
        (corpus / other).rename(corpus / one)
        (corpus / "aside").rename(corpus / other)
        return min(one, other)

    return change


def _extra(corpus: Path, draw: random.Random) -> str:
    """An array that the corpus could have, and has not."""
    extra = "index/train.word_starts.npy"
    shutil.copy(corpus / "index/train.tokens.npy", corpus / extra)
    return extra


SHORT = ("flip", "truncate", "empty", "missing", "swapped", "an array too many", "tokens.npy flip")
FAULTS = {"corpus": corpus}
