"""Damaged and malicious tokenizer files: a ConfigError of one line that names the file, and nothing else."""

from __future__ import annotations

import base64
import copy
import json
import random
import struct
import time
from collections import Counter
from pathlib import Path

import pytest

from bertjax.errors import ConfigError
from bertjax.text import tokenizer_files
from bertjax.text.tokenizer import Tokenizer, load_tokenizer
from bertjax.text.vocabulary import train_tokenizer

TEXTS = ["The cat sat on the mat.", "Café owners in Zürich were naïve.", "我 love 漢字 and 3.14 emoji 🙂."] * 5
TRIALS = ["", "the cat", "Été ① ﬁ 漢字 e\u0301 \u200d 🙂 zzz"]
ODD = [
    *(None, True, False, 0, -1, 1, 3.5, 1e308, 2**31, 2**63, 2**64, 10**400, float("nan"), float("inf")),
    *(
        "",
        "a",
        "\0",
        "\ud800",
        "[SEP]",
        "a b:$A",
        "▁",
        "x" * 10_000,
        [],
        {},
        [[]],
        [None],
        {"type": "Sequence"},
        [["a", 0]],
    ),
]


def refused(path: Path, names: str = "") -> str:
    """The message that refuses ``path``: one line that names the file (in a folder, ``names``)."""
    with pytest.raises(ConfigError) as error:
        load_tokenizer(path)
    message = str(error.value)
    assert names in message and str(path) in message
    assert message.isprintable() and len(message) < 1000
    return message


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """Small valid files by name."""
    folder = tmp_path_factory.mktemp("valid")
    train_tokenizer("wordpiece", TEXTS, 120, True).save(folder / "wordpiece")
    found = {path.name: path.read_bytes() for path in (folder / "wordpiece").iterdir()}
    for model_type in ("unigram", "bpe"):
        train_tokenizer("sentencepiece", TEXTS, 330, True, model_type).save(folder / model_type)
        definition = json.loads((folder / model_type / "tokenizer.json").read_bytes())
        steps = definition["normalizer"]["normalizers"]
        steps[:] = [step for step in steps if step["type"] != "Precompiled"]  # a table of 300 kB
        found[f"{model_type}.json"] = json.dumps(definition).encode()
    found["spiece.model"] = (folder / "unigram" / "spiece.model").read_bytes()
    return found


def written(path: Path, content: bytes | str | object) -> Path:
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "spiece.model"])
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\n\n", b"\0" * 100, b"\xff\xfe\x00\xd8", b"{", b"[" * 200_000, b'{"a":' * 200_000, b"null"),
        *(b"{}", b"[1]", b'{"model": {}}', b'{"model": []}', b"9" * 10_000, "\ufeff{}".encode(), b'"\\ud800"'),
    ],
)
def test_files_that_are_not_tokenizers(name, content, tmp_path):
    refused(written(tmp_path / name, content))


@pytest.mark.parametrize(
    "ids",
    [{"cat": -1}, {"cat": 3}, {"cat": 10**9}, {"cat": 2**70}, {"cat": 7}, {"cat": 5.0}, {"cat": "5"}, {"cat": None}],
)
@pytest.mark.parametrize("kind", ["tokenizer.json", "bpe.json"])
def test_ids_must_be_consecutive(kind, ids, files, tmp_path):
    definition = json.loads(files[kind])
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    definition["model"] |= {"vocab": special | {"cat": 5}, **({"merges": []} if kind == "bpe.json" else {})}
    assert load_tokenizer(written(tmp_path / kind, definition)).vocab_size == 6
    definition["model"]["vocab"] |= ids
    refused(written(tmp_path / kind, definition))


def test_added_tokens_must_have_the_ids_of_the_vocabulary(files, tmp_path):
    definition = json.loads(files["bpe.json"])
    size = len(definition["model"]["vocab"])
    extra = definition["added_tokens"][0] | {"content": "<entity>", "id": size}
    definition["added_tokens"].append(extra)
    tokenizer = load_tokenizer(written(tmp_path / "a.json", definition))
    assert tokenizer.token_id("<entity>") == size and size in tokenizer.special_ids
    assert not set(tokenizer.encode("an <entity> here")) & {size, tokenizer.unk_id}
    for wrong in (size + 1, 10, -1, None, [[]]):
        extra["id"] = wrong
        refused(written(tmp_path / "a.json", definition))


