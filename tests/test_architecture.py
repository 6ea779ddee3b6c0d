"""Who may import whom, read from the syntax trees."""

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
GROUND = (
    "errors",
    "attention_kernels",
    "config",
    "config_schema",
    "config_sections",
    "memory",
)  # modules at the top that everything may import
JAX = ("jax", "flax", "optax", "orbax")


def only(*allowed):
    """Every package and module at the top of bertjax but these."""
    top = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "configs"}
    assert set(allowed) <= top, allowed
    return [f"bertjax.{name}" for name in sorted(top - set(allowed))]


CASES = [
    *rule(named("errors.py", "batch.py"), "bertjax"),
    *rule(named("config_schema.py", "attention_kernels.py"), *only("errors"), *JAX),
    *rule(
        named("config.py", "config_sections.py"),
        *only("errors", "attention_kernels", "config_schema", "config_sections"),
    ),
    *rule(under("cli"), *only("cli", *GROUND), *JAX),
    *rule(under("text"), *only("text", "cli", *GROUND), *JAX),
    *rule(under("data"), *only("data", "text", "cli", "batch", "unfinished", *GROUND), *JAX),
    *rule(under("tasks"), *only("tasks", "text", "data", "cli", *GROUND), *JAX),
    *rule(under("model"), *only("model", *GROUND), "optax", "orbax", "jax.sharding"),
    *rule(under("parallel"), *only("parallel", *GROUND)),
    *rule(under("cluster"), *only("cluster", "cli", "errors")),
    *rule(under("objectives"), *only("objectives", "model", "data", "batch", *GROUND), "orbax"),
    # Arrays and functions: neither text nor corpus, neither task nor objective.
    *rule(under("engine"), *only("engine", "model", "parallel", "cluster", "cli", "batch", "unfinished", *GROUND)),
    *rule(under("interop", "inference"), "optax", "orbax"),
    *rule(under("interop"), *only("interop", "model", "text", "cli", "unfinished", *GROUND)),
    *rule(under("inference"), *only("inference", "interop", "model", "tasks", "text", "cli", *GROUND)),
    *rule(under("evaluation"), "bertjax.train", "bertjax.finetune", "bertjax.planning", "bertjax.cluster"),
    *rule(under("planning"), "bertjax.text", "bertjax.interop", "bertjax.inference"),
    *rule(
        lambda path: path.name != "plan.py" and not {"planning", "benchmarking"} & set(path.parts), "bertjax.planning"
    ),
    *rule(lambda path: path.name != "benchmark.py" and "benchmarking" not in path.parts, "bertjax.benchmarking"),
    *rule(named("benchmarking/registry.py"), *only("benchmarking"), *JAX),
    # The page is made from files alone.
    *rule(under("reporting"), *only("reporting", "unfinished"), *JAX),
    *rule(under("train"), "bertjax.finetune"),
    *rule(under("finetune"), "bertjax.train"),
    *rule(named("finetune/settings.py", "finetune/batching.py"), *JAX, "bertjax.model"),
    # What is fine-tuned is used elsewhere; the machine that does it is not.
    *rule(
        lambda path: path.name not in ("__main__.py", "__init__.py") and "finetune" not in path.parts,
        "bertjax.finetune",
    ),
    *rule(lambda path: True, "configs", "launch", "tests", "torch", "transformers", "tensorflow", "pickle"),
]


@pytest.mark.parametrize(("path", "forbidden"), CASES)
def test_imports(path, forbidden):
    assert imports_any(path, *forbidden) == []


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(files):
    """module -> modules of the package that it imports, at any depth in it, be it for types alone. The front door,
    ``bertjax`` itself, names what it opens to, and its version is read by others."""
    modules, graph = {module_name(path) for path in files}, {}
    for path in files:
        names = imported(path)
        # ``from package import module`` names both; the package itself is imported for the module alone.
        names -= {n.rpartition(".")[0] for n in names & modules if n.rpartition(".")[2] != "*"}
        graph[module_name(path)] = (names & modules) - {module_name(path), "bertjax"}
    return graph


def circle(graph):
    """Names that import each other in a ring, or nothing."""
    done, path = set(), []

    def walk(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        found = next(filter(None, map(walk, sorted(graph.get(name, ())))), [])
        path.pop()
        done.add(name)
        return found

    return next(filter(None, map(walk, sorted(graph))), [])


def package_of(name, packages):
    """The package that a module lies in; a module at the top stands for itself."""
    return name if name in packages else max((p for p in packages if name.startswith(p + ".")), key=len)


def package_graph(graph):
    packages = {module_name(path) for path in FILES if path.name == "__init__.py"}
    between = {}
    for name, others in graph.items():
        here = package_of(name, packages)
        here = name if here == "bertjax" else here
        for other in others:
            there = package_of(other, packages)
            there = other if there == "bertjax" else there
            # A package within another is a part of it.
            if not (here + ".").startswith(there + ".") and not (there + ".").startswith(here + "."):
                between.setdefault(here, set()).add(there)
    between.pop("bertjax", None)
    return between


def test_no_module_imports_itself_on_a_way_round():
    assert circle(import_graph(FILES)) == []


def test_no_package_imports_itself_on_a_way_round():
    assert circle(package_graph(import_graph(FILES))) == []


def test_a_circle_of_packages_is_found():
    graph = {"bertjax.engine.step": {"bertjax.model.bert"}, "bertjax.model.create": {"bertjax.engine.fit"}}
    assert circle(package_graph(graph)) == ["bertjax.engine", "bertjax.model", "bertjax.engine"]
    graph = {"bertjax.data.corpus.files": {"bertjax.data.stream.blocks"}}
    graph["bertjax.data.stream.blocks"] = {"bertjax.data.corpus.files"}
    assert circle(package_graph(graph)) == ["bertjax.data.corpus", "bertjax.data.stream", "bertjax.data.corpus"]


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


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
SHOWS_TIME = ("engine/event_files.py",)
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
