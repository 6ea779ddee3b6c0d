"""A prepared corpus as flat ``.npy`` arrays in its folder ``index``: written once, memory-mapped in training."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.data.corpus.staging import Ranges, Staged
from bertjax.errors import DataError
from bertjax.text.interface import Tokenizer

FOLDER, TOKEN_COUNTS = "index", "token_counts.npy"
SPLITS = ("train", "held_out")
WORD_STARTS = "word_starts"
_DTYPES = {
    "tokens": (np.uint16, np.uint32),
    "sentence_lengths": (np.uint32,),
    "document_sentences": (np.int64,),
    "document_tokens": (np.int64,),
}
_CHUNK = 1 << 24  # elements; a multiple of 8


@dataclass(frozen=True)
class Corpus:
    """One split of a prepared corpus; the arrays may be memory maps.

    tokens: uint16 or uint32 [T], documents one after the other, no special tokens;
    sentence_lengths: uint32 [N], tokens of each sentence, at least 1;
    document_sentences: int64 [D+1], document d holds sentences [d] : [d+1], at least one;
    document_tokens: int64 [D+1], document d holds tokens [d] : [d+1];
    fingerprint: of the data;
    word_starts: uint8 [(T + 7) // 8], one bit per token, lowest first: set where the token begins a word. None if the
    ids tell where words begin, or the corpus was prepared by a version that did not record it.
    """

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    document_sentences: np.ndarray
    document_tokens: np.ndarray
    fingerprint: str
    word_starts: np.ndarray | None = None

    @property
    def num_documents(self) -> int:
        return len(self.document_sentences) - 1

    @property
    def num_sentences(self) -> int:
        return len(self.sentence_lengths)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class PreparedCorpus:
    """An opened corpus. ``token_counts`` int64 [vocab_size]: how often each id occurs in the train split."""

    path: Path
    manifest: dict[str, Any]
    tokenizer: Tokenizer
    train: Corpus
    held_out: Corpus
    token_counts: np.ndarray

    @property
    def fingerprint(self) -> str:
        """Of the data: token ids, sentences, documents, split, and the tokenizer."""
        return self.manifest["fingerprint"]

    @property
    def tokenizer_fingerprint(self) -> str:
        """As recorded when the corpus was prepared, perhaps by a version that covered less of a tokenizer."""
        return self.manifest["tokenizer"]["fingerprint"]


def file_of(split: str, array: str) -> str:
    """Where an array of a split is stored, relative to the folder of the corpus."""
    return f"{FOLDER}/{split}.{array}.npy"


def write_arrays(folder: Path, staged: Staged, splits: dict[str, Ranges], vocab_size: int, work: Path) -> None:
    """Writes the arrays of every split, and how often each id occurs in ``train``: int64 [vocab_size]. ``work``: a
    folder for temporary files."""
    (folder / FOLDER).mkdir()
    for split, ranges in splits.items():
        path = {name: folder / file_of(split, name) for name in (*_DTYPES, WORD_STARTS)}
        tokens = _copy(path["tokens"], staged.tokens, ranges.tokens)
        _copy(path["sentence_lengths"], staged.sentence_lengths, ranges.sentences)
        for name, of in (("document_sentences", ranges.sentences), ("document_tokens", ranges.tokens)):
            np.save(path[name], np.concatenate([[0], np.cumsum(of[:, 1] - of[:, 0])]).astype(np.int64))
        if staged.word_starts is not None:
            _pack(path[WORD_STARTS], _copy(work / "word_starts.npy", staged.word_starts, ranges.tokens))
        if split == "train":
            np.save(folder / FOLDER / TOKEN_COUNTS, token_counts(tokens, vocab_size))


def _copy(path: Path, source: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Writes the elements in ``ranges`` (int64 [n, 2]: first, last + 1) to a file, adjacent ones at once."""
    shape = (int((ranges[:, 1] - ranges[:, 0]).sum()),)
    target = np.lib.format.open_memmap(path, mode="w+", dtype=source.dtype, shape=shape)
    breaks = np.flatnonzero(ranges[1:, 0] != ranges[:-1, 1])
    firsts, lasts = ranges[np.append(0, breaks + 1), 0], ranges[np.append(breaks, len(ranges) - 1), 1]
    begin = 0
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        target[begin : begin + last - first] = source[first:last]
        begin += last - first
    target.flush()
    return target


def _pack(path: Path, flags: np.ndarray) -> None:
    """Writes ``flags`` (0 or 1) as bits, the lowest of each byte first."""
    packed = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(-(-len(flags) // 8),))
    for begin in range(0, len(flags), _CHUNK):
        bits = np.packbits(flags[begin : begin + _CHUNK], bitorder="little")
        packed[begin // 8 : begin // 8 + len(bits)] = bits
    packed.flush()


def token_counts(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """How often each id occurs, int64 [vocab_size]."""
    counts = np.zeros(vocab_size, np.int64)
    for begin in range(0, len(tokens), _CHUNK):
        counts += np.bincount(tokens[begin : begin + _CHUNK], minlength=vocab_size)
    return counts


def open_arrays(folder: Path, split: str, fingerprint: str, words: bool) -> Corpus:
    """The arrays of a split of the corpus in ``folder``, memory-mapped read-only; ``words``: with its word starts.
    Raises OSError, and ValueError if the arrays do not fit together."""
    arrays = {}
    for name in _DTYPES:
        path = folder / file_of(split, name)
        arrays[name] = array = np.load(path, mmap_mode="r")
        if array.ndim != 1 or array.dtype not in _DTYPES[name]:
            raise ValueError(f"{path} holds {array.dtype} {list(array.shape)}, not a list of {name}")
    for bounds, of in (("document_sentences", "sentence_lengths"), ("document_tokens", "tokens")):
        array = arrays[bounds]
        if len(array) == 0 or array[0] != 0 or array[-1] != len(arrays[of]):
            raise ValueError(f"{folder / file_of(split, bounds)} does not end where {split}.{of}.npy does")
    if len(arrays["document_sentences"]) != len(arrays["document_tokens"]):
        raise ValueError(f"{folder}: the arrays of {split} hold different numbers of documents")
    if words:
        path = folder / file_of(split, WORD_STARTS)
        arrays[WORD_STARTS] = array = np.load(path, mmap_mode="r")
        if array.dtype != np.uint8 or array.shape != (-(-len(arrays["tokens"]) // 8),):
            raise ValueError(f"{path} does not hold one bit for each of {len(arrays['tokens'])} tokens")
    return Corpus(**arrays, fingerprint=fingerprint)


def check_lengths(*arrays: np.ndarray) -> None:
    """Raises DataError if the file of a memory-mapped array has become shorter: reading beyond its end would kill the
    process by a signal, as it still does if the file shrinks between this call and the reading. A file that is removed
    or moved stays readable while it is open."""
    for array in arrays:
        mapped = array.base
        if isinstance(mapped, mmap.mmap) and mapped.size() < len(mapped):
            name = getattr(array, "filename", "a file of the corpus")
            raise DataError(f"{name} was shortened while it was in use; prepare the corpus again")
