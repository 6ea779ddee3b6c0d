"""Reads the text of an optimised XLA program: computations, instructions, shapes, and how often each loop runs."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

_BITS = re.compile(r"[a-z]+(\d+)")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{[^}]*?(?:S\((\d+)\)[^}]*)?\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_SOURCE = re.compile(r'op_name="([^"]*)"')
_TRIPS = re.compile(r'"?known_trip_count"?:?\s*=?\{"?n"?:"?(\d+)"?\}')


@dataclass(frozen=True)
class Shape:
    """One array: dtype, dims, and XLA's number of the memory it lies in (0: the device's main memory)."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        found = _BITS.match(self.dtype)
        bits = 8 if self.dtype == "pred" else int(found[1]) if found else 0  # a token has no data
        return (self.elements * bits + 7) // 8


@dataclass(frozen=True)
class Instruction:
    """``name = shapes opcode(operands), attributes``; a tuple has several shapes."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    def attribute(self, key: str) -> str:
        """The text of ``key=...`` up to the next comma or blank outside brackets, or an empty one."""
        match = re.search(rf"\b{key}=", self.attributes)
        return self.attributes[match.end() :][: _end(self.attributes[match.end() :])] if match else ""

    @property
    def source(self) -> str:
        """The ``op_name`` of its metadata: the functions and the primitive that it was traced from."""
        found = _SOURCE.search(self.attributes)
        return found[1] if found else ""

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it runs (a loop's condition is not among them)."""
        branches = _BRANCHES.search(self.attributes)
        return (*_CALLED.findall(self.attributes), *(_NAME.findall(branches[1]) if branches else ()))


