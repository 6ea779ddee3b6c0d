"""python docs/generate.py: writes the generated parts of the manual, between ``<!-- begin NAME -->`` and its end.

mkdocs loads this file, too: as a hook it puts README.md and launch/README.md into the site.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import re
import sys
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# Pages of the site that are files elsewhere in the repository.
ELSEWHERE = {"index.md": "README.md", "launch.md": "launch/README.md"}


def config_tables(module: str, kind: str) -> str:
    """A table of keys for each section of a config."""
    from bertjax.cli.config_help import sections

    parts = []
    for section, about, keys in sections(getattr(importlib.import_module(module), kind)):
        if keys:
            rows = ["| key | default | values | on resume | meaning |", "|---|---|---|---|---|"]
            for key in keys:
                name, meaning = key.name.removeprefix(section + "."), key.meaning.replace("|", "\\|")
                rows.append(f"| `{name}` | `{key.default}` | {key.values} | {key.on_resume} | {meaning} |")
            parts.append(f"### `{section}`\n\n{about.replace('``', '`')}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """The help of every command."""
    from bertjax.__main__ import COMMANDS, main

    parts = []
    for name, command in COMMANDS.items():
        with unittest.mock.patch.dict(os.environ, COLUMNS="110"), contextlib.redirect_stdout(io.StringIO()) as shown:
            main([name, "--help"])
        purpose = command.purpose[0].upper() + command.purpose[1:]
        parts.append(f"## {name}\n\n{purpose}.\n\n```text\n{shown.getvalue().rstrip()}\n```\n")
    return "\n".join(parts)


def tree() -> str:
    """Every module of the package with the first line of its docstring."""
    lines = ["bertjax/"]
    for folder, depth in _folders(ROOT / "bertjax", 0):
        if depth:
            lines.append(_line(folder.name + "/", depth, _first_line(folder / "__init__.py")))
        files = sorted(path for path in folder.glob("*.py") if path.stem != "__init__")
        lines += [_line(path.name, depth + 1, _first_line(path)) for path in files]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _folders(folder: Path, depth: int) -> list[tuple[Path, int]]:
    inside = sorted(path.parent for path in folder.glob("*/__init__.py"))
    return [(folder, depth)] + [pair for one in inside for pair in _folders(one, depth + 1)]


def _first_line(path: Path) -> str:
    """The first sentence of a module's docstring, of a long one what stands before the first colon or semicolon."""
    paragraph = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<!\.)(?<!et al)\.(?: |$)", paragraph, maxsplit=1)[0].replace("``", "")
    return re.split(r"[:;] ", sentence, maxsplit=1)[0] if len(sentence) > 115 else sentence


def _line(name: str, depth: int, text: str) -> str:
    return f"{'  ' * depth + name:<34}{text}".rstrip()


GENERATED: dict[str, dict[str, Callable[[], str]]] = {
    "config.md": {
        "config-pretraining": lambda: config_tables("bertjax.config", "RunConfig"),
        "config-finetuning": lambda: config_tables("bertjax.finetune.settings", "FinetuneConfig"),
    },
    "commands.md": {"commands": commands},
    "architecture.md": {"tree": tree},
}


def generated(page: str) -> str:
    """The text of a page with its generated parts made anew."""
    text = (DOCS / page).read_text()
    for name, make in GENERATED[page].items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make()}\n{end}{rest.split(end)[1]}"
    return text


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs's hook: the text of a page of ``ELSEWHERE``. Its links out of the manual are dropped."""
    source = ELSEWHERE.get(page.file.src_uri)
    if source is None:
        return markdown
    pages = {elsewhere: name for name, elsewhere in ELSEWHERE.items()}

    def link(match: re.Match[str]) -> str:
        label, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path:
            return match[0]
        place = (ROOT / source).parent.joinpath(path).resolve().relative_to(ROOT).as_posix()
        place = pages.get(place, place)
        if (DOCS / place).exists():
            return f"[{label}]({place}{hash_}{anchor})"
        if place.startswith("docs/"):
            return f"[{label}]({place.removeprefix('docs/')}{hash_}{anchor})"
        return f"`{label}`"

    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, (ROOT / source).read_text())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for page in GENERATED:
        (DOCS / page).write_text(generated(page))
