"""The embedded corpus ``installed-docs``: prose from the docstrings of installed packages.

It is read, with ``ast``, from the source files of the standard library and of the packages that bertjax depends on;
nothing is imported. A module is a document.
"""

import ast
import functools
import gc
import hashlib
import importlib.metadata
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

# The direct dependencies at the time when the figures of this corpus were measured, so that it stays the same.
# Not read from bertjax's own metadata: a checkout has none.
DEPENDENCIES = (
    "absl-py",
    "array_record",
    "flax",
    "grain",
    "jax",
    "ml_collections",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "pyarrow",
    "rich",
    "safetensors",
    "scipy",
    "sentencepiece",
    "tensorboardX",
    "tensorflow-datasets",
    "tensorstore",
    "tokenizers",
    "zstandard",
)
_SKIPPED_FOLDERS = {"test", "tests", "_tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
_SKIPPED_FILE = re.compile(r"(test_.*|.*_test|conftest|.*_pb2)\.py$")
# Identical docstrings, and identical long paragraphs (parameters that many functions share), are kept once, so that
# held-out text is new text.
_LONG_PARAGRAPH = 300  # characters
_PROCESSES = 4

_DOCTEST = re.compile(r"\s*(?:>>>|\.\.\. |In \[\d+\]:|\$ )")
_RULE = re.compile(r"\s*([=\-~^\"'`#*+_.]{3,}|[=+|\-\s]{5,})\s*$")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_DIRECTIVE = re.compile(r"\s*\.\. ?(?:\w|\[|_|\|)")
_PROSE_DIRECTIVE = re.compile(
    r"\s*\.\. (?:note|warning|versionadded|versionchanged|deprecated|important|tip|seealso)::"
)
_FIELD = re.compile(r"\s*:(?:\w+)(?: [^:]*)?:\s*")
_SECTION = re.compile(r"\s*[A-Z][A-Za-z]*(?: [A-Za-z]+){0,2}:?\s*$")
# "x : array_like, optional" (numpy) alone on a line; "x (int): text" and "x: text" (Google) before text.
_PARAMETER_LINE = re.compile(r"\s*[*\w`.,\[\] ]{1,60} : ?(?:[\w`{('\"].{0,120})?$|\s*[*\w`.]{1,40}$")
_PARAMETER = re.compile(r"\s*[-*]?\s*`{0,2}\*{0,2}[\w.]+`{0,2}\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*:\s+(?=\S)")
_ROLE = re.compile(r":(?:\w+:)?\w+:`~?([^`<]*?)(?:\s*<[^`]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{0,2}")
_MARKS = re.compile(r"`{1,2}|\*\*(?=\S)|(?<=\S)\*\*|(?<=\w)_(?=\s)")
_TABLE = re.compile(r"(?:\|.*){4}|(?:\\[a-z]+\b.*){3}")
_LETTERS = re.compile(r"[A-Za-z]{2,}")


@functools.cache
def modules() -> dict[str, Path]:
    """Name -> source file of the modules of the standard library and of bertjax's dependencies, sorted by name."""
    found: dict[str, Path] = {}
    library = Path(sysconfig.get_paths()["stdlib"])
    for folder, folders, files in os.walk(library):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("config-")]
        for name in files:
            path = Path(folder) / name
            if _wanted(path.relative_to(library).parts):
                found.setdefault("python/" + path.relative_to(library).as_posix(), path)
    for distribution in dependency_closure().values():
        for file in distribution.files or ():
            if _wanted(file.parts):
                found.setdefault("packages/" + file.as_posix(), Path(str(distribution.locate_file(file))))
    return {name: path for name, path in sorted(found.items()) if path.is_file()}


def dependency_closure() -> dict[str, importlib.metadata.Distribution]:
    """Normalised name -> installed distribution, for everything that bertjax depends on, directly or not."""
    from packaging.requirements import InvalidRequirement, Requirement

    closure: dict[str, importlib.metadata.Distribution] = {}
    queue: list[tuple[str, str]] = [(name, "") for name in DEPENDENCIES]
    seen: set[tuple[str, str]] = set()
    while queue:
        name, extra = queue.pop()
        name = re.sub(r"[-_.]+", "-", name).lower()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        closure[name] = distribution
        for line in distribution.requires or ():
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                queue += [(requirement.name, wanted) for wanted in ("", *sorted(requirement.extras))]
    return closure


def fingerprint() -> tuple[str, int]:
    """(hex SHA-256 over all source files that are read, their size in bytes)."""
    digest, size = hashlib.sha256(), 0
    for name, path in modules().items():
        content = _read(path)
        size += len(content)
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest(), size


def documents() -> Iterator[tuple[str, int]]:
    """(prose, size of the source file in bytes) of each module in order; one paragraph per line, "" if it has none."""
    seen: set[bytes] = set()
    for paragraphs_by_docstring, size in _read_in_parallel():
        paragraphs: list[str] = []
        for docstring in paragraphs_by_docstring:
            if docstring and _is_new("\n".join(docstring), seen):
                paragraphs += [text for text in docstring if len(text) < _LONG_PARAGRAPH or _is_new(text, seen)]
        yield "\n".join(paragraphs), size