@dataclass(frozen=True)
class Computation:
    """Instructions in the order in which they are scheduled."""

    name: str
    instructions: tuple[Instruction, ...]

    @cached_property
    def by_name(self) -> dict[str, Instruction]:
        return {i.name: i for i in self.instructions}

    @cached_property
    def root(self) -> Instruction:
        return next((i for i in self.instructions if i.is_root), self.instructions[-1])

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Instruction name -> those that take it as an operand."""
        found: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for operand in dict.fromkeys(instruction.operands):
                found.setdefault(operand, []).append(instruction)
        return found

    def operand_shapes(self, instruction: Instruction) -> list[tuple[Shape, ...]]:
        return [self.by_name[name].shapes if name in self.by_name else () for name in instruction.operands]

    def synchronous(self, instruction: Instruction) -> Instruction:
        """The first half of an asynchronous pair as the plain operation; anything else as it is.

        A ``copy-start`` yields (copy, original, context), an ``all-reduce-start`` the sums, and every other one its
        operands, its results, and scalars as context.
        """
        base, _, half = instruction.opcode.rpartition("-")
        if half != "start" or base == "async":  # what async-start runs is a computation of its own
            return instruction
        results = instruction.shapes
        if base == "copy":
            results = results[:1]
        elif base != "all-reduce":
            results = results[sum(map(len, self.operand_shapes(instruction))) :]
            while len(results) > 1 and results[-1].dims == () and results[-1].dtype in ("s32", "u32"):
                results = results[:-1]
        return replace(instruction, opcode=base, shapes=results)


@dataclass(frozen=True)
class Program:
    """All computations of a module, and the name of the one that runs first."""

    computations: dict[str, Computation]
    entry: str

    def walk(
        self, name: str = "", times: float = 1.0, fused: bool = False
    ) -> Iterator[tuple[Computation, Instruction, float, bool]]:
        """Every instruction that runs, from the computation ``name`` or the entry on: (where it stands, itself, times a
        step, whether inside a fusion). Of a conditional's branches only the one that does the most is taken."""
        computation = self.computations[name or self.entry]
        for instruction in computation.instructions:
            yield computation, instruction, times, fused
            opcode = instruction.opcode.removesuffix("-start")
            if opcode in _RUNS:
                trips = self.trips(computation, instruction) if opcode == "while" else 1
                called = instruction.called
                if opcode == "conditional":
                    called = (max(called, key=self._written),)
                for name in called:
                    yield from self.walk(name, times * trips, fused or opcode == "fusion")

    def _written(self, name: str) -> float:
        """Bytes of all results in a computation: tells the branch that does the work from the one that skips it."""
        parts = (times * sum(s.bytes for s in i.shapes) for _, i, times, _ in self.walk(name) if i.opcode not in NAMES)
        return sum(parts)

    def trips(self, where: Computation, loop: Instruction) -> int:
        """Times that a loop runs: as the compiler wrote it, else from its counter's start, step and constant bound.

        TPU programs do not say; their counter is a member of the loop's tuple that the condition compares with a
        constant. A loop that cannot be read so is taken to run once.
        """
        known = _TRIPS.search(loop.attributes)
        if known:
            return int(known[1])
        condition = self.computations[loop.attribute("condition").lstrip("%")]
        body = self.computations[loop.attribute("body").lstrip("%")]
        compared = [condition.by_name[name] for name in condition.root.operands if name in condition.by_name]
        counters = [i for i in compared if i.opcode == "get-tuple-element"]
        bounds = [int(i.arguments) for i in compared if i.opcode == "constant" and i.arguments.lstrip("-").isdigit()]
        if len(counters) != 1 or len(bounds) != 1:
            return 1
        index = int(counters[0].attribute("index"))
        before = where.by_name.get(loop.operands[0])
        start = _sum(where, before.operands[index]) if before and before.opcode == "tuple" else 0
        step = _sum(body, body.root.operands[index]) if body.root.opcode == "tuple" else 1
        last = bounds[0] + (condition.root.attribute("direction") in ("LE", "GE"))
        return max(1, -(-(last - (start or 0)) // (step or 1)))


def _sum(computation: Computation, name: str) -> int:
    """The sum of the constants that were added to make a value; what the loop hands in counts as 0."""
    i = computation.by_name[name]
    if i.opcode == "constant":
        return int(i.arguments) if i.arguments.lstrip("-").isdigit() else 0
    if i.opcode in ("add", "copy", "bitcast"):
        return sum(_sum(computation, operand) for operand in i.operands)
    return 0


# What runs the computations it names; reductions and comparators of other instructions do not count as separate work.
_RUNS = ("while", "fusion", "call", "conditional", "async")
# What only names data that is there already.
NAMES = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier")


def read_program(text: str) -> Program:
    """The program in ``compiled.as_text()``."""
    computations, entry, name, lines = {}, "", "", []
    for line in text.split("\n"):
        if line == "}" and name:
            computations[name] = Computation(name, tuple(map(read_instruction, lines)))
            name = ""
        elif name:
            if _INSTRUCTION.match(line):
                lines.append(line)
            elif lines:  # a kernel's metadata takes several lines, which may begin with a bracket
                lines[-1] += line
        elif match := _COMPUTATION.match(line):
            name, lines = match[2], []
            entry = name if match[1] else entry
    return Program(computations, entry)


def read_instruction(line: str) -> Instruction:
    """One line of a computation."""
    head = _INSTRUCTION.match(line)
    assert head is not None, line
    rest = line[head.end() :]
    type_end = _end(rest)
    shapes, rest = read_shapes(rest[:type_end]), rest[type_end:].lstrip()
    opcode, _, rest = rest.partition("(")
    close = _end(rest, ")")
    arguments = rest[:close]
    # Operands may be printed with their types in front; names alone begin with %.
    return Instruction(
        head[2], opcode, shapes, tuple(_NAME.findall(arguments)), arguments, rest[close + 1 :], head[1] is not None
    )


def read_shapes(text: str) -> tuple[Shape, ...]:
    """All arrays in the text of a type."""
    return tuple(
        Shape(dtype, tuple(int(n.lstrip("<=")) for n in dims.split(",") if n), int(space or 0))
        for dtype, dims, space in _SHAPE.findall(text)
    )


def _end(text: str, stops: str = " ,") -> int:
    depth = 0
    for index, letter in enumerate(text):
        if depth == 0 and letter in stops:
            return index
        depth += (letter in "([{") - (letter in ")]}")
    return len(text)
