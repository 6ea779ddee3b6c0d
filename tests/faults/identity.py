"""A run that is started again with something changed: what makes it another run is refused, by both values."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import condition
import scene
from condition import Ended
from result import Result
from runs import Run
from whole import copy, whole

BAR = "every change of identity refused with both values; operational changes accepted"
STEP = 15
# By the command; the value there and the one given now.
REFUSED = {
    "precision": ("'float32'", "bfloat16"),
    "seed": ("0", "1"),
    "model.hidden_size": ("16", "32"),
    "model.hidden_dropout_prob": ("0.1", "0.2"),
    "data.tokenizer": ("'wordpiece'", "sentencepiece"),
    "data.lowercase": ("True", "False"),
    "data.strip_accents": ("True", "False"),
    "data.masked_lm_prob": ("0.15", "0.2"),
    "data.corpus": ("corpus.txt", "installed-docs"),
    "optimizer.name": ("'bert2018'", "lamb"),
    "phases.phase1.steps": ("12", "11"),
    "phases.phase2.batch_size": ("8", "16"),
}
ACCEPTED = {
    "checkpoint.every_steps": "2",
    "checkpoint.keep": "1",
    "data.prefetch": "0",
    "logging.every_steps": "3",
    "evaluation.every_steps": "2",
    "evaluation.max_rows": "8",
    "name": "another",
}


def identity(count: int, seed: int) -> Result:
    """``count`` rounds over all changes."""
    result = Result("identity", BAR)
    for _ in range(count):
        for kind, case in (("keys", every_key), ("command", by_command), ("data", by_data)):
            for name, wrong in case():
                result.tried += 1
                result.figures[kind] = str(int(result.figures.get(kind, 0)) + 1)
                if wrong:
                    again = "python tests/faults/catalogue.py --only identity --count 1"
                    result.failures.append(f"{name}: {'; '.join(wrong)}  [{again}]")
    return result


Case = tuple[str, list[str]]


def every_key() -> Iterator[Case]:
    """Every key of the config changed alone, against the config.json of a run."""
    from bertjax.config import resolve
    from bertjax.errors import ConfigError
    from bertjax.train.open_corpus import BY_CONTENT
    from bertjax.workdir.config_json import check_same_run, recorded_config, with_recorded_identity

    workdir = whole().workdir
    recorded = recorded_config(workdir)
    run = resolve(runpy.run_path(str(scene.config_file()))["get_config"]())
    # As if it set every key; what was decided from the text is set to that.
    run = dataclasses.replace(with_recorded_identity(recorded, run), unset=frozenset())
    for name, is_identity, changed, values in _changed(run, "", lambda section: section):
        try:
            check_same_run(recorded, changed, workdir, BY_CONTENT)
            said = None
        except ConfigError as error:
            said = str(error)
        if not is_identity:
            yield name, [f"refused: {said}"] if said else []
        else:
            shown = f"{name} (there {values[0]!r}, here {values[1]!r})"
            yield name, [] if said and shown in said else [f"not refused as {shown}: {said}"]


def _changed(section: Any, path: str, rebuilt: Callable[[Any], Any]) -> Iterator[tuple[str, bool, Any, tuple]]:
    """(key, whether it is identity, the run with another value of it, both values as JSON has them) of every key."""
    from bertjax.config_schema import keys_of

    for field in keys_of(section):
        value, name = getattr(section, field.name), path + field.name
        put = lambda new, name=field.name: rebuilt(dataclasses.replace(section, **{name: new}))
        if field.name == "phases":
            for phase, inner in value.items():
                put_phase = lambda new, put=put, phases=value, phase=phase: put({**phases, phase: new})
                yield from _changed(inner, f"phases.{phase}.", put_phase)
        elif dataclasses.is_dataclass(value):
            yield from _changed(value, f"{name}.", put)
        else:
            other = _other(value, field.metadata.get("choices"))
            plain = tuple(list(v) if isinstance(v, tuple) else v for v in (value, other))
            yield name, field.metadata["identity"], put(other), plain


def _other(value: Any, choices: tuple[str, ...] | None) -> Any:
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return (*value, "more") if isinstance(value, tuple) else "another" if value is None else value + "-another"


def by_command() -> Iterator[Case]:
    """Some of them by the command itself."""
    run = copy("identity", STEP)
    before = run.arrays()
    for key, (there, here) in REFUSED.items():
        ended = condition.end(run, None, f"--config.{key}={here}")
        yield f"--config.{key}={here}", ended.refused(2, key, f"there {there}" if there[0] != "c" else there, here)
    yield "refused starts leave the run as it was", [] if run.arrays() == before else ["the newest checkpoint changed"]
    ended = condition.end(run, None, *(f"--config.{key}={value}" for key, value in ACCEPTED.items()))
    yield ", ".join(ACCEPTED), _went_on(ended, run)
    shutil.rmtree(run.folder)


def by_data() -> Iterator[Case]:
    """The text and the tokenizer changed behind the same config, and checkpoints put into another run's workdir."""
    yield from text_changed()
    yield from tokenizer_changed()
    yield of_another_run()


