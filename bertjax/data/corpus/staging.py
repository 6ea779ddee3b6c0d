"""First half of preparing a corpus: documents -> sentences -> token ids in flat files, and which are held out."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import zstandard

from bertjax.data.corpus.files import Report
from bertjax.data.corpus.sources import Source, read_documents
from bertjax.text.coverage import Coverage, measure_coverage
from bertjax.text.sentences import split_sentences
from bertjax.text.tokenizer import Tokenizer

T = TypeVar("T")
# Tokenised at once, while the next batch is split into sentences.
_BATCH_CHARACTERS = 2_000_000
# The last sentences of a single document are held out if it has this many.
_LEAST_SENTENCES_TO_CUT = 20


def read_sentences(sources: Iterable[Source], report: Report) -> Iterator[list[str]]:
    """The sentences of each document that has some."""
    for document in read_documents(sources, report):
        sentences = split_sentences(document.text, document.line_breaks)
        if sentences:
            report.documents += 1
            yield sentences


def spooled(documents: Iterable[list[str]], path: Path) -> Iterator[list[str]]:
    """Passes documents on and keeps them in a compressed file, for the second pass over a text whose vocabulary is
    learned in the first."""
    fast = zstandard.ZstdCompressor(level=1)
    with zstandard.open(path, "wt", cctx=fast, encoding="utf-8", newline="\n") as file:
        for document in documents:
            # No sentence has a line break: the splitter turns all white space into single spaces.
            file.write("\n".join(document) + "\n\n")
            yield document


def read_spool(path: Path) -> Iterator[list[str]]:
    """The documents that ``spooled`` kept, in the same order."""
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as file:
        for is_end, lines in itertools.groupby(file, "\n".__eq__):
            if not is_end:
                yield [line[:-1] for line in lines]


@dataclass(frozen=True)
class Staged:
    """Tokenised documents in the order of the sources.

    tokens: uint16 or uint32 [T]; sentence_lengths: uint32 [N]; document_sentences, document_tokens: int64 [D+1];
    document_hashes: uint64 [D], of the text, so that equal documents have equal hashes. known: counts of all text.
    word_starts: uint8 [T], 1 if the token begins a word; None if ids tell where words begin.
    """

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    document_sentences: np.ndarray
    document_tokens: np.ndarray
    document_hashes: np.ndarray
    known: Coverage
    word_starts: np.ndarray | None = None


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def tokenize(documents: Iterable[list[str]], tokenizer: Tokenizer, folder: Path) -> Staged:
    """Tokenises documents into files in ``folder``. Sentences and documents without tokens are left out."""
    dtype = token_dtype(tokenizer.vocab_size)
    words = tokenizer.word_boundaries() is None
    kept = [(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(0, np.uint64))]
    # The tokenizers release Python's lock: one batch is tokenised while the next is made.
    with (
        (folder / "tokens").open("wb") as tokens,
        (folder / "lengths").open("wb") as lengths,
        (folder / "words").open("wb") as starts,
        ThreadPoolExecutor(1) as worker,
    ):
        pending: Future[tuple[np.ndarray, np.ndarray, np.ndarray, Coverage]] | None = None
        known = Coverage()
        batch: list[list[str]] = []
        for following in itertools.chain(_batches(documents, lambda document: sum(map(len, document))), [[]]):
            if pending is not None:
                sentence_tokens, flat, begins, coverage = pending.result()
                known.add(coverage)
                kept.append(_write(batch, sentence_tokens, flat, tokens, lengths))
                starts.write(begins.tobytes())
            batch = following
            pending = worker.submit(_encode, tokenizer, following, dtype, words) if following else None
    counts, sizes, hashes = map(np.concatenate, zip(*kept, strict=True))
    return Staged(
        tokens=_map(folder / "tokens", dtype),
        sentence_lengths=_map(folder / "lengths", np.dtype(np.uint32)),
        document_sentences=np.cumsum(counts),
        document_tokens=np.cumsum(sizes),
        document_hashes=hashes,
        known=known,
        word_starts=_map(folder / "words", np.dtype(np.uint8)) if words else None,
    )


def _batches(items: Iterable[T], size_of: Callable[[Any], int] = len) -> Iterator[list[T]]:
    """Items in lists of about ``_BATCH_CHARACTERS``; the item that exceeds it is included."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode(
    tokenizer: Tokenizer, documents: list[list[str]], dtype: np.dtype, words: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Coverage]:
    """(tokens of each sentence, int64 [n]; the ids of all; with ``words`` which of them begin a word, bool; coverage).
    In parts: a document may be huge, and what the libraries return takes a hundred bytes per token."""
    known = Coverage()
    lengths, flat, starts = [np.zeros(0, np.int64)], [np.zeros(0, dtype)], [np.zeros(0, bool)]
    for part in _batches(itertools.chain.from_iterable(documents)):
        ids, begins = tokenizer.encode_with_word_starts(part) if words else (tokenizer.encode_batch(part), starts[0])
        starts.append(begins)
        lengths.append(np.fromiter(map(len, ids), np.int64, len(ids)))
        flat.append(np.fromiter(itertools.chain.from_iterable(ids), dtype, int(lengths[-1].sum())))
        known.add(measure_coverage(tokenizer, part, ids))
    return np.concatenate(lengths), np.concatenate(flat), np.concatenate(starts), known