def test_duplicate_entries_are_named(files, tmp_path):
    lines = files["vocab.txt"].decode().split("\n")
    lines[20] = lines[10]
    message = refused(written(tmp_path / "vocab.txt", "\n".join(lines)))
    assert "as ids 10 and 20" in message and "[unusedN]" in message
    assert "NUL" in refused(written(tmp_path / "vocab.txt", files["vocab.txt"] + b"a\0b\n"))


@pytest.mark.parametrize("kind", ["tokenizer.json", "unigram.json", "bpe.json"])
def test_missing_special_tokens_are_named(kind, files, tmp_path):
    definition = json.loads(files[kind])
    definition["added_tokens"] = []
    text = json.dumps(definition).replace("[MASK]", "mask").replace("[CLS]", "cls")
    message = refused(written(tmp_path / kind, text))
    assert "[CLS]" in message and "[MASK]" in message and "[SEP]" not in message


def test_large_files_are_not_read(files, tmp_path, monkeypatch):
    for name in ("tokenizer.json", "vocab.txt", "spiece.model"):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(1 << 40)  # holes take no room
        assert "64 MiB" in refused(path)
        path.unlink()
    monkeypatch.setattr(tokenizer_files, "MAX_BYTES", 50)
    written(tmp_path / "vocab.txt", files["vocab.txt"])
    written(tmp_path / "tokenizer_config.json", b" " * 60 + b"{}")
    refused(tmp_path, names="tokenizer_config.json")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"mask_token": 5}', '{"mask_token": {"content": []}}', "[" * 100_000]
)
def test_damaged_settings(name, content, files, tmp_path):
    written(tmp_path / "vocab.txt", files["vocab.txt"])
    written(tmp_path / name, content)
    refused(tmp_path, names=name)


def test_settings_that_are_not_booleans(files, tmp_path):
    written(tmp_path / "vocab.txt", files["vocab.txt"])
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "keep_accents"):
        for value in ("false", 0, [], {"a": 1}):
            written(tmp_path / "tokenizer_config.json", {key: value})
            assert "true or false" in refused(tmp_path, names="tokenizer_config.json")


def test_unreadable_paths(tmp_path):
    for path in ("~nobody-of-that-name/x", str(tmp_path / ("x" * 5000)), str(tmp_path / "a\0b"), ""):
        with pytest.raises(ConfigError) as error:
            load_tokenizer(path)
        assert "\n" not in str(error.value)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop")


def damaged_bytes(content: bytes, pick: random.Random) -> bytes:
    """``content`` with bytes changed, removed, moved or doubled."""
    data = bytearray(content)
    # The first kilobytes of a SentencePiece model are its pieces; the rest is a table.
    end = len(data) if pick.random() < 0.5 else min(len(data), 6000)
    for _ in range(pick.choice([1, 1, 2, 8, 60])):
        start = pick.randrange(end)
        length = pick.choice([1, 1, 1, 4, 40])
        part = bytes(data[start : start + length])
        change = pick.randrange(4)
        if change == 0:
            data[start : start + length] = bytes(pick.randrange(256) for _ in part)
        elif change == 1:
            data[start : start + length] = b""
        elif change == 2:
            data[start:start] = part * pick.choice([1, 2, 50])
        else:
            data[start] ^= 1 << pick.randrange(8)
        end = max(1, min(end, len(data)))
    return bytes(data[: pick.randrange(len(data) + 1)]) if pick.random() < 0.1 else bytes(data)


def damaged_json(content: bytes, pick: random.Random) -> bytes:
    """``content`` with values replaced by odd ones, keys dropped or renamed, or values swapped."""
    value = json.loads(content)
    for _ in range(pick.choice([1, 1, 2, 4])):
        node = value
        for _ in range(pick.randrange(6)):
            children = list(node.values() if isinstance(node, dict) else node)
            children = [child for child in children if isinstance(child, dict | list) and child]
            if not children:
                break
            node = pick.choice(children)
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            continue
        key = pick.choice(keys)
        change = pick.randrange(5)
        if change == 0:
            del node[key]
        elif change == 1 and isinstance(node, dict):
            node[pick.choice(["", "\0", "x", "type", "[PAD]"])] = node.pop(key)
        elif change == 2:
            node[key] = copy.deepcopy(node[pick.choice(keys)])
        else:
            node[key] = copy.deepcopy(pick.choice(ODD))
    return json.dumps(value).encode()


