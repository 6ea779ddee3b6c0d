"""A corpus file that changes while it is hashed or read: what is kept is what its fingerprint says, or nothing."""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import zstandard
from result import Result

BAR = "the corpus is one of the contents, and says which; or one line, and nothing is kept"
ENDINGS = (".txt", ".jsonl", ".txt.gz", ".jsonl.xz", ".txt.zst", ".parquet")
CHUNK = 4096  # bytes read at once, so that there are many moments between
MOST_READS = 20


def replaced(count: int, seed: int) -> Result:
    """``count`` changes at moments that the seed draws."""
    result, outcomes = Result("replaced", BAR), {"refused": 0, "kept": 0}
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as folder, _small_reads():
            wrong = _tried(number, Path(folder), outcomes)
        result.tried += 1
        if wrong:
            again = f"python tests/faults/catalogue.py --only replaced --seed {number} --count 1"
            result.failures.append(f"{wrong}  [{again}]")
    result.figures = {name: str(value) for name, value in outcomes.items()}
    return result


def _tried(seed: int, folder: Path, outcomes: dict[str, int]) -> str:
    from bertjax.data.corpus import files
    from bertjax.data.corpus.prepared import prepare
    from bertjax.errors import DataError

    draw = random.Random(seed)
    ending = draw.choice(ENDINGS)
    path, first, second = folder / f"a{ending}", _content(draw, ending, "first"), _content(draw, ending, "second")
    path.write_bytes(first)
    change = draw.choice([_rename, _overwrite, _append, _truncate, _touch, _flip])
    what = f"{ending}, {change.__name__[1:]}"
    real, moment = files.HashedFile.readinto, draw.randint(1, MOST_READS)

    def reading(self: files.HashedFile, buffer: memoryview) -> int:
        nonlocal moment
        moment -= 1
        if moment == 0:
            change(draw, path, second)
        return real(self, buffer)

    try:
        with mock.patch.object(files.HashedFile, "readinto", reading):
            corpus = _prepare(prepare, path, folder / "cache")
    except DataError as error:
        outcomes["refused"] += 1
        left = [p.name for p in (folder / "cache").iterdir()] if (folder / "cache").exists() else []
        return f"{what}: {left} is left after: {error}" if left or "\n" in str(error) else ""
    outcomes["kept"] += 1
    said = corpus.manifest["sources"][0]["sha256"]
    for content in (first, second, path.read_bytes(), path.read_bytes()[: len(first)]):
        same = folder / f"same{ending}"
        same.write_bytes(content)
        if files.hash_file(same).sha256 == said:
            again = _prepare(prepare, same, folder / "fresh")
            return "" if again.fingerprint == corpus.fingerprint else f"{what}: other text than its source's hash says"
    return f"{what}: its source is said to have a content that the file never had"


def _prepare(prepare, path: Path, cache: Path):
    with mock.patch.dict(os.environ, {"BERTJAX_CACHE": str(cache)}):
        return prepare([path], vocab_size=300, progress=lambda *_: None)


@contextlib.contextmanager
def _small_reads() -> Iterator[None]:
    from bertjax.data.corpus import files

    with mock.patch.object(files, "_CHUNK", CHUNK):
        yield


def _content(draw: random.Random, ending: str, word: str) -> bytes:
    letters = "abcdefghij"
    texts = [f"The {word} text " + " ".join(draw.choices(letters, k=400)) + "." for _ in range(draw.randint(40, 80))]
    if ending == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": texts}), sink)
        return sink.getvalue().to_pybytes()
    is_json = ".jsonl" in ending
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts) if is_json else "\n\n".join(texts)
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
    return pack.get(Path(ending).suffix or ending, bytes)(data.encode())


def _rename(draw: random.Random, path: Path, second: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(second)
    other.replace(path)


def _overwrite(draw: random.Random, path: Path, second: bytes) -> None:
    path.write_bytes(second)


def _append(draw: random.Random, path: Path, second: bytes) -> None:
    with path.open("ab") as file:
        file.write(second)


def _truncate(draw: random.Random, path: Path, second: bytes) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def _touch(draw: random.Random, path: Path, second: bytes) -> None:
    os.utime(path, (1, 1))


def _flip(draw: random.Random, path: Path, second: bytes) -> None:
    with path.open("r+b") as file:
        place = draw.randrange(path.stat().st_size)
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([old[0] ^ 1]))


FAULTS = {"replaced": replaced}
