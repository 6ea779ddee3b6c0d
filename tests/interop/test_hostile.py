"""Tensors and indices that nobody vouches for: each is refused in one line, quickly, and in little memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.interop.huggingface import open_folder
from bertjax.interop.safetensors_files import INDEX
from bertjax.predict import main

WORDS = "bert.embeddings.word_embeddings.weight"
ROOT = Path(__file__).parent.parent.parent


def split_safetensors(content):
    """(header as text, tensor bytes) of a safetensors file."""
    length = struct.unpack("<Q", content[:8])[0]
    return content[8 : 8 + length].decode(), content[8 + length :]


def join_safetensors(header, data):
    header = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(header)) + header + data


def edit_header(folder, edit):
    """Rewrites the header of model.safetensors with ``edit(parsed header)``: an object, or the header's text."""
    file = folder / "model.safetensors"
    text, data = split_safetensors(file.read_bytes())
    changed = edit(json.loads(text))
    file.write_bytes(join_safetensors(changed if isinstance(changed, str) else json.dumps(changed), data))


def with_entry(**changes):
    return lambda header: header | {WORDS: header[WORDS] | changes}


def moved_by_four(header):
    moved = lambda entry: entry | {"data_offsets": [offset + 4 for offset in entry["data_offsets"]]}
    return {name: moved(entry) for name, entry in header.items() if name != "__metadata__"}


def renamed(new):
    return lambda header: {new if name == WORDS else name: entry for name, entry in header.items()}


