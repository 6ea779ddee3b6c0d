"""python tests/cases/any_text.py [--only=th,dna]: text of any kind, with the data's settings at their defaults.

Languages of the real data (BERTJAX_REAL_DATA), and protein, DNA, a log and a source file that are made here, each
through `prepare` and 100 steps of configs/tiny.py. A command that refuses must name a way out; that is followed, to
the letter, and the command has to succeed then. Of the text that is trained on, the share of its characters that is
still there after encoding and decoding is printed, as are the lines in which the commands warn or refuse.

Exit code 0 where every kind trains on text that is still itself, at once or as the line of a refusal or warning says.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bertjax.text.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]
LANGUAGES = ("zh", "ja", "de", "fr", "ru", "uk", "tr", "ar", "fa", "hi", "th", "ko", "th_news")
STEPS = 100
# Share of the characters, white space and case apart, that have to survive.
LEAST_KEPT = 0.98
# A flag that a line names as a way out; prepare has its own names for the same.
_FLAG = re.compile(r"--(?:config\.)?[a-z_.]+=[^\s;,'\"]+")


def protein(draw: random.Random) -> str:
    """Sequences of the 20 amino acids, a document each."""
    letters, families = "ACDEFGHIKLMNPQRSTVWY", []
    for _ in range(40):
        families.append("".join(draw.choices(letters, k=draw.randint(150, 600))))
    mutated = lambda family: "".join(draw.choice(letters) if draw.random() < 0.2 else c for c in family)
    return "\n\n".join(mutated(draw.choice(families)) for _ in range(1500))


def dna(draw: random.Random) -> str:
    """Reads of four letters, a document each."""
    genome = "".join(draw.choices("ACGT", weights=(3, 2, 2, 3), k=200_000))
    starts = [draw.randrange(len(genome) - 500) for _ in range(2000)]
    return "\n\n".join(genome[start : start + draw.randint(100, 500)] for start in starts)


def log(draw: random.Random) -> str:
    """Lines of a server, a blank line an hour."""
    hosts, paths = [f"10.0.{i}.{i * 7 % 255}" for i in range(30)], ["/", "/index.html", "/api/v1/items", "/login"]
    hours = []
    for hour in range(200):
        lines = []
        for second in sorted(draw.sample(range(3600), 60)):
            time = f"2026-11-{1 + hour // 24:02d}T{hour % 24:02d}:{second // 60:02d}:{second % 60:02d}Z"
            request = f"{draw.choice(hosts)} GET {draw.choice(paths)}?id={draw.randrange(10**6):x}"
            lines.append(f"{time} [INFO] {request} {draw.choice((200, 200, 304, 404, 500))} {draw.random():.3f}s")
        hours.append("\n".join(lines))
    return "\n\n".join(hours)


def source(draw: random.Random) -> str:
    """Functions of a program, a blank line after each."""
    names = [f"{a}_{b}" for a in ("read", "write", "parse", "merge") for b in ("rows", "index", "header", "block")]
    functions = []
    for number in range(1500):
        name, argument = draw.choice(names), draw.choice(("path", "rows", "buffer", "offset"))
        body = [f"def {name}_{number}({argument}, size={draw.randrange(4096)}):"]
        for _ in range(draw.randint(3, 9)):
            body.append(
                f"    {draw.choice('xyzn')} = {draw.choice(names)}({argument}[{draw.randrange(9)}] << {number})"
            )
        functions.append("\n".join([*body, f'    return {{"{name}": x, "n": n != {number}}}']))
    return "\n\n".join(functions)


MADE: dict[str, Callable[[random.Random], str]] = {"protein": protein, "dna": dna, "log": log, "source": source}


def run(command: list[str]) -> tuple[int, list[str]]:
    """(exit code, the lines that warn or refuse)."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    marked = re.compile(r"error|warning|note:|\[UNK\]|accent|sentence pairs|shown", re.IGNORECASE)
    return done.returncode, [line for line in lines if marked.search(line)]