DAMAGES = [
    *((name, damaged_bytes, 250) for name in ("vocab.txt", "tokenizer.json", "unigram.json", "bpe.json")),
    *((name, damaged_json, 500) for name in ("tokenizer.json", "unigram.json", "bpe.json")),
    *((name, damaged_json, 200) for name in ("tokenizer_config.json", "special_tokens_map.json")),
    ("tokenizer_config.json", damaged_bytes, 150),
    ("spiece.model", damaged_bytes, 500),
]


@pytest.mark.parametrize(("name", "damage", "times"), DAMAGES, ids=[f"{d[0]}-{d[1].__name__}" for d in DAMAGES])
def test_thousands_of_damaged_files(name, damage, times, files, tmp_path):
    """Each is refused in one line, or gives a tokenizer that works."""
    pick = random.Random(f"{name} {damage.__name__}")
    settings = name in ("tokenizer_config.json", "special_tokens_map.json")
    if settings:
        written(tmp_path / "tokenizer.json", files["tokenizer.json"])
        written(tmp_path / "tokenizer_config.json", files["tokenizer_config.json"])
    path = tmp_path / name
    results: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(times):
        written(path, damage(files[name], pick))
        begin = time.perf_counter()
        try:
            tokenizer = load_tokenizer(tmp_path if settings else path)
            check_works(tokenizer)
            results["works"] += 1
        except ConfigError as error:
            message = str(error)
            assert str(tmp_path) in message and message.isprintable() and len(message) < 1000, message
            results["refused"] += 1
        slowest = max(slowest, time.perf_counter() - begin)
    assert results["refused"] and slowest < 5


def check_works(tokenizer: Tokenizer) -> None:
    for ids in tokenizer.encode_batch(TRIALS):
        assert all(0 <= i < tokenizer.vocab_size for i in ids)
        assert isinstance(tokenizer.decode(ids), str)
    assert len(tokenizer.continues_word()) == tokenizer.vocab_size
    assert len(tokenizer.fingerprint) == 64


def replaced(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def charsmap(*texts):
    return base64.b64encode(struct.pack("<I", 8) + b"\0" * 8 + b"\0".join(text.encode() for text in texts)).decode()


def nested(step, depth):
    return step if depth == 0 else {"type": "Sequence", "normalizers": [nested(step, depth - 1)]}


MULTIPLIED = {
    "a letter that doubles, ten times": [replaced("a", "aa")] * 10,
    "five thousand times": [replaced("a", "aa")] * 5000,
    "in sequences of sequences": [{"type": "Sequence", "normalizers": [replaced("a", "aa")] * 3}] * 2,
    "a long replacement": [replaced("a", "b" * 17)],
    "by what matches nothing": [replaced("", "ab", "Regex")] * 3,
    "by what may match nothing": [
        replaced("a?", "ab", "Regex"),
        replaced("a|", "ab", "Regex"),
        replaced("(a)*", "ab", "Regex"),
    ],
    "an empty string": [replaced("", "abcdefghijklmnop")],
    "what is put before": [{"type": "Prepend", "prepend": "x" * 100}] * 3,
    "put before, then doubled": [{"type": "Prepend", "prepend": "x" * 200}, replaced("x", "xx")],
    "Unicode, again and again": [
        replaced("a", "\ufdfa"),
        {"type": "NFKD"},
        replaced("\u0635", "\ufdfa"),
        {"type": "NFKC"},
    ],
    "a map": [{"type": "Precompiled", "precompiled_charsmap": charsmap("a", "b" * 100)}],
    "bytes as letters, again and again": [{"type": "ByteLevel"}] * 3,
    "steps without a type": [{"pattern": {"String": "a"}, "content": "aa"}] * 5,
    "a sequence without a type": [{"normalizers": [replaced("a", "aa")] * 5}],
    "a sequence of a type that nobody knows": [{"type": "Own", "normalizers": [replaced("a", "aa")] * 5}],
    "a hundred sequences in one another": [nested(replaced("a", "a" * 17), 100)],
    "two maps": [{"type": "Precompiled", "precompiled_charsmap": charsmap("b" * 30)}] * 2,
}


@pytest.mark.parametrize("steps", MULTIPLIED.values(), ids=MULTIPLIED)
@pytest.mark.parametrize("kind", ["unigram.json", "bpe.json"])
def test_normalizers_and_decoders_that_multiply_text(kind, steps, files, tmp_path):
    definition = json.loads(files[kind])
    definition["normalizer"] = {"type": "Sequence", "normalizers": steps}
    began = time.process_time()
    assert "has a normalizer that may make a text" in refused(written(tmp_path / "tokenizer.json", definition))
    definition["normalizer"] = None
    definition["decoder"] = {"type": "Sequence", "decoders": [replaced("a", "aa")] * 40}
    assert "has a decoder that may make a text" in refused(written(tmp_path / "tokenizer.json", definition))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("table", [{}, {"precompiled_charsmap": None}, {"precompiled_charsmap": "x"}])
def test_a_map_without_its_table(table, files, tmp_path):
    definition = json.loads(files["unigram.json"])
    definition["normalizer"] = {"type": "Precompiled", **table}
    refused(written(tmp_path / "tokenizer.json", definition))


@pytest.mark.parametrize("name", ["type", None])
def test_a_pre_tokenizer_that_multiplies_text(name, files, tmp_path):
    step = {"add_prefix_space": True, "trim_offsets": True, "use_regex": True} | ({name: "ByteLevel"} if name else {})
    definition = json.loads(files["bpe.json"])
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [step] * 30}
    assert "has a pre_tokenizer that may make a text" in refused(written(tmp_path / "tokenizer.json", definition))


