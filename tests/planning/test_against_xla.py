"""The planner's bytes beside XLA's own HloCostAnalysis, on programs compiled here and for a TPU.

XLA's analysis knows neither how often a loop runs nor where an array lies, so each fusion becomes a module of its own,
and its operands and results count if they lie in main memory. It takes what a fusion gathers from, scatters into, or
slices behind a change of type, for the whole array: there the planner says less.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from jaxlib import _jax
from jaxlib.xla_client import hlo

from bertjax.planning.hlo import read_program
from bertjax.planning.work import operations

_ANNOTATIONS = re.compile(r", (metadata|frontend_attributes|sharding)=\{[^{}]*(\{[^{}]*\}[^{}]*)*\}")


def bytes_by_xla(text, fast=frozenset()):
    """(computation, fusion) -> bytes that it moves each time it runs."""
    computations, lines = _computations(text), {}
    for name, body in computations.items():
        for line in body.split("\n"):
            if found := re.match(r"\s+(?:ROOT )?(%([\w.\-]+) = .*)", line):
                lines[name, found[2]] = found[1]
    types = lambda where, name: re.match(r"%\S+ = (\((?:[^()]|\([^()]*\))*\)|\S+)", lines[where, name])[1]
    counted = {}
    for where, i, _, fused in read_program(text).walk():
        if fused or i.opcode != "fusion":
            continue
        operands = list(dict.fromkeys(i.operands))
        parameters = [f"  %{name} = {types(where.name, name)} parameter({n})" for n, name in enumerate(operands)]
        needed = _needed(lines[where.name, i.name], computations, [])
        module = "\n".join(
            [
                "HloModule one\n",
                *(computations[name] for name in needed),
                f"ENTRY %one ({', '.join(f'{n}: {_bare(types(where.name, n))}' for n in operands)}) -> "
                f"{_bare(types(where.name, i.name))} {{",
                *parameters,
                f"  ROOT {lines[where.name, i.name]}",
                "}\n",
            ]
        )
        cost = _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, hlo.hlo_module_from_text(module))
        # A single result is called out{}, several are out{0}, out{1}, ...
        results = ["out{}"] if len(i.shapes) == 1 else [f"out{{{n}}}" for n in range(len(i.shapes))]
        places = [*zip(results, i.shapes, strict=True)]
        places += [(f"{n}{{}}", shapes[0]) for n, shapes in enumerate(where.operand_shapes(i))]
        counted[where.name, i.name] = sum(
            cost.get(f"bytes accessed{key}", 0.0) for key, shape in places if shape.space not in fast
        )
    return counted


def _computations(text):
    """Name -> text, without what the compiler notes beside the instructions."""
    text = _ANNOTATIONS.sub("", re.sub(r", backend_config=\{.*\}$", "", text, flags=re.M))
    found = {}
    for head in re.finditer(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$", text, re.M):
        found[head[1]] = text[head.start() : text.index("\n}\n", head.start()) + 3]
    return found


def _needed(text, computations, found):
    """Names of the computations that a text calls, those that they call in front of them."""
    for name in re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", text):
        if name not in found:
            _needed(computations[name], computations, found)
            found.append(name)
    return found


def _bare(shape):
    return re.sub(r"\{[^}]*\}", "", shape)


def both(text, fast=frozenset()):
    """(share of the fusions on which both readings agree, ours, XLA's): bytes a step of all fusions."""
    expected = bytes_by_xla(text, fast)
    ours = {(o.where, o.name): (o.bytes / o.times, o.times) for o in operations(read_program(text), fast)}
    pairs = [(ours.get(key, (0.0, 1.0)), size) for key, size in expected.items()]
    agreed = sum(1 for (mine, _), size in pairs if mine == pytest.approx(size, abs=64))
    return agreed / len(pairs), sum(mine * n for (mine, n), _ in pairs), sum(size * n for (_, n), size in pairs)


@pytest.mark.parametrize("unroll", [1, 4])
def test_layers_compiled_for_this_machine(unroll):
    def loss(w, x):
        layer = lambda x, w: (x + jnp.tanh(jnp.sin(x) * w[None, :]) @ jnp.ones((64, 64)), x)
        y, kept = jax.lax.scan(layer, x, w, unroll=unroll)
        return jnp.sum(y) + jnp.sum(kept**2)

    text = jax.jit(jax.grad(loss)).lower(jnp.zeros((8, 64)), jnp.zeros((32, 64))).compile().as_text()
    agreed, ours, by_xla = both(text)
    assert ours == pytest.approx(by_xla, rel=0.05)
    assert agreed > 0.9