def _is_new(text: str, seen: set[bytes]) -> bool:
    key = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest()
    if key in seen:
        return False
    seen.add(key)
    return True


def _read_in_parallel() -> Iterator[tuple[list[list[str]], int]]:
    """(paragraphs of each docstring, bytes) of every module in order, read by as many processes as there are cores.

    Plain child processes, not ``multiprocessing``: that would run the caller's main module again, or fork its threads.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(cores, _PROCESSES))
    if count == 1:
        yield from map(read_module, modules().values())
        return
    root = str(Path(__file__).resolve().parents[__name__.count(".")])  # the folder of the package ``bertjax``
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    children = []
    try:
        for number in range(count):
            code = f"from {__name__} import write_modules; write_modules({number}, {count})"
            command = [sys.executable, "-c", code]
            children.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
        for index, path in enumerate(modules().values()):
            stream = children[index % count].stdout
            line = stream.readline() if stream else b""
            # If a child died, which it reports on standard error, its share is read here.
            yield tuple(json.loads(line)) if line.endswith(b"\n") else read_module(path)
    finally:
        for child in children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()


def write_modules(number: int, count: int) -> None:
    """Child process ``number`` of ``count``: writes one JSON line per module to standard output."""
    gc.disable()  # syntax trees have no cycles; looking for them takes a third of the time
    for path in itertools.islice(modules().values(), number, None, count):
        sys.stdout.write(json.dumps(read_module(path)) + "\n")
    sys.stdout.flush()


def read_module(path: Path) -> tuple[list[list[str]], int]:
    """(the paragraphs of each docstring of a module, its size in bytes)."""
    content = _read(path)
    return [prose(docstring) for docstring in _docstrings(content)], len(content)


def prose(docstring: str) -> list[str]:
    """The paragraphs of a docstring without doctests, code, tables, rules, section titles and parameter types."""
    paragraphs: list[str] = []
    current: list[str] = []

    def flush() -> None:
        text = " ".join(" ".join(current).split())
        current.clear()
        words = _LETTERS.findall(text)
        # At least four words, at least half of the characters letters of words, and no table or formula.
        if len(words) >= 4 and 2 * sum(map(len, words)) >= len(text) and not _TABLE.search(text):
            paragraphs.append(_MARKS.sub("", _LINK.sub(r"\1", _ROLE.sub(r"\1", text))))

    lines = inspect.cleandoc(docstring.replace("\r", "")).split("\n")
    code_indent: int | None = None  # inside a block that is indented more than this
    fenced = in_doctest = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        indent, following_indent = (len(text) - len(text.lstrip()) for text in (line, following))
        blank = not line.strip()
        if _FENCE.match(line):
            fenced = not fenced
            flush()
            continue
        if code_indent is not None and (blank or indent > code_indent):
            continue
        code_indent = None
        in_doctest = not (blank or fenced) and (in_doctest or bool(_DOCTEST.match(line)))
        title = _RULE.match(line) or (_RULE.match(following) and _SECTION.match(line))
        if blank or fenced or in_doctest or title:
            flush()
            continue
        if _DIRECTIVE.match(line):
            flush()
            if _PROSE_DIRECTIVE.match(line):
                current.append(line.split("::", 1)[1])
            else:
                code_indent = indent
            continue
        if following.strip() and following_indent > indent and _PARAMETER_LINE.match(line):
            flush()
            continue
        mark = _FIELD.match(line) or (_PARAMETER.match(line) if indent or not current else None)
        shorter = line[mark.end() :] if mark else line
        if shorter != line or re.match(r"\s*[-*•] ", line) or (_SECTION.match(line) and line.rstrip().endswith(":")):
            flush()
        if line.rstrip().endswith("::"):
            code_indent = indent
            current.append(shorter.rstrip()[:-1])
            flush()
            continue
        current.append(re.sub(r"^\s*[-*•] ", "", shorter))
    flush()
    return paragraphs


def _docstrings(content: bytes) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Expr):
            yield from _texts(node.value)
            continue
        for field in ("finalbody", "orelse", "handlers", "body"):
            children = getattr(node, field, ())
            stack += reversed([c for c in children if hasattr(c, "body") or isinstance(c, ast.Expr)])


def _texts(value: ast.expr) -> Iterator[str]:
    """A string as a statement (also below an attribute), and those passed to numpy's and scipy's ``add_newdoc``."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.Call) and getattr(value.func, "id", getattr(value.func, "attr", "")) == "add_newdoc":
        for node in ast.walk(value):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
                yield node.value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _wanted(parts: tuple[str, ...]) -> bool:
    name = parts[-1]
    return name.endswith(".py") and not _SKIPPED_FILE.match(name) and not _SKIPPED_FOLDERS.intersection(parts[:-1])