HEADERS = {
    "two entries of one name": (
        lambda h: json.dumps(h)[:-1] + f', "{WORDS}": {json.dumps(h[WORDS] | {"shape": [9, 3]})}}}',
        ["shape", "damaged"],
    ),
    "many duplicates": (lambda h: '{"a": 1' + ', "a": 1, "b": 2' * 200_000 + "}", ["damaged"]),
    "a path for a name": (renamed("../../etc/passwd"), ["lacks", "word_embeddings"]),
    "an absolute path for a name": (renamed("/etc/passwd"), ["lacks"]),
    "a name with a line break": (renamed("a\nb"), ["not a valid name of a tensor"]),
    "a name that moves the cursor": (renamed("\x1b[2J\x1b[1;1Hall is well"), ["not a valid name of a tensor"]),
    "a lone surrogate in a name": (renamed("\ud800"), ["damaged"]),
    "a name of a megabyte": (renamed("n" * 1_000_000), ["not a valid name of a tensor"]),
    "an empty name": (renamed(""), ["lacks"]),
    "a layer of a huge number": (renamed("bert.encoder.layer." + "9" * 150 + ".x"), ["lacks"]),
    "a shape of 2**60": (with_entry(shape=[2**60, 4]), ["damaged", "shape"]),
    "a shape whose product overflows": (with_entry(shape=[2**40, 2**40]), ["damaged", "shape"]),
    "a negative shape": (with_entry(shape=[-9, -4]), ["damaged"]),
    "a fractional shape": (with_entry(shape=[9.0, 4]), ["damaged"]),
    "a shape of truth values": (with_entry(shape=[True, True]), ["damaged"]),
    "a shape that is no list": (with_entry(shape={"0": 9}), ["damaged"]),
    "a hundred dimensions": (with_entry(shape=[1] * 98 + [9, 4]), [WORDS, "has shape"]),
    "another shape of the same size": (with_entry(shape=[4, 9]), [WORDS, "[4, 9]", "[9, 4]"]),
    "offsets past the end": (with_entry(data_offsets=[0, 2**40]), ["damaged", "offset"]),
    "offsets backwards": (with_entry(data_offsets=[144, 0]), ["damaged", "offset"]),
    "negative offsets": (with_entry(data_offsets=[-144, 0]), ["damaged"]),
    "offsets of strings": (with_entry(data_offsets=["0", "144"]), ["damaged"]),
    "three offsets": (with_entry(data_offsets=[0, 72, 144]), ["damaged"]),
    "overlapping offsets": (with_entry(data_offsets=[0, 144]), ["damaged", "offset"]),
    "a gap before the first": (moved_by_four, ["damaged", "offset"]),
    "a dtype twice as wide": (with_entry(dtype="F64"), ["damaged", "data type"]),
    "another float": (with_entry(dtype="F64", shape=[9, 2]), [WORDS, "F64", "F32, F16 and BF16"]),
    "a dtype half as wide": (with_entry(dtype="F16"), ["damaged", "offset"]),
    "bytes for floats": (with_entry(dtype="I8", shape=[36, 4]), [WORDS, "I8"]),
    "integers for floats": (with_entry(dtype="I32"), [WORDS, "integers"]),
    "a dtype of code": (with_entry(dtype="__import__('os').system('false')"), ["__import__"]),
    "a dtype that is no word": (with_entry(dtype=["F32"]), ["damaged"]),
    "an entry that is no object": (lambda h: h | {WORDS: "F32"}, ["damaged"]),
    "an entry without a shape": (lambda h: h | {WORDS: {"dtype": "F32"}}, ["damaged"]),
    "metadata that is no object": (lambda h: h | {"__metadata__": [1, 2]}, []),
    "no tensors": (lambda h: {}, ["truncated", "not fully covered"]),
    "a list": (lambda h: json.dumps([h]), ["damaged"]),
    "deep nesting": (lambda h: '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", ["damaged", "header"]),
    "deep objects": (lambda h: '{"a": ' * 100_000 + "1" + "}" * 100_000, ["damaged", "header"]),
    "a number of a million digits": (lambda h: '{"a": ' + "9" * 1_000_000 + "}", ["damaged", "header"]),
    "no JSON": (lambda h: "PK\x03\x04 what else", ["damaged", "header"]),
    "nothing": (lambda h: "", ["damaged", "header"]),
    "code": (lambda h: "__import__('os').abort()", ["damaged", "header"]),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_headers(case, folder, refused):
    edit, words = HEADERS[case]
    edit_header(folder, edit)
    refused(folder, str(folder), *words)


FILES = {
    "empty": (lambda c: b"", ["truncated"]),
    "seven bytes": (lambda c: c[:7], ["truncated"]),
    "nothing but a length": (lambda c: c[:8], ["truncated"]),
    "header cut short": (lambda c: c[:100], ["truncated"]),
    "tensors cut short": (lambda c: c[:-1], ["truncated", "not fully covered"]),
    "a byte too many": (lambda c: c + b"\0", ["truncated", "not fully covered"]),
    "a header of 2**64 - 1 bytes": (lambda c: b"\xff" * 8 + c[8:], ["truncated"]),
    "a header of a terabyte": (lambda c: struct.pack("<Q", 1 << 40) + c[8:], ["truncated"]),
    "a header of 5 MB": (lambda c: join_safetensors(" " * (5 << 20) + "{}", b""), ["holds 0 encoder layers"]),
    "no UTF-8": (lambda c: join_safetensors(b'{"\xff\xfe": 1}', b""), ["damaged", "header"]),
    "a pickle": (lambda c: b"\x80\x04\x95" + c, ["truncated"]),
    "not finite": (lambda c: c[:-4] + struct.pack("<f", float("nan")), ["not finite"]),
    "infinite": (lambda c: c[:-4] + struct.pack("<f", float("-inf")), ["not finite"]),
}


@pytest.mark.parametrize("case", FILES)
def test_files(case, folder, refused):
    edit, words = FILES[case]
    (folder / "model.safetensors").write_bytes(edit((folder / "model.safetensors").read_bytes()))
    refused(folder, str(folder), *words)


@pytest.mark.parametrize("case", [*HEADERS, *FILES])
def test_through_a_command(case, folder, capsys):
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcd"]) + "\n")
    if case in HEADERS:
        edit_header(folder, HEADERS[case][0])
    else:
        file = folder / "model.safetensors"
        file.write_bytes(FILES[case][0](file.read_bytes()))
    assert main(["fill-mask", f"--model={folder}", "a [MASK]"]) == 3
    out, err = capsys.readouterr()
    assert (out, err[:7], err.count("\n")) == ("", "error: ", 1)
    assert err.rstrip("\n").isprintable()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_that_is_not_finite(dtype, folder, refused):
    import ml_dtypes

    tensors = load_file(folder / "model.safetensors")
    tensors[WORDS] = np.full((9, 4), np.inf, getattr(np, dtype, None) or getattr(ml_dtypes, dtype))
    save_file(tensors, folder / "model.safetensors")
    refused(folder, WORDS, "not finite")


def edit_index(folder, edit):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(edit(index)))


def mapped(file, name=WORDS):
    return lambda index: index | {"weight_map": index["weight_map"] | {name: file}}


INDICES = {
    "a path upwards": (mapped("../model-1.safetensors"), ["not a safetensors file in this folder"]),
    "an absolute path": (mapped("/etc/model.safetensors"), ["not a safetensors file in this folder"]),
    "a path of Windows": (mapped("..\\model-1.safetensors"), ["not a safetensors file in this folder"]),
    "another kind of file": (mapped("config.json"), ["not a safetensors file in this folder"]),
    "a pickle": (mapped("pytorch_model.bin"), ["not a safetensors file in this folder"]),
    "a zero byte": (mapped("a\0.safetensors"), ["not a safetensors file in this folder"]),
    "a lone surrogate": (mapped("\udfff.safetensors"), ["not a safetensors file in this folder"]),
    "a line break": (mapped("a\n.safetensors"), ["not a safetensors file in this folder"]),
    "a name of a megabyte": (mapped("a" * 1_000_000 + ".safetensors"), ["not a safetensors file in this folder"]),
    "a file that is not there": (mapped("model-3.safetensors"), ["model-3.safetensors", "No such file"]),
    "the wrong file": (mapped("model-2.safetensors"), [WORDS, "does not hold"]),
    "a tensor that is not there": (mapped("model-1.safetensors", "../ghost"), ["../ghost", "does not hold"]),
    "a number for a file": (mapped(5), ["weight_map"]),
    "a list for a file": (mapped(["model-1.safetensors"]), ["weight_map"]),
    "no map": (lambda index: {}, ["weight_map"]),
    "an empty map": (lambda index: {"weight_map": {}}, ["weight_map"]),
    "a list for a map": (lambda index: {"weight_map": ["model-1.safetensors"]}, ["weight_map"]),
    "a million files": (lambda index: {"weight_map": {str(n): f"{n}.safetensors" for n in range(100_000)}}, ["files"]),
    "a list": (lambda index: [index], ["no JSON object"]),
}


@pytest.mark.parametrize("case", INDICES)
def test_indices(case, sharded, refused):
    edit, words = INDICES[case]
    edit_index(sharded, edit)
    refused(sharded, str(sharded), *words)


def test_two_files_with_the_same_tensor(sharded, refused):
    tensors = load_file(sharded / "model-2.safetensors") | {WORDS: np.zeros((9, 4), np.float32)}
    save_file(tensors, sharded / "model-2.safetensors")
    refused(sharded, WORDS, "another file")


def test_an_index_beside_which_nothing_else_is_read(sharded):
    """A file that the index does not name is not opened, whatever is in it."""
    (sharded / "other.safetensors").write_bytes(b"\xff" * 100)
    assert open_folder(sharded).read()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folders_and_pipes_in_the_place_of_files(name, folder, refused):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name)
    (folder / name).rmdir()
    os.mkfifo(folder / name)
    refused(folder, name)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_folders_and_pipes_that_an_index_names(make, sharded, refused):
    (sharded / "model-2.safetensors").unlink()
    make(sharded / "model-2.safetensors")
    refused(sharded, "model-2.safetensors")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files_that_must_not_be_read(name, folder, refused):
    (folder / name).chmod(0)
    refused(folder, name, "cannot be read")