def _write(
    documents: list[list[str]], sentence_tokens: np.ndarray, flat: np.ndarray, tokens: IO[bytes], lengths: IO[bytes]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Appends documents to the files; returns sentences, tokens and hash of each document that has tokens."""
    tokens.write(flat.tobytes())
    lengths.write(sentence_tokens[sentence_tokens > 0].astype(np.uint32).tobytes())
    starts = np.cumsum([0, *map(len, documents)])[:-1]
    counts = np.add.reduceat((sentence_tokens > 0).astype(np.int64), starts)
    sizes = np.add.reduceat(sentence_tokens, starts)
    digests = [hashlib.blake2b("\n".join(document).encode(), digest_size=8).digest() for document in documents]
    kept = counts > 0
    return counts[kept], sizes[kept], np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)[kept]


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)


@dataclass(frozen=True)
class Ranges:
    """Runs of whole sentences, one per document, in order: first and last (exclusive) sentence and token of each,
    int64 [documents, 2]."""

    sentences: np.ndarray
    tokens: np.ndarray

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        sentences, tokens = (int((ranges[:, 1] - ranges[:, 0]).sum()) for ranges in (self.sentences, self.tokens))
        return {"documents": len(self.sentences), "sentences": sentences, "tokens": tokens}


def split(staged: Staged, fraction: float) -> tuple[str, Ranges, Ranges]:
    """(how the choice was made, what is trained on, what is held out), about ``fraction`` of the documents.

    The choice: ``documents`` (whole documents, by a hash of their text), ``tail`` (the last sentences of the only
    document) or ``copy`` (nothing could be held out: the held-out text is trained on as well).

    A document is held out by a hash of its text, so equal documents are never on both sides, and a document that is
    in two corpora is held out of both or of neither. At least one is held out if there are two different ones,
    two if there are eight (a random next sentence comes from another document). With fraction 0, or if all
    documents are equal, none is: ``copy``, or ``tail`` for one document of 20 sentences or more.
    """
    unique = np.unique(staged.document_hashes)
    if len(unique) >= 2 and fraction > 0:
        wanted = int(np.searchsorted(unique, np.uint64(int(fraction * (1 << 64)) & (2**64 - 1))))
        least, most = (2 if len(unique) >= 8 else 1), len(unique) - (2 if len(unique) >= 4 else 1)
        is_held_out = np.isin(staged.document_hashes, unique[: min(max(wanted, least), most)])
        return "documents", _documents(staged, ~is_held_out), _documents(staged, is_held_out)
    number = len(staged.document_hashes)
    everything = _documents(staged, np.ones(number, bool))
    sentences, tokens = int(staged.document_sentences[1]), int(staged.document_tokens[1])
    if number == 1 and fraction > 0 and sentences >= _LEAST_SENTENCES_TO_CUT:
        cut = sentences - max(2, round(fraction * sentences))
        token = int(staged.sentence_lengths[:cut].sum(dtype=np.int64))
        part = lambda first, last, begin, end: Ranges(np.array([[first, last]]), np.array([[begin, end]]))
        return "tail", part(0, cut, 0, token), part(cut, sentences, token, tokens)
    copied = np.zeros(number, bool)
    copied[np.flatnonzero(staged.document_hashes == unique[0])[0]] = True
    if fraction == 0 and len(unique) >= 8:
        copied = np.isin(staged.document_hashes, unique[: max(2, len(unique) // 50)])
    return "copy", everything, _documents(staged, copied)


def _documents(staged: Staged, chosen: np.ndarray) -> Ranges:
    """Whole documents, chosen by a mask."""
    bounds = staged.document_sentences, staged.document_tokens
    return Ranges(*(np.stack([of[:-1][chosen], of[1:][chosen]], axis=1) for of in bounds))
