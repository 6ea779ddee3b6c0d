"""Thousands of damaged model files: each loads (the damage was harmless) or is refused in one line."""

from __future__ import annotations

import json
import random
import struct

import numpy as np
import pytest

from bertjax.errors import ModelFileError
from bertjax.interop.huggingface import open_folder
from bertjax.interop.safetensors_files import INDEX

NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    127,
    2**31 - 1,
    2**31,
    2**32,
    2**47,
    2**48,
    2**63 - 1,
    2**63,
    2**64,
    10**400,
    1.5,
    -0.0,
    1e308,
]
WORDS = ["", "bert", "F32", "F64", "\ud800", "\0", "x" * 5000]
VALUES = [None, True, False, *WORDS, [], {}, [[]], [1], {"a": 1}, float("nan"), float("inf")]


def places(value, path=()):
    """Every place in a JSON value, as the keys that lead to it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, item in items:
        yield from places(item, (*path, key))


def replace_at(value, path, new):
    if not path:
        return new
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return value


def replace_a_value(text, draw):
    value = json.loads(text)
    return json.dumps(replace_at(value, draw.choice(list(places(value))), draw.choice(VALUES)))


def replace_a_number(text, draw):
    value = json.loads(text)
    numbers = [path for path in places(value) if type(at(value, path)) in (int, float)]
    return json.dumps(replace_at(value, draw.choice(numbers), draw.choice(NUMBERS))) if numbers else text


def at(value, path):
    for key in path:
        value = value[key]
    return value


def remove_or_copy_a_key(text, draw):
    value = json.loads(text)
    path = draw.choice([path for path in places(value) if path])
    holder, key = at(value, path[:-1]), path[-1]
    if isinstance(holder, list) or draw.random() < 0.5:
        del holder[key]
    else:
        holder[draw.choice([*holder, "../x", "a.gamma", key.upper()])] = holder[key]
    return json.dumps(value)


def flip_bits(text, draw):
    content = bytearray(text.encode())
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def truncate(text, draw):
    return text[: draw.randrange(len(text))]


def splice(text, draw):
    begin, end = sorted(draw.choices(range(len(text)), k=2))
    at = draw.randrange(len(text))
    return text[:at] + text[begin : min(end, begin + 60)] + text[at + draw.choice([0, 0, 1, 20]) :]


def swap_a_character(text, draw):
    at = draw.randrange(len(text))
    return text[:at] + draw.choice('{}[]",:0123456789-.eE\\tnull ') + text[at + 1 :]


MUTATIONS = [
    *(replace_a_value, replace_a_number, remove_or_copy_a_key),
    *(flip_bits, truncate, splice, swap_a_character),
]


def mutated(name, content, draw):
    """The file ``name`` with its JSON damaged once or, seldom, twice; the length before a header is kept in step."""
    is_header = name.endswith(".safetensors")
    length = struct.unpack("<Q", content[:8])[0] if is_header else len(content)
    start = 8 if is_header else 0
    text, data = content[start : start + length].decode(), content[start + length :]
    changed = draw.choice(MUTATIONS)(text, draw)
    if isinstance(changed, str) and changed and draw.random() < 0.1:
        changed = draw.choice([flip_bits, swap_a_character])(changed.encode("utf-8", "replace").decode(), draw)
    changed = changed.encode("utf-8", "replace") if isinstance(changed, str) else changed
    if not is_header:
        return changed
    if draw.random() < 0.05:  # damage outside the header
        raw = bytearray(content)
        raw[draw.choice([draw.randrange(8), draw.randrange(len(raw))])] ^= 1 << draw.randrange(8)
        return bytes(raw)
    return struct.pack("<Q", len(changed)) + changed + data


def outcome(folder, assert_one_line):
    """ "loads" or "refused"; anything else that is raised is a bug."""
    try:
        params = open_folder(folder).read()
    except ModelFileError as error:
        assert_one_line(error)
        return "refused"
    assert params["embeddings"]["word_embeddings"].dtype == np.float32
    return "loads"


FUZZED = {"config.json": 4000, "model.safetensors": 4000, INDEX: 2500}


@pytest.mark.parametrize("name", FUZZED)
def test_fuzzed_files_load_or_are_refused(name, tiny_files, tiny_sharded_files, assert_one_line, tmp_path):
    count, files = FUZZED[name], tiny_sharded_files if name == INDEX else tiny_files
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    assert outcome(tmp_path, assert_one_line) == "loads"
    found = {"loads": 0, "refused": 0}
    for seed in range(count):
        (tmp_path / name).write_bytes(mutated(name, files[name], random.Random(seed)))
        try:
            found[outcome(tmp_path, assert_one_line)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed} of {name}: {type(error).__name__}: {error}") from error
    print(f"{name}: {found}")
    assert found["loads"] > 0
    assert found["refused"] > count / 2