# As in published tokenizers of this field.
USED = {
    "of a T5": [
        {"type": "Precompiled", "precompiled_charsmap": charsmap("a", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647")},
        {"type": "Strip", "strip_left": False, "strip_right": True},
        replaced(" {2,}", "\u2581", "Regex"),
    ],
    "of an ALBERT": [
        replaced("``", '"'),
        replaced("''", '"'),
        {"type": "NFKD"},
        {"type": "StripAccents"},
        {"type": "Lowercase"},
    ],
    "of a CLIP": [{"type": "NFC"}, replaced(r"\s+", " ", "Regex"), {"type": "Lowercase"}],
    "of a Llama": [{"type": "Prepend", "prepend": "\u2581"}, replaced(" ", "\u2581")],
    "of an XLM": [
        replaced("\u3002\\s*", ". ", "Regex"),
        replaced("\uff0e\\s*", ". ", "Regex"),
        replaced("\u2026", "..."),
        {"type": "NFC"},
    ],
    "spaces first": [replaced(" {2,}", " ", "Regex"), {"type": "NFKC"}, {"type": "NFD"}, {"type": "Lowercase"}],
}


@pytest.mark.parametrize("steps", USED.values(), ids=USED)
def test_steps_of_published_tokenizers_are_accepted(steps, files):
    from bertjax.text.growth import check_growth

    definition = json.loads(files["unigram.json"])
    definition["normalizer"] = {"type": "Sequence", "normalizers": steps}
    check_growth(definition, "tokenizer.json")
    pretokenizers = [{"type": "Split", "pattern": {"Regex": " +"}, "behavior": "Isolated"}, {"type": "ByteLevel"}]
    check_growth(
        {**definition, "pre_tokenizer": {"type": "Sequence", "pretokenizers": pretokenizers}}, "tokenizer.json"
    )
    decoders = [replaced("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " "}]
    check_growth({**definition, "decoder": {"type": "Sequence", "decoders": decoders}}, "tokenizer.json")


def test_a_sentencepiece_model_whose_map_multiplies_text(files, tmp_path):
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto = messages.ModelProto()
    proto.ParseFromString(files["spiece.model"])
    spec = proto.normalizer_spec
    end = 4 + int.from_bytes(spec.precompiled_charsmap[:4], "little")
    mapped = len(spec.precompiled_charsmap) - end
    assert mapped > 1000
    spec.precompiled_charsmap = spec.precompiled_charsmap[:end] + b"x" * (mapped - 1) + b"\0"
    message = refused(written(tmp_path / "spiece.model", proto.SerializeToString()))
    assert "has a normalizer that may put" in message
