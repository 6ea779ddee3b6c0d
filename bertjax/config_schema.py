"""How config keys are declared, checked, described and fingerprinted.

A section of a config is a frozen dataclass, a key one of its fields. *Identity* keys make a run what it is and must
stay the same when it resumes; *operational* keys say how it is executed and may change from one start to the next.
"""

import collections.abc
import contextlib
import dataclasses
import difflib
import functools
import hashlib
import json
import math
import operator
import typing
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from bertjax.errors import ConfigError

# Counts are int32 on the devices, numbers float32: what is larger overflows, what is smaller becomes 0.
LARGEST_INT = 2**31 - 1
LEAST_FLOAT, LARGEST_FLOAT = 1.1754944e-38, 3.4028234e38

# Keys and values that had another name: "key" -> "key of today", "key of today=value" -> "key of today=value of today".
# A user's config that has an old name is refused with the new one. Stored configs are translated when they are read;
# fingerprints are taken over the oldest names, so that those in the checkpoints of older runs still match.
RENAMED: dict[str, str] = {
    "data.too_long=cut": "data.too_long=truncate",
    "model.recompute": "model.remat",
    "model.remat=all_but_products": "model.remat=save_matmuls",
}


# --- Declaring keys ---------------------------------------------------------------------------------------------------


def identity(default: Any, meaning: str, **limits: Any) -> Any:
    """A key that must be the same when a run resumes. Limits: ``low``, ``high`` (inclusive), ``choices``.

    ``added=True``: the key came after the first runs. At its default, which is what they did, it is left out of the
    identity, so that theirs stays what it was.
    """
    return field(default=default, metadata={"identity": True, "meaning": meaning, **limits})


def follows(default: Any, meaning: str, **limits: Any) -> Any:
    """An identity key that takes its value from the corpus or from another key unless it is set; ``default`` is for
    when there is nothing to take it from."""
    return identity(default, meaning, follows=True, **limits)


def operational(default: Any, meaning: str, **limits: Any) -> Any:
    return field(default=default, metadata={"identity": False, "meaning": meaning, **limits})


def named_sections(example: str) -> Any:
    """A key that holds sections under names that the config chooses, in its order; ``example`` is such a name."""
    return field(default_factory=dict, metadata={"example": example})


def not_a_key(default: Any) -> Any:
    """A field beside the keys, which no config can set."""
    return field(default=default, metadata={"not_a_key": True})


def keys_of(kind: Any) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(kind) if "not_a_key" not in f.metadata]


# --- Reading configs --------------------------------------------------------------------------------------------------


def section(kind: type) -> ConfigDict:
    """A ConfigDict with every key of a dataclass at its default; named sections are left out. A key that follows
    something else holds None, which means that it is not set."""
    config, types = ConfigDict(), typing.get_type_hints(kind)
    for f in keys_of(kind):
        if "example" in f.metadata:
            continue
        if dataclasses.is_dataclass(types[f.name]):
            config[f.name] = section(types[f.name])
        elif f.default is None or "follows" in f.metadata:
            # Holds None, but knows the type of an override.
            wanted = (*typing.get_args(types[f.name]), types[f.name])[0]
            config[f.name] = placeholder(str if typing.get_origin(wanted) is tuple else wanted)
        else:
            config[f.name] = ",".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
    return config


def read(kind: type, config: Any) -> tuple[Any, dict[str, Any]]:
    """(the dataclass ``kind`` from a ConfigDict or nested dict, checked; the nested dict). Raises ConfigError."""
    tree = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    _refuse_old_names(tree)
    return build(kind, tree, "config."), tree


def to_dict(config: Any) -> dict[str, Any]:
    tree = {f.name: getattr(config, f.name) for f in keys_of(config)}
    return json.loads(json.dumps(tree, default=dataclasses.asdict))


def build(kind: type, tree: Any, path: str) -> Any:
    """The dataclass ``kind`` from nested dicts, checked; error messages put ``path`` before the names of keys."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path[:-1]} must be a section with keys, not {tree!r}")
    types = typing.get_type_hints(kind)
    fields = {f.name: f for f in keys_of(kind)}
    values = {}
    for key, value in tree.items():
        if key not in fields:
            raise ConfigError(f"unknown config key {path}{key}; {nearest(key, fields)}")
        if value is None and "follows" in fields[key].metadata:
            continue
        if typing.get_origin(types[key]) is collections.abc.Mapping:
            if not isinstance(value, Mapping) or not value:
                example = f"{path}{key}.{fields[key].metadata['example']}"
                raise ConfigError(f"{path}{key} must hold at least one section, such as {example}")
            inner = typing.get_args(types[key])[1]
            values[key] = {name: build(inner, one, f"{path}{key}.{name}.") for name, one in value.items()}
        elif dataclasses.is_dataclass(types[key]):
            values[key] = build(types[key], value, f"{path}{key}.")
        else:
            values[key] = _checked(value, types[key], fields[key].metadata, path + key)
    return kind(**values)


def _walk(config: Any, path: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """(dotted name, field, value) of every key of a dataclass; ``path`` stands before the names."""
    for f in keys_of(config):
        item = getattr(config, f.name)
        if dataclasses.is_dataclass(item):
            yield from _walk(item, f"{path}{f.name}.")
        elif "example" in f.metadata:
            for name, one in item.items():
                yield from _walk(one, f"{path}{f.name}.{name}.")
        else:
            yield path + f.name, f, item


def not_set(config: Any, tree: Mapping[str, Any]) -> frozenset[str]:
    """Dotted names of the keys of ``config`` that follow something else and are not set in its nested dict."""
    given = leaves(tree)
    return frozenset(name for name, f, _ in _walk(config) if "follows" in f.metadata and given.get(name) is None)


def identity_values(config: Any) -> dict[str, Any]:
    """Dotted name -> JSON value of the keys of a dataclass that must be the same when a run resumes."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, f, value in _walk(config)
        if f.metadata["identity"] and not ("added" in f.metadata and value == f.default)
    }


