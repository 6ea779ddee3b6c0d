"""Who may import whom (DESIGN.md, section 2), read from the syntax trees."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bertjax"
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """Dotted names of everything a file imports, at any depth in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imports_any(path, *forbidden):
    return sorted(n for n in imported(path) if any(n == f or n.startswith(f + ".") for f in forbidden))


def rule(where, *forbidden):
    return [pytest.param(path, forbidden, id=str(path.relative_to(PACKAGE))) for path in FILES if where(path)]


def under(*folders):
    return lambda path: path.relative_to(PACKAGE).parts[0] in folders


def named(*names):
    return lambda path: str(path.relative_to(PACKAGE)) in names


PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

CASES = [
    *rule(named("keys.py", "batch.py"), "bertjax"),
    *rule(under("text", "data"), "jax", "flax", "optax", "bertjax.model", "bertjax.train", "bertjax.parallel"),
    *rule(under("model"), "optax", "orbax", "jax.sharding", "bertjax.data", "bertjax.train", "bertjax.parallel"),
    *rule(under("interop", "inference"), "optax", "orbax", "bertjax.data", "bertjax.train", "bertjax.parallel"),
    *rule(under("interop"), "bertjax.inference"),
    *rule(under("parallel"), "bertjax.model", "bertjax.train", "bertjax.data"),
    *rule(under("planning"), "bertjax.text", "bertjax.interop", "bertjax.inference"),
    *rule(lambda path: path.name != "plan.py" and "planning" not in path.parts, "bertjax.planning"),
    *rule(named("train/losses.py", "train/metrics.py"), "bertjax"),
    *rule(under("tasks"), "jax", "flax", "optax", "orbax", "bertjax.model", "bertjax.train", "bertjax.parallel"),
    *rule(under("tasks"), "bertjax.inference", "bertjax.interop", "bertjax.config", "bertjax.finetune"),
    # The page is made from files alone.
    *rule(under("reporting"), "jax", "flax", "optax", "orbax", *[f"bertjax.{p}" for p in PACKAGES if p != "reporting"]),
    *rule(named("finetune/settings.py", "finetune/batching.py"), "jax", "flax", "optax", "bertjax.model"),
    # What is fine-tuned is used elsewhere; the machine that does it is not.
    *rule(
        lambda path: path.name not in ("__main__.py", "__init__.py") and "finetune" not in path.parts,
        "bertjax.finetune",
    ),
    *rule(lambda path: True, "configs", "launch", "tests", "torch", "transformers", "tensorflow", "pickle"),
    *rule(
        lambda path: (
            path.relative_to(PACKAGE).parts[0] == "train"
            and path.name not in ("loop.py", "inputs.py", "initial.py", "standing.py", "stored_run.py", "__main__.py")
        ),
        "bertjax.data",
        "bertjax.text",
    ),
]


@pytest.mark.parametrize(("path", "forbidden"), CASES)
def test_imports(path, forbidden):
    assert imports_any(path, *forbidden) == []


def test_config_knows_nothing_but_how_keys_are_read():
    own = {name for name in imported(PACKAGE / "config.py") if name.startswith("bertjax")}
    assert own and all(name.startswith(("bertjax.keys", "bertjax.config_sections")) for name in own)


def test_no_landfill():
    assert not [p for p in FILES if p.stem in ("utils", "common", "helpers", "base", "misc")]


def test_files_have_one_screenful_of_duty():
    assert not [p for p in FILES if len(p.read_text().split("\n")) > 351]


def test_importing_bertjax_does_not_import_jax():
    import subprocess
    import sys

    code = "import bertjax, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False).returncode == 0


# The time of day is written down for people to see there.
SHOWS_TIME = ("train/event_files.py",)
WALL_CLOCKS = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime"},
    "datetime": {"datetime", "date"},
}


@pytest.mark.parametrize("path", [path for path in FILES if not named(*SHOWS_TIME)(path)], ids=str)
def test_the_wall_clock_measures_nothing(path):
    """It can jump, back too: spans of time come from time.monotonic, and whether a lease is renewed from its holder."""
    tree = ast.parse(path.read_text())
    used = {
        f"{n.value.id}.{n.attr}"
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    assert not used & {f"{module}.{name}" for module, names in WALL_CLOCKS.items() for name in names}
    assert not imported(path) & {f"{module}.{name}" for module, names in WALL_CLOCKS.items() for name in names}
