"""The README and the manual: their commands, code, paths and links are true, and the generated parts are up to date."""

import ast
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

import bertjax
import bertjax.__main__ as bertjax_main
from bertjax import benchmark, config, plan
from bertjax.cli import command, flags
from bertjax.cli.config_help import sections
from bertjax.cluster import training_command
from bertjax.finetune import settings

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "launch/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_hand(page):
    """The text of a page without its generated parts."""
    return re.sub(r"<!-- begin (\S+) -->.*?<!-- end \1 -->", "", page.read_text(), flags=re.DOTALL)


def commands(page):
    """The commands of bertjax in a page: lines of indented blocks, and code within a line. Without comments,
    redirections and what stands before or after them."""
    text = BLOCK.sub("", by_hand(page)).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("    ")] + re.findall(r"`([^`\n]+)`", text)
    for line in lines:
        if not re.search(r"(^|\s)(bertjax|python -m bertjax\.\w+) ", line):
            continue
        for part in re.split(r"&&|\||<|>", line):
            words = shlex.split(part, comments=True)
            if words[:1] == ["bertjax"] and len(words) > 1:
                yield words[1:]
            elif words[:2] == ["python", "-m"] and words[2].startswith("bertjax."):
                yield [words[2].removeprefix("bertjax."), *words[3:]]


def python_blocks(page):
    return [code for kind, code in BLOCK.findall(by_hand(page)) if kind == "python"]


def test_the_readme_is_one_screen_and_says_what_is_not_measured():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 120
    assert "has not been measured" in text[:1500]


@pytest.mark.parametrize("name", NAMES)
def test_commands_would_start(name, monkeypatch, tmp_path, capsys):
    """Every command line is parsed by the command itself, and its config resolved; nothing is run."""
    page = ROOT / name
    monkeypatch.chdir(tmp_path)
    for code in python_blocks(page):
        if code.startswith('"""bertjax train --config=mine.py'):
            Path("mine.py").write_text(code)
    checked = {"bertjax.finetune": settings.resolve}

    def parse(program, argv, options, parse=flags.parse):
        found, chosen = parse(program, argv, options)
        checked.get(program, config.resolve)(found)
        return found, chosen

    monkeypatch.setattr(flags, "parse", parse)
    monkeypatch.setattr(training_command, "run_in_cluster", lambda cluster, job: 0)
    for module in (plan, benchmark):
        monkeypatch.setattr(module, "_run", lambda *_: None)
    monkeypatch.setattr(command.ArgumentParser, "run", lambda self, argv, job: self.parse_args(argv) and 0)
    found = list(commands(page))
    for argv in found:
        if argv[0] == "COMMAND" or "..." in " ".join(argv):
            continue
        assert argv[0] in bertjax_main.COMMANDS, argv
        if len(argv) == 1:  # its name in a sentence
            continue
        try:
            code = bertjax_main.main(argv)
        except SystemExit as end:  # argparse's, also after a help
            code = end.code
        assert code == 0, (argv, capsys.readouterr().err)
    if name in ("README.md", "docs/tutorial.md", "docs/finetuning.md", "docs/use.md"):
        assert len(found) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_config_keys_exist(name):
    rows = [
        key.name for kind in (config.RunConfig, settings.FinetuneConfig) for *_, keys in sections(kind) for key in keys
    ]
    keys = {row.removeprefix("config.") for row in rows}
    parts = {key.split(".")[0] for key in keys if "." in key}
    text = by_hand(ROOT / name)
    named = re.findall(r"--config\.([a-z][\w.]*\w)", text)
    named += [word for word in re.findall(r"`([a-z]\w*\.\w+(?:\.\w+)?)`", text) if word.split(".")[0] in parts]
    for word in named:
        key = re.sub(r"^phases\.\w+\.", "phases.NAME.", word)
        assert key in keys or key.endswith((".py", ".tsv", ".jsonl", ".json")) or "architecture" in name, word


@pytest.mark.parametrize("name", NAMES)
def test_python_is_python_and_its_names_exist(name):
    for code in python_blocks(ROOT / name):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("bertjax"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bertjax":
                assert hasattr(bertjax, node.attr), node.attr


@pytest.mark.parametrize("name", NAMES)
def test_files_and_links_exist(name):
    page = ROOT / name
    text = page.read_text()
    for path in set(re.findall(r"(?:^|[`\s(])((?:bertjax|tests|configs|docs|launch)/[\w./-]*\w)", by_hand(page))):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        assert other.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", BLOCK.sub("", other.read_text()), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, target


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="argparse shows its help in another form")
@pytest.mark.parametrize("page", ["config.md", "commands.md", "architecture.md"])
def test_generated_parts_are_up_to_date(page):
    assert (ROOT / "docs" / page).read_text() == generator().generated(page), "run python docs/generate.py"


def test_the_tables_of_keys_have_every_key_once():
    table = generator().config_tables("bertjax.finetune.settings", "FinetuneConfig")
    rows = re.findall(r"^\| `\w+` \|", table, re.MULTILINE)
    assert len(rows) == sum(len(keys) for *_, keys in sections(settings.FinetuneConfig)) > 50
    assert all(line.count("|") == 6 for line in table.splitlines() if line.startswith("|"))


def test_every_page_is_in_the_navigation():
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)) == pages


def test_every_file_has_its_line_in_the_tree():
    tree = generator().tree()
    lines = tree.splitlines()[2:-1]
    files = [path for path in (ROOT / "bertjax").rglob("*.py") if path.stem != "__init__"]
    assert sum(".py " in line for line in lines) == len(files)
    assert not [line for line in lines if len(line.split(None, 1)) < 2], "a module without a docstring"
