"""``--help=config``: the config reference, from the declarations of the keys. docs/generate.py makes tables of it."""

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from bertjax.config_schema import LARGEST_INT, keys_of

_KINDS = {bool: "True or False", int: "integer", float: "number", str: "text"}
FIXED, FREE = "fixed", "may change"
LEGEND = """\
Every key can be set on the command line (--config.KEY=VALUE) or in a config file.
  fixed         must stay the same when a run resumes
  may change    from one start of a run to the next
  not set (X)   taken from the corpus, the tokenizer or another key; X if none of them says"""


class Key(NamedTuple):
    name: str
    default: str
    values: str
    on_resume: str
    meaning: str


def sections(kind: Any, name: str = "config") -> Iterator[tuple[str, str, list[Key]]]:
    """(name, meaning, keys directly in it) of each section of a config, in the order of their declaration.
    ``kind``: the class of the config."""
    types = typing.get_type_hints(kind)
    keys, inner = [], []
    for f in keys_of(kind):
        if "example" in f.metadata:
            inner.append((typing.get_args(types[f.name])[1], f"{name}.{f.name}.NAME"))
        elif dataclasses.is_dataclass(types[f.name]):
            inner.append((types[f.name], f"{name}.{f.name}"))
        else:
            resume = FIXED if f.metadata["identity"] else FREE
            keys.append(Key(f"{name}.{f.name}", _default(f), _values(f, types[f.name]), resume, f.metadata["meaning"]))
    yield name, " ".join(inspect.cleandoc(kind.__doc__).split()), keys
    for kind_inside, name_inside in inner:
        yield from sections(kind_inside, name_inside)


def _default(f: dataclasses.Field[Any]) -> str:
    value = ",".join(map(str, f.default)) if isinstance(f.default, tuple) else str(f.default)
    value = f"not set ({value})" if "follows" in f.metadata else value
    return "not set" if f.default is None else value


def _values(f: dataclasses.Field[Any], hint: Any) -> str:
    """Type and limits: ``integer from 1 to 64``, ``one of gelu, relu``, ``list of numbers, at least 0``."""
    low, high, choices = (f.metadata.get(name) for name in ("low", "high", "choices"))
    if choices is not None:
        return f"one of {', '.join(choices)}"
    wanted = next(t for t in (*typing.get_args(hint), hint) if t is not type(None))
    is_list = typing.get_origin(hint) is tuple or typing.get_origin(wanted) is tuple
    element = typing.get_args(wanted)[0] if typing.get_origin(wanted) is tuple else wanted
    text = f"list of {_KINDS[element]}{'s' * (element is not str)}" if is_list else _KINDS[element]
    plain = lambda value: f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if low is not None and high is not None:
        return f"{text} from {plain(low)} to {plain(high)}"
    if low is not None:
        return f"{text}, at least {plain(low)}"
    return text if high in (None, LARGEST_INT) else f"{text}, at most {plain(high)}"


def as_text(kind: Any) -> str:
    lines = [LEGEND, ""]
    for name, meaning, keys in sections(kind):
        if keys:
            lines += [f"{name}   {meaning.replace('`', '')}", ""]
        for key in keys:
            lines.append(f"  {key.name} = {key.default}   ({key.values}; {key.on_resume})")
            lines += textwrap.wrap(key.meaning, 100, initial_indent="      ", subsequent_indent="      ")
        lines += [""] * bool(keys)
    return "\n".join(lines).rstrip()