def test_links_that_lead_nowhere_or_round_in_circles(folder, refused):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("nowhere")
    refused(folder, "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")
    refused(folder, "model.safetensors")


BOMBS = {
    "a billion layers": ("config.json", b'"num_hidden_layers": 1', b'"num_hidden_layers": 1000000000'),
    "the most layers": ("config.json", b'"num_hidden_layers": 1', b'"num_hidden_layers": 65536'),
    "the largest vocabulary": ("config.json", b'"vocab_size": 9', b'"vocab_size": 2147483647'),
    "empty lists": ("config.json", b'"vocab_size": 9', b'"a": [' + b"[]," * 1_300_000 + b"1]"),
    "small objects": ("config.json", b'"vocab_size": 9', b'"a": [' + b'{"":0},' * 590_000 + b"1]"),
    "a header of small objects": ("model.safetensors", None, b'{"a": [' + b'{"":0},' * 590_000 + b"1]}"),
    "a shape of 2**47": (
        "model.safetensors",
        None,
        b'{"a": {"dtype":"F32","shape":[140737488355328],"data_offsets":[0,4]}}',
    ),
}  # fmt: skip
_MEASURED = """
import sys
from bertjax.errors import ModelFileError
from bertjax.interop.huggingface import open_folder

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) // 1024

for folder in sys.argv[1:]:
    before = peak()
    try:
        open_folder(folder).read()
    except ModelFileError as error:
        print(peak() - before, error)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_hostile_files_need_little_memory(tiny_files, write_folder, tmp_path):
    """Peak of a process of its own that reads one after the other: less than 200 MB above what the imports take."""
    folders = []
    for number, (file, old, new) in enumerate(BOMBS.values()):
        folders.append(write_folder(tmp_path / str(number), tiny_files))
        content = (folders[-1] / file).read_bytes()
        assert old is None or old in content
        (folders[-1] / file).write_bytes(join_safetensors(new, b"") if old is None else content.replace(old, new))
    command = [sys.executable, "-c", _MEASURED, *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == len(BOMBS), done.stdout
    growth = [int(line.split()[0]) for line in lines]
    print(dict(zip(BOMBS, growth, strict=True)))
    assert sum(growth) < 200