def text_changed() -> Iterator[Case]:
    run, config, cache = Run("text"), scene.new_folder("text") / "config.py", scene.new_folder("cache")
    text = config.parent / "corpus.txt"
    text.write_text((scene.folder() / "corpus.txt").read_text())
    config.write_text(scene.CONFIG.format(corpus=str(text)))
    start = lambda stop_at: condition.end(run, config=config, cache=cache, stop_at=stop_at)
    yield "a run on a text", _stopped(start(2))
    # A prepared corpus is what the run began with, whatever has become of the text since.
    text.write_text(text.read_text().replace("b", "p"))
    yield "the text changed, its prepared corpus still there", _stopped(start(4))
    shutil.rmtree(cache)
    yield "the text changed, and prepared again", _both_fingerprints(start(6), run)
    text.write_text((scene.folder() / "corpus.txt").read_text())
    shutil.rmtree(cache)
    yield "the text as it was, prepared again", _stopped(start(6))
    shutil.rmtree(run.folder)


def tokenizer_changed() -> Iterator[Case]:
    run, cache = Run("tokenizer"), scene.new_folder("cache")
    tokenizer = scene.new_folder("tokenizer") / "own"
    shutil.copytree(whole().workdir / "tokenizer", tokenizer)
    start = lambda stop_at: condition.end(
        run, None, f"--config.data.tokenizer={tokenizer}", cache=cache, stop_at=stop_at
    )
    yield "a run with a tokenizer", _stopped(start(2))
    _swap_words(tokenizer)
    yield "the tokenizer changed, the prepared corpus still there", _stopped(start(4))
    shutil.rmtree(cache)
    yield "the tokenizer changed, the corpus prepared again", _both_fingerprints(start(6), run)
    shutil.rmtree(run.folder)


def _swap_words(tokenizer: Path) -> None:
    """Two words of the vocabulary change places."""
    words = (tokenizer / "vocab.txt").read_text().split("\n")
    one, other = words[100], words[101]
    words[100], words[101] = other, one
    (tokenizer / "vocab.txt").write_text("\n".join(words))
    path = tokenizer / "tokenizer.json"
    if path.exists():
        content = json.loads(path.read_text())
        vocabulary = content["model"]["vocab"]
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
        path.write_text(json.dumps(content))


def of_another_run() -> Case:
    """The checkpoints of a run with another seed: all shapes are the same."""
    run, other = copy("identity", STEP), Run("other")
    ended = condition.end(other, None, "--config.seed=7", stop_at=2)
    wrong = _stopped(ended)
    shutil.rmtree(run.workdir / "checkpoints")
    shutil.copytree(other.workdir / "checkpoints", run.workdir / "checkpoints")
    ended = condition.end(run)
    # A record knows the fingerprint of the config only; both are shown.
    shown = [json.loads((r.workdir / "config.json").read_text())["identity_fingerprint"] for r in (run, other)]
    wrong += ended.refused(2, "of another run", *shown)
    return "the checkpoints of a run with another seed", wrong


def _stopped(ended: Ended) -> list[str]:
    return [] if ended.code == 75 else [f"exit code {ended.code} and not 75: {ended.last()}"]


def _went_on(ended: Ended, run: Run) -> list[str]:
    if ended.code != 0:
        return [f"exit code {ended.code}: {ended.last()}"]
    return [] if run.arrays() == whole().arrays() else ["it ended with other arrays than the undisturbed run"]


def _both_fingerprints(ended: Ended, run: Run) -> list[str]:
    recorded = json.loads((run.workdir / "config.json").read_text())["corpus"]["fingerprint"]
    return ended.refused(2, "the corpus has changed", f"there {recorded[:12]}")


FAULTS = {"identity": identity}
