"""What is read is what was hashed; and nothing that a file holds takes more than bounded memory or linear time."""

import gzip
import io
import json
import lzma
import os
import socket
import struct
import time
import tracemalloc
import zlib

import pytest
import zstandard

from bertjax.data.corpus import sources as source_files
from bertjax.data.corpus.files import Content, HashedFile, Report, decompressed, hash_file, lines
from bertjax.data.corpus.prepared import prepare
from bertjax.data.corpus.sources import TextList, open_sources
from bertjax.data.corpus.staging import read_sentences, tokenize
from bertjax.errors import DataError
from bertjax.text.sentences import split_sentences
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer

GOOD = [f"Good document {i} is here. It says {i * 7} things." for i in range(40)]
BAD = [text.replace("Good", "Evil") for text in GOOD]
ENDINGS = [".txt", ".txt.gz", ".txt.xz", ".txt.zst", ".jsonl", ".jsonl.gz", ".parquet"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(path, texts):
    """Writes texts as documents, in the form that the path's ending says."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Like the others, files of equal texts' lengths have equal sizes.
        pq.write_table(
            pa.table({"text": texts}), path, compression="none", use_dictionary=False, write_statistics=False
        )
        return path
    is_json = ".jsonl" in path.suffixes
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts) if is_json else "\n\n".join(texts)
    pack = {".gz": lambda d: gzip.compress(d, mtime=0), ".xz": lzma.compress, ".zst": zstandard.compress}
    path.write_bytes(pack.get(path.suffix, bytes)(data.encode()))
    return path


def texts_of(path, report=None):
    return [d.text for source in open_sources([path]) for d in source.documents(report or Report())]


def after_hashing(monkeypatch, change):
    """Does something once, between the moment when a source was hashed and the one when it is read."""
    real, done = source_files.hash_file, []

    def hashed(path):
        content = real(path)
        if not done:
            done.append(change())
        return content

    monkeypatch.setattr(source_files, "hash_file", hashed)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("how", ["in place", "by renaming", "and put back in size only"])
def test_a_file_that_is_replaced_before_it_is_read(ending, how, tmp_path, cache, monkeypatch):
    """A corpus of other text than its fingerprint says would be found again and trained on for good."""
    path = written(tmp_path / f"a{ending}", GOOD)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns

    def replace():
        if how == "by renaming":
            written(tmp_path / f"b{ending}", BAD).replace(path)
        else:
            written(path, BAD)
        if how == "and put back in size only":
            os.utime(path, ns=times)

    after_hashing(monkeypatch, replace)
    with pytest.raises(DataError, match="was changed while it was read") as caught:
        prepare([path], vocab_size=300)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []
    # Whichever text is there now is what is prepared.
    corpus = prepare([path], vocab_size=300)
    assert corpus.tokenizer.token_id("evil") is not None and corpus.tokenizer.token_id("good") is None
    written(path, GOOD)
    assert prepare([path], vocab_size=300).fingerprint != corpus.fingerprint


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".txt.gz"])
def test_a_file_that_is_written_to_while_it_is_read(ending, tmp_path, cache, monkeypatch):
    path = written(tmp_path / f"a{ending}", [f"{i} {os.urandom(2000).hex()}" for i in range(2000)])
    source = open_sources([path])[0]
    source.describe()
    documents = source.documents(Report())
    next(documents)
    with path.open("r+b") as file:  # the last bytes, which nobody has read yet, and no line break
        file.seek(-9, io.SEEK_END)
        file.write(b"x")
    with pytest.raises(DataError, match=r"was changed while it was read"):
        list(documents)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_merely_touched(ending, tmp_path, monkeypatch):
    path = written(tmp_path / f"a{ending}", GOOD)
    after_hashing(monkeypatch, lambda: os.utime(path, (1, 1)))
    assert prepare([path], vocab_size=300).manifest["counts"]["documents"] == len(GOOD)


@pytest.mark.parametrize("ending", [".txt", ".jsonl"])
def test_a_file_that_grows_is_read_no_further_than_it_was_hashed(ending, tmp_path, monkeypatch):
    path = written(tmp_path / f"a{ending}", GOOD)
    before = hash_file(path)
    more = b'{"text": "More."}\n' if ending == ".jsonl" else b"\n\nMore.\n"
    after_hashing(monkeypatch, lambda: path.write_bytes(path.read_bytes() + more))
    corpus = prepare([path], vocab_size=300)
    assert corpus.manifest["counts"]["documents"] == len(GOOD)
    assert (corpus.manifest["sources"][0]["sha256"], corpus.manifest["sources"][0]["size"]) == before
    assert len(texts_of(path)) == len(GOOD) + 1


def test_a_file_that_shrinks(tmp_path, monkeypatch):
    path = written(tmp_path / "a.txt", GOOD)
    after_hashing(monkeypatch, lambda: os.truncate(path, 100))
    with pytest.raises(DataError, match="was changed while it was read"):
        prepare([path], vocab_size=300)


def test_hashing_ends_though_the_file_does_not(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"a" * 10)
    with path.open("rb", buffering=0) as file:
        hashed = HashedFile(path, file)
        path.write_bytes(b"a" * 5_000)
        assert hashed.finish().size == 10
    assert isinstance(hash_file(path), Content)


def test_a_data_set_and_the_built_in_corpus_too(tmp_path, monkeypatch):
    from bertjax.data.corpus import docstrings

    answers = iter([("one", 5), ("two", 5)])
    monkeypatch.setattr(docstrings, "fingerprint", lambda: next(answers))
    monkeypatch.setattr(docstrings, "documents", lambda: iter([("Text is here.", 5)]))
    with pytest.raises(DataError, match="what is installed was changed while it was read"):
        prepare(["installed-docs"], vocab_size=300)


@pytest.mark.parametrize("path", ["fifo.txt", "/dev/zero", "/dev/stdin", "link.txt", "socket.txt", "folder.txt"])
def test_what_has_no_end_is_no_corpus(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.txt")
    (tmp_path / "link.txt").symlink_to("/dev/zero")
    (tmp_path / "folder.txt").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.txt")
        for spec in (path, "*.txt") if path == "fifo.txt" else (path,):
            with pytest.raises(DataError, match=r"is a (pipe|device|socket|folder)") as caught:
                list(read_sentences(open_sources([spec]), Report()))
            assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match=r"is a (pipe|device|socket|folder), not a file|cannot be read"):
            list(lines(tmp_path / path, Report()))


def two_streams(ending, second):
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor(write_checksum=True).compress}[
        ending
    ]
    return pack(b"First document.\n\n") + second(pack(b"Second document, of words. " * 50))


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_a_damaged_second_stream(ending, tmp_path):
    def flipped(data):
        return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :]

    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(two_streams(ending, lambda data: data))
    assert len(texts_of(path)) == 2
    damages = {
        "flipped": flipped,
        "its beginning": lambda data: b"\xff" + data[1:],
        "cut": lambda data: data[:-9],
        "cut at once": lambda data: data[:3],
        "no stream": lambda data: b"rubbish of some length that follows",
    }
    for name, damage in damages.items():
        path.write_bytes(two_streams(ending, damage))
        with pytest.raises(DataError, match="is damaged or cut short") as caught:
            pytest.fail(f"{name}: {texts_of(path)}")
        assert "\n" not in str(caught.value)


def test_streams_of_xz_with_padding_between_them_and_of_old(tmp_path):
    path = tmp_path / "a.txt.xz"
    one, two = lzma.compress(b"One.\n\n"), lzma.compress(b"Two." * 200_000)
    for data in (one + two, one + b"\0" * 8 + two, one + two + b"\0" * (1 << 20), b"".join([one] * 50) + two):
        path.write_bytes(data)
        assert texts_of(path)[-1] == "Two." * 200_000
    (tmp_path / "b.txt.lzma").write_bytes(lzma.compress(b"Old.", format=lzma.FORMAT_ALONE))
    assert texts_of(tmp_path / "b.txt.lzma") == ["Old."]


@pytest.mark.parametrize("level", [1, 19])
def test_frames_of_zstd_of_every_kind_cut_anywhere(tmp_path, level):
    """The walk over the frames, against the library: whole files are read, and none that is cut."""
    texts = [b"", b"a", b"text " * 60_000, os.urandom(200_000), b"z" * 3_000_000]
    skipped = struct.pack("<II", 0x184D2A53, 5) + b"12345"
    path = tmp_path / "a.txt.zst"
    for text in texts:
        for kind in ({"write_checksum": True}, {"write_content_size": False}, {}):
            packed = zstandard.ZstdCompressor(level=level, **kind).compress(text)
            stream = zstandard.ZstdCompressor(level=level, **kind).compressobj()
            streamed = stream.compress(text) + stream.flush()
            path.write_bytes(packed + skipped + streamed + packed)
            assert b"".join(line + b"\n" for line in lines(path, Report())).count(b"\n") >= bool(text)
            with decompressed(path, path.open("rb")) as read:
                assert read.read() == text * 3
            for cut in {1, 2, len(packed) // 2, len(packed) - 1} & set(range(1, len(packed))):
                path.write_bytes(streamed + packed[:-cut])
                with pytest.raises(DataError, match="is damaged or cut short"):
                    list(lines(path, Report()))


def with_window(ending):
    """A small file whose reader is told to keep a window of 1.5 GiB."""
    if ending == ".lzma":
        data = bytearray(lzma.compress(b"Text." * 100, format=lzma.FORMAT_ALONE))
        data[1:5] = struct.pack("<I", 3 << 29)
    elif ending == ".xz":
        data = bytearray(lzma.compress(b"Text." * 100))
        size = (data[12] + 1) * 4  # of the block's header, which ends with its CRC
        place = data.index(b"\x21\x01", 12) + 2  # filter LZMA2, one byte of properties: the size of the window
        data[place] = 37
        data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(bytes(data[12 : 12 + size - 4])))
    else:
        data = bytearray(zstandard.ZstdCompressor().compressobj().compress(b""))
        compressor = zstandard.ZstdCompressor().compressobj()
        data = bytearray(compressor.compress(b"Text." * 100) + compressor.flush())
        data[5] = (31 - 10) << 3
    return bytes(data)


@pytest.mark.parametrize("ending", [".xz", ".lzma", ".zst"])
def test_a_window_of_gigabytes(ending, tmp_path):
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(with_window(ending))
    with pytest.raises(DataError, match="takes too much memory to decompress") as caught:
        texts_of(path)
    assert "\n" not in str(caught.value)


# A text that is hard to take in: what it is made of, and the most bytes of memory a byte of it may take.
HARD = {
    "line breaks": "\n",
    "words": "word other thing ",
    "double spaces": "a  b  ",
    "short lines": "a\n",
    "full stops": ". ",
    "one word": "x",
    "quotes": '." ',
    "initials": "A. ",
    "carriage returns": "\r",
}


@pytest.mark.parametrize("unit", HARD.values(), ids=HARD)
def test_texts_that_are_hard_to_split(unit, tmp_path, monkeypatch):
    """Time and memory grow no faster than the text; what is kept beyond it is bounded."""

    monkeypatch.setattr("bertjax.text.sentences._PIECE", 1 << 14)
    monkeypatch.setattr("bertjax.data.corpus.files._CHUNK", 1 << 14)

    def seconds_and_bytes(size):
        path = tmp_path / "a.txt"
        path.write_text(unit * (size // len(unit)))
        tracemalloc.start()
        for _ in read_sentences(open_sources([path]), Report()):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        began = time.process_time()
        split_sentences(path.read_text(), "wrapped")
        split_sentences(path.read_text(), "paragraphs")
        return time.process_time() - began, peak

    small, large = 1 << 15, 1 << 18
    seconds, _ = min(seconds_and_bytes(small) for _ in range(2))
    more_seconds, peak = seconds_and_bytes(large)
    assert peak < 11 * large
    assert more_seconds < 3 * (large // small) * max(seconds, 0.01)


def test_a_huge_document_is_tokenised_in_parts(tmp_path, monkeypatch):
    tokenizer = WordPieceTokenizer([*WORDPIECE_SPECIALS, "a", "b"])
    sizes = []
    real = tokenizer.encode_batch
    monkeypatch.setattr(tokenizer, "encode_batch", lambda texts: [sizes.append(sum(map(len, texts))), real(texts)][1])
    monkeypatch.setattr("bertjax.data.corpus.staging._BATCH_CHARACTERS", 1000)
    sentences = ["a b " * 10] * 200 + ["\u200b", "b"]
    staged = tokenize([sentences, ["b"]], tokenizer, tmp_path)
    assert max(sizes) <= 1000 + 40 and len(sizes) > 7
    assert staged.sentence_lengths.tolist() == [20] * 200 + [1, 1]
    assert staged.document_tokens.tolist() == [0, 4001, 4002]


def test_texts_of_parquet_that_are_too_long_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("bertjax.data.corpus.formats.LONGEST_LINE", 1000)
    path = written(tmp_path / "a.parquet", ["short", "x" * 2000, "last"])
    report = Report()
    assert texts_of(path, report) == ["short", "last"] and report.skipped_lines == 1


def test_texts_in_memory_need_no_hash(tmp_path):
    assert prepare([TextList(GOOD)], vocab_size=300).manifest["counts"]["documents"] == len(GOOD)
