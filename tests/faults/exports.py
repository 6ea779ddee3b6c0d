"""A workdir that is damaged, has another tokenizer or another config: it is never exported as something else."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_process
import scene
from harms import Trial, harm
from result import Result
from scene import STEPS
from whole import digests, whole

BAR = "none is exported wrong: the same model comes out, or exit code 3 and one line, and no folder"
# Of so many trials one is made of the whole command.
COMMAND_EVERY = 15
LIMIT_SECONDS = 120


def exports(count: int, seed: int) -> Result:
    """``count`` damaged workdirs, each exported by its newest step."""
    numbers = range(seed, seed + count)
    by_command = [number for number in numbers if number % COMMAND_EVERY == COMMAND_EVERY - 1]
    in_python = [number for number in numbers if number not in by_command]
    source = prepared()
    found = list(in_process.lines("exporting", in_python, source)) if in_python else []
    found += [_of_command(number, source) for number in by_command]
    return judged("exports", [*in_python, *by_command], found, {"commands": str(len(by_command))})


def judged(name: str, numbers: list[int], found: list[dict[str, Any]], figures: dict[str, str]) -> Result:
    """A result of what trials wrote down: ``done``, and ``outcome`` with ``detail`` once they ended."""
    result, outcomes = Result(name, BAR), Counter[str]()
    for number, line in zip(numbers, found, strict=True):
        result.tried += 1
        outcome = line.get("outcome", "took the process along")
        outcomes[outcome] += 1
        if outcome not in ("refused", "the same"):
            again = f"python tests/faults/catalogue.py --only {name} --seed {number} --count 1"
            result.failures.append(f"{line['done']}: {outcome}: {line.get('detail', '')[:300]}  [{again}]")
    result.figures = {outcome: str(times) for outcome, times in sorted(outcomes.items())} | figures
    return result


def prepared() -> Path:
    """A workdir of the newest step alone, without a model. Not to be written to."""
    folder = scene.new_folder("exports") / "source"
    other = shutil.ignore_patterns("model", "summary.json", "report.html", "metrics.jsonl", ".lock", "checkpoints")
    shutil.copytree(whole().workdir, folder, ignore=other)
    newest = Path("checkpoints") / str(STEPS)
    shutil.copytree(whole().workdir / newest, folder / newest)
    return folder


def spoilt(source: Path, workdir: Path, seed: int) -> str:
    """Copies the source to ``workdir`` and changes something there that the seed chooses; says what."""
    draw = random.Random(seed)
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.copytree(source, workdir)
    kind = draw.choices(list(CHANGES), [weight for weight, _ in CHANGES.values()])[0]
    return f"{kind}: {CHANGES[kind][1](workdir, draw)}"


def _flip(workdir: Path, draw: random.Random) -> str:
    return harm(workdir / "checkpoints" / str(STEPS), Trial("flip", draw.randrange(1 << 30)))


def _flip_arrays(workdir: Path, draw: random.Random) -> str:
    step = workdir / "checkpoints" / str(STEPS)
    files = sorted(str(path.relative_to(step)) for path in (step / "state").rglob("d/*"))
    (name,) = draw.choices(files, [(step / name).stat().st_size for name in files])
    return harm(step, Trial("flip", draw.randrange(1 << 30), name))


def _other_tokenizer(workdir: Path, draw: random.Random) -> str:
    """Files of a tokenizer of the same size: two pieces swapped, another case, other rules, a file gone."""
    folder = workdir / "tokenizer"
    names = sorted(path.name for path in folder.iterdir())
    kind = draw.choice(("swapped", "swapped", "settings", "settings", "missing", "flip"))
    if kind == "swapped":
        for name in ("vocab.txt", "tokenizer.json"):
            lines = (folder / name).read_text().split("\n") if name in names else []
            if name == "vocab.txt" and lines:
                one, other = draw.sample(range(5, len(lines) - 1), 2)
                lines[one], lines[other] = lines[other], lines[one]
                (folder / name).write_text("\n".join(lines))
                done = f"pieces {one} and {other} swapped"
            elif lines:
                (folder / name).unlink()  # which says the same once more
        return done
    if kind == "settings":
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        name = draw.choice(("do_lower_case", "strip_accents", "tokenize_chinese_chars"))
        settings[name] = not settings.get(name, name != "strip_accents")
        path.write_text(json.dumps(settings))
        return f"{name} = {settings[name]}"
    name = draw.choice(names)
    if kind == "missing":
        (folder / name).unlink()
        return f"{name} missing"
    content = bytearray((folder / name).read_bytes())
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    content[place] ^= 1 << bit
    (folder / name).write_bytes(content)
    return f"{name}: bit {bit} of byte {place} flipped"


def _edited_config(workdir: Path, draw: random.Random) -> str:
    """A value of the model changed in config.json, in one place or in all that say it."""
    path = workdir / "config.json"
    recorded = json.loads(path.read_text())
    key, value = draw.choice(EDITS)
    section, _, name = key.rpartition(".")
    recorded["config"][section][name] = value
    places = draw.choice(("config", "config and identity", "all"))
    if places != "config":
        recorded["identity"][key] = value
    if places == "all":
        sys.path.append(str(scene.ROOT))
        from bertjax.config_schema import fingerprint

        recorded["identity_fingerprint"] = fingerprint(recorded["identity"])
    path.write_text(json.dumps(recorded))
    return f"{key} = {value} in {places}"


EDITS: tuple[tuple[str, Any], ...] = (
    ("model.num_attention_heads", 1),
    ("model.num_attention_heads", 4),
    ("model.num_attention_heads", 16),
    ("model.hidden_act", "relu"),
    ("model.hidden_act", "gelu_new"),
    ("model.layer_norm_eps", 0.1),
    ("model.position_embedding_type", "sinusoidal"),
    ("model.vocab_size", 390),
    ("model.max_position_embeddings", 256),
    ("model.num_hidden_layers", 2),
    ("model.hidden_size", 32),
    ("data.lowercase", False),
)
CHANGES: dict[str, tuple[int, Callable[[Path, random.Random], str]]] = {
    "flip": (2, _flip),
    "flip in the arrays": (5, _flip_arrays),
    "tokenizer": (3, _other_tokenizer),
    "config": (3, _edited_config),
}


def contents(model: Path) -> dict[str, Any]:
    """Everything in an exported folder that means something: each tensor's bytes, each other file's hash."""
    from safetensors.numpy import load_file

    tensors = {name: tensor.tobytes() for name, tensor in load_file(model / "model.safetensors").items()}
    return tensors | {name: digest for name, digest in digests(model).items() if name != "model.safetensors"}


def outcome(code: int, error: str, output: Path, expected: dict[str, Any]) -> tuple[str, str]:
    """In a word what an export did, and what it said."""
    lines = error.strip().split("\n")
    if code == 0:
        return ("the same" if contents(output) == expected else "WRONG"), error
    if code == 3 and len(lines) == 1 and lines[0].startswith("error: "):
        return ("a folder is left" if output.exists() else "refused"), error
    return "unforeseen", f"exit code {code}: {error[-300:]}"


def _of_command(seed: int, source: Path) -> dict[str, Any]:
    folder = scene.new_folder("export")
    done = spoilt(source, folder / "run", seed)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(scene.ROOT), os.environ.get("PYTHONPATH")])),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(scene.compiled()),
    }

    def export(workdir: Path, output: Path) -> tuple[int, str]:
        command = [sys.executable, "-m", "bertjax.export", f"--workdir={workdir}", f"--output={output}"]
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS, check=False
        )
        return ended.returncode, ended.stderr

    code, error = export(folder / "run", folder / "out")
    expected: dict[str, Any] = {}
    if code == 0:
        export(source, folder / "expected")
        expected = contents(folder / "expected")
    name, detail = outcome(code, error, folder / "out", expected)
    if name in ("refused", "the same"):
        shutil.rmtree(folder)
    return {"done": f"{done}, by the command", "outcome": name, "detail": detail}


FAULTS = {"exports": exports}