def added_defaults(config: Any) -> dict[str, Any]:
    """Dotted name -> value that runs from before the key was added have."""
    return {name: f.default for name, f, _ in _walk(config) if f.metadata["identity"] and "added" in f.metadata}


def nearest(name: str, allowed: typing.Iterable[str]) -> str:
    """``did you mean 'X'?`` for the allowed name closest to ``name``; all allowed names if none is close."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(allowed)}"


def _checked_list(value: Any, kind: Any, limits: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """Strings or numbers: as a list, separated by commas in one string, or a single number."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, tuple | list) else [value]
    items = [item.strip() if isinstance(item, str) else item for item in items]
    if not items or any(item == "" for item in items):
        raise ConfigError(f"{name} must hold at least one value, and no empty one; it is {value!r}")
    for i, item in enumerate(items):
        with contextlib.suppress(ValueError):
            items[i] = kind(item) if isinstance(item, str) and "_" not in item else item
    return tuple(_checked(item, kind, limits, name) for item in items)


def _checked(value: Any, hint: Any, limits: Mapping[str, Any], name: str) -> Any:
    options = typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    wanted = next(t for t in options if t is not type(None))
    if typing.get_origin(wanted) is tuple:
        return _checked_list(value, typing.get_args(wanted)[0], limits, name)
    value = float(value) if wanted is float and type(value) is int and abs(value) < 1 << 1000 else value
    if wanted is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {value!r}")
    if wanted is float and isinstance(value, float) and value != 0 and not LEAST_FLOAT <= abs(value) <= LARGEST_FLOAT:
        large, small = f"large; the most is {LARGEST_FLOAT:g}", f"small; the least over 0 is {LEAST_FLOAT:g}"
        bound = large if abs(value) > 1 else small
        raise ConfigError(f"{name} = {value!r} is too {bound}, because bertjax computes in float32")
    if type(value) is not wanted:
        raise ConfigError(f"{name} must be of type {wanted.__name__}, not {type(value).__name__} ({value!r})")
    if "choices" in limits and value not in limits["choices"]:
        raise ConfigError(f"{name} = {value!r}; {nearest(str(value), limits['choices'])}")
    limits = {"high": LARGEST_INT, **limits} if wanted is int else limits
    for bound, beyond, which in (("low", operator.lt, "small; the least"), ("high", operator.gt, "large; the most")):
        if bound in limits and beyond(value, limits[bound]):
            raise ConfigError(f"{name} = {value!r} is too {which} is {limits[bound]}")
    return value


# --- Names of today and of before -------------------------------------------------------------------------------------


def _renamed(name: str, value: Any) -> tuple[str, Any]:
    name = RENAMED.get(name, name)
    new = RENAMED.get(f"{name}={value}") if isinstance(value, str) else None
    return name, value if new is None else new.partition("=")[2]


def translated(items: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_renamed(name, value) for name, value in items.items())


def translated_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    named = leaves(tree)
    if translated(named) == named:
        return dict(tree)
    new: dict[str, Any] = {}
    for name, value in translated(named).items():
        *sections, key = name.split(".")
        functools.reduce(lambda node, part: node.setdefault(part, {}), sections, new)[key] = value
    return new


def translated_record(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a workdir, with ``config`` and ``identity`` by the names of today."""
    parts = (("config", translated_tree), ("identity", translated))
    new = {name: read(recorded[name]) for name, read in parts if isinstance(recorded.get(name), Mapping)}
    return dict(recorded) | new


def _refuse_old_names(tree: Mapping[str, Any]) -> None:
    """Raises ConfigError with the name of today where a user's config has a key or a value of before."""
    for name, value in leaves(tree).items():
        new, new_value = _renamed(name, value)
        if new != name:
            raise ConfigError(f"config.{name} is now called config.{new}; set config.{new} = {new_value!r}")
        if new_value != value:
            raise ConfigError(f"config.{name} = {value!r} is now called {new_value!r}")


def leaves(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Dotted name -> value of nested dicts; an empty dict is a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= leaves(value, f"{path}{key}.") if isinstance(value, Mapping) and value else {f"{path}{key}": value}
    return flat


def fingerprint(items: Mapping[str, Any]) -> str:
    """Hex SHA-256 over JSON values by name; the same for names of today and of before."""
    # Of several old names the first. A value's entry names its key as it is called today.
    oldest = {new: old for old, new in reversed(RENAMED.items())}
    named = {}
    for name, value in items.items():
        old_value = oldest.get(f"{name}={value}") if isinstance(value, str) else None
        named[oldest.get(name, name)] = value if old_value is None else old_value.partition("=")[2]
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