def followed(command: list[str], prefix: str, notes: list[str]) -> int:
    """Runs a command, as long as it refuses with what its last line names; returns the exit code of the last run."""
    for _ in range(4):
        code, lines = run(command)
        notes += [f"    {line}" for line in lines]
        if code not in (2, 3):
            return code
        flags = [flag for line in lines if "error" in line.lower() for flag in _FLAG.findall(line)]
        # The first way out that is named, in this command's own spelling.
        flags = [flag.rstrip(".)") for flag in flags if flag.startswith("--config.") == (prefix == "--config.")][:1]
        if not flags or flags[0] in command:
            return code
        name = flags[0].partition("=")[0]
        command = [part for part in command if not part.startswith(f"{name}=")] + flags
        notes.append(f"    -> again with {flags[0]}")
    return code


def plain(text: str) -> Counter[str]:
    """The characters of a text, without white space, case, and accents of Latin and Greek letters."""
    found: Counter[str] = Counter()
    base = ""
    for character in unicodedata.normalize("NFKD", text.casefold()):
        if unicodedata.category(character) == "Mn" and base.startswith(("LATIN", "GREEK")):
            continue
        base = unicodedata.name(character, "")
        found[character] += not character.isspace()
    return found


def kept(text: str, workdir: Path) -> float:
    """Share of the characters of ``text`` that are there after encoding and decoding."""
    tokenizer = load_tokenizer(workdir / "tokenizer")
    unknown = tokenizer.token(tokenizer.unk_id)
    wanted, found = Counter(), Counter()
    for line in text.splitlines():
        if line.strip():
            wanted += plain(line)
            found += plain(tokenizer.decode(tokenizer.encode(line)).replace(unknown, ""))
    return (wanted & found).total() / max(1, wanted.total())


def trial(name: str, file: Path, folder: Path, text: str) -> tuple[bool, list[str]]:
    notes: list[str] = []
    prepare = [sys.executable, "-m", "bertjax.prepare", f"--input={file}", f"--output={folder / 'corpus'}"]
    prepared = followed(prepare, "--", notes)
    train = [sys.executable, "-m", "bertjax.train", "--config=configs/tiny.py", f"--config.data.corpus={file}"]
    train += [f"--config.phases.phase1.steps={STEPS}", "--config.phases.phase2.steps=0"]
    trained = followed([*train, f"--workdir={folder / 'run'}"], "--config.", notes)
    share = kept(text, folder / "run") if trained == 0 else 0.0
    shares = f"{share:.2%}"
    if trained == 0 and share < LEAST_KEPT:
        # Then there is a warning, with a way out that keeps the text.
        told = [flag for line in notes if "warning: " in line and "[UNK]" in line for flag in _FLAG.findall(line)]
        out = [flag for flag in told if flag.startswith("--config.")][:1]
        notes.append(f"    -> and as the warning says, with {out}")
        again = followed([*train, *out, f"--workdir={folder / 'again'}"], "--config.", notes) if out else 1
        share = kept(text, folder / "again") if again == 0 else share
        shares += f", and with {out} {share:.2%},"
    if trained == 0:
        held_out = json.loads((folder / "run" / "summary.json").read_text())["held_out"]
        figures = (f"{key} {value:.3f}" for key, value in held_out.items() if isinstance(value, float))
        notes.insert(0, f"    {', '.join(figures)}")
    good = prepared == trained == 0 and share >= LEAST_KEPT
    return good, [
        f"{'ok ' if good else 'BAD'} {name}: prepare {prepared}, train {trained}, {shares} of the characters kept",
        *notes,
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names, separated by commas")
    wanted = [name for name in parser.parse_args().only.split(",") if name]
    real = os.environ.get("BERTJAX_REAL_DATA")
    names = [*(LANGUAGES if real else ()), *MADE]
    bad = 0
    for name in [name for name in names if name in (wanted or names)]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            os.environ["BERTJAX_CACHE"] = str(folder / "cache")
            if name in MADE:
                file = folder / f"{name}.txt"
                text = MADE[name](random.Random(name))
                file.write_text(text, encoding="utf-8")
            else:
                file = Path(str(real)) / "languages" / f"{name}.jsonl.xz"
                with lzma.open(file, "rt", encoding="utf-8") as lines:
                    text = "\n".join(json.loads(line)["text"] for line in lines)
            good, notes = trial(name, file, folder, text[:400_000])
            bad += not good
            print("\n".join(notes), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
