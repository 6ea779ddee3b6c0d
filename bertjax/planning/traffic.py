"""Bytes that one instruction of a compiled program reads from and writes to the device's main memory.

Arrays count as often as an operation takes them as an operand or makes them, without the padding of tiles; what lies on
the chip is free. Of an array that is only sliced, gathered from or updated in place, just those parts count. The rules
are those of XLA's HloCostAnalysis, which sees neither how often a loop runs nor where an array lies.
"""

from typing import NamedTuple

from bertjax.planning.hlo import NAMES, Computation, Instruction, Program
from bertjax.planning.products import declared

# What moves no data itself: names, waiting, and what runs computations of which the instructions count.
_FREE = (
    *NAMES,
    *("after-all", "partition-id", "replica-id", "add-dependency"),
    *("while", "call", "conditional", "async-start", "async-update"),
)
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast")
_SLICES = ("dynamic-slice", "slice", "gather")
_VIEWS = ("bitcast", "reshape")
# An element of their result takes the same element of an operand of the same size (a transpose, another one), so that a
# slice of the result takes a slice of the operand.
_BY_ELEMENT = (
    *("bitcast", "reshape", "transpose", "copy", "convert", "negate", "not", "abs", "sign", "floor", "ceil"),
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "and", "or", "xor", "compare", "select", "clamp"),
    *("exponential", "tanh", "erf", "log", "sqrt", "rsqrt", "power", "is-finite", "bitcast-convert"),
    *("shift-left", "shift-right-logical", "shift-right-arithmetic"),
)


class Moved(NamedTuple):
    """Bytes."""

    read: float
    written: float


def moved(program: Program, where: Computation, i: Instruction, fast: frozenset[int] = frozenset()) -> Moved:
    """What an instruction outside fusions moves each time it runs. fast: numbers of the memories on the chip."""
    if i.opcode in _FREE or i.opcode.endswith("-done") or i.attribute("custom_call_target").strip('"') in _FREE_CALLS:
        return Moved(0, 0)
    i = where.synchronous(i)
    size = lambda shapes: sum(s.bytes for s in shapes if s.space not in fast)
    operands = where.operand_shapes(i)
    if i.opcode == "fusion":
        return _fusion(program, where, i, fast)
    read, written = [size(shapes) for shapes in operands], size(i.shapes)
    bytes_of = lambda shape, part: part.bytes if shape.space not in fast else 0
    if i.opcode in _SLICES:
        read[0] = bytes_of(operands[0][0], i.shapes[0])
    elif i.opcode in _UPDATES:
        part = operands[_UPDATES[i.opcode]][0]
        written = bytes_of(i.shapes[0], part)
        read[0] = written if i.opcode == "scatter" else 0  # a scatter combines its updates with what is there
    elif i.opcode == "custom-call":
        written -= _workspace(i)
        # A kernel that loads blocks several times says so.
        every = sum(s.bytes for shapes in (*operands, i.shapes) for s in shapes)
        read.append(max(0.0, declared(i, "bytes_accessed") - every))
    return Moved(sum(read), written)


_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # -> which operand holds what is written


def _workspace(i: Instruction) -> int:
    """Bytes of the scratch memory that a GPU library's product has as its last result."""
    target = i.attribute("custom_call_target").strip('"')
    of_library = target.startswith(("__cublas", "__cudnn")) and len(i.shapes) > 1
    return i.shapes[-1].bytes if of_library and i.shapes[-1].dtype in ("s8", "u8") else 0


def _fusion(program: Program, where: Computation, i: Instruction, fast: frozenset[int]) -> Moved:
    inner, operands = program.computations[i.called[0]], where.operand_shapes(i)
    written, in_place = 0.0, set()
    roots = _roots(inner)
    for root, shape in zip(roots, i.shapes, strict=False):
        updated = _updated(program, inner, root)
        if shape.space not in fast:
            written += shape.bytes if updated is None else min(updated[1], shape.bytes)
        if updated is not None:
            in_place.add(updated[0])
    written += sum(s.bytes for s in i.shapes[len(roots) :] if s.space not in fast)
    read = 0.0
    for number, shapes in enumerate(operands):
        if whole := sum(s.bytes for s in shapes if s.space not in fast):
            elements = _elements_read(program, inner, number, number in in_place)
            read += whole if elements is None else whole * elements / shapes[0].elements
    return Moved(read, written)


def _roots(computation: Computation) -> list[Instruction]:
    root = computation.root
    return [computation.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]


def _through_views(computation: Computation, i: Instruction) -> Instruction:
    while i.opcode in _VIEWS:
        i = computation.by_name[i.operands[0]]
    return i


def _updated(program: Program, inner: Computation, root: Instruction) -> tuple[int, float] | None:
    """(number of the parameter that a fusion's result updates in place, bytes written to it), if it does so."""
    i, written = _through_views(inner, root), 0.0
    while i.opcode in _UPDATES:  # of several parts, perhaps, one after the other
        written += inner.by_name[i.operands[_UPDATES[i.opcode]]].shapes[0].bytes
        i = _through_views(inner, inner.by_name[i.operands[0]])
    if i.opcode == "fusion":
        nested = program.computations[i.called[0]]
        of_nested = _updated(program, nested, _roots(nested)[0])
        if of_nested is None:
            return None
        written += of_nested[1]
        i = _through_views(inner, inner.by_name[i.operands[of_nested[0]]])
    return (int(i.arguments), written) if i.opcode == "parameter" and written else None


def _elements_read(program: Program, computation: Computation, number: int, in_place: bool) -> int | None:
    """How many elements of a parameter a fusion reads; None: it has no such parameter. in_place: its result is the
    parameter, updated."""
    found = [p for p in computation.instructions if p.opcode == "parameter" and p.arguments == str(number)]
    return _used(program, computation, found[0], in_place) if found else None


def _used(program: Program, computation: Computation, i: Instruction, in_place: bool) -> int:
    """Elements of an instruction inside a fusion that are needed for its results."""
    every = i.shapes[0].elements
    if i.is_root:
        return 0 if in_place else every
    total = 0
    for user in computation.users.get(i.name, ()):
        for place, name in enumerate(user.operands):
            if name == i.name:
                total += _used_by(program, computation, i, user, place, in_place)
    return min(every, total)


def _used_by(
    program: Program, computation: Computation, i: Instruction, user: Instruction, place: int, in_place: bool
) -> int:
    every = i.shapes[0].elements
    if user.opcode in _SLICES and place == 0:
        return user.shapes[0].elements
    if user.opcode in _UPDATES and place == 0 and in_place:
        combined = user.opcode == "scatter"
        part = computation.by_name[user.operands[_UPDATES[user.opcode]]].shapes[0].elements if combined else 0
        return part + _used(program, computation, user, in_place)
    if user.opcode == "fusion":
        nested = program.computations[user.called[0]]
        updated = _updated(program, nested, _roots(nested)[0]) if in_place else None
        elements = _elements_read(program, nested, place, updated is not None and updated[0] == place)
        return every if elements is None else elements
    if user.opcode == "tuple" and user.is_root:
        return 0 if in_place else every
    if user.opcode in _BY_ELEMENT and user.shapes[0].elements == every:
        return _used(program, computation, user, in_place and user.opcode in _VIEWS)
    return every
