"""The flat arrays of a corpus, memory-mapped: what training reads. Derived from the shards."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertjax.data.corpus.shards import Example
from bertjax.errors import DataError

_CHUNK = 1 << 24  # tokens
_DTYPES = {
    "tokens": (np.uint16, np.uint32),
    "sentence_lengths": (np.uint32,),
    "document_sentences": (np.int64,),
    "document_tokens": (np.int64,),
}
ARRAYS = tuple(_DTYPES)
WORDS = "word_starts"


@dataclass(frozen=True)
class Corpus:
    """One split of a prepared corpus; the arrays may be memory maps.

    tokens: uint16 or uint32 [T], documents one after the other, no special tokens;
    sentence_lengths: uint32 [N], tokens of each sentence, at least 1;
    document_sentences: int64 [D+1], document d holds sentences [d] : [d+1], at least one;
    document_tokens: int64 [D+1], document d holds tokens [d] : [d+1];
    fingerprint: of the data;
    word_starts: uint8 [(T + 7) // 8], a bit for each token, the lowest first: it begins a word; None where ids tell
    that, or the corpus was prepared by a version that did not keep it.
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


def index_files(split: str, words: bool) -> list[str]:
    """The names of the files of a split inside the folder ``index``; ``words``: whether word starts are kept."""
    return [f"{split}.{array}.npy" for array in (*ARRAYS, *([WORDS] * words))]


def write_index(
    folder: Path,
    split: str,
    examples: Iterable[Example],
    dtype: np.dtype,
    tokens: int,
    sentences: int,
    words: bool = False,
) -> None:
    """Writes the arrays of a split from its records, of which the totals of tokens and sentences are known; ``words``:
    whether they tell where words begin."""
    flat = _create(folder / f"{split}.tokens.npy", dtype, tokens)
    lengths = _create(folder / f"{split}.sentence_lengths.npy", np.dtype(np.uint32), sentences)
    starts = _create(folder / f"{split}.{WORDS}.npy", np.dtype(np.uint8), -(-tokens // 8)) if words else None
    bits, packed = np.zeros(0, np.uint8), 0  # that do not fill a byte yet; bytes written
    token_bounds, sentence_bounds = [0], [0]
    for example in examples:
        begin, end = token_bounds[-1], token_bounds[-1] + len(example["tokens"])
        flat[begin:end] = example["tokens"]
        token_bounds.append(end)
        if starts is not None:
            unpacked = np.unpackbits(example[WORDS], count=end - begin, bitorder="little")
            bits = np.concatenate([bits, unpacked])
            full = len(bits) // 8
            starts[packed : packed + full] = np.packbits(bits[: full * 8], bitorder="little")
            bits, packed = bits[full * 8 :], packed + full
        begin, end = sentence_bounds[-1], sentence_bounds[-1] + len(example["sentence_lengths"])
        lengths[begin:end] = example["sentence_lengths"]
        sentence_bounds.append(end)
    if starts is not None:
        starts[packed:] = np.packbits(bits, bitorder="little")
        starts.flush()
    flat.flush()
    lengths.flush()
    np.save(folder / f"{split}.document_sentences.npy", np.array(sentence_bounds, np.int64))
    np.save(folder / f"{split}.document_tokens.npy", np.array(token_bounds, np.int64))


def open_index(folder: Path, split: str, fingerprint: str) -> Corpus:
    """The arrays of a split, memory-mapped read-only. Raises OSError, and ValueError where they do not go together."""
    arrays = {}
    for name in ARRAYS:
        path = folder / f"{split}.{name}.npy"
        arrays[name] = array = np.load(path, mmap_mode="r")
        if array.ndim != 1 or array.dtype not in _DTYPES[name]:
            raise ValueError(f"{path} holds {array.dtype} {list(array.shape)}, which is none of its kind")
    for bounds, of in (("document_sentences", "sentence_lengths"), ("document_tokens", "tokens")):
        array = arrays[bounds]
        if len(array) == 0 or array[0] != 0 or array[-1] != len(arrays[of]):
            raise ValueError(f"{folder / f'{split}.{bounds}.npy'} does not end where {split}.{of}.npy does")
    if len(arrays["document_sentences"]) != len(arrays["document_tokens"]):
        raise ValueError(f"{folder}: the arrays of {split} are of different numbers of documents")
    words = folder / f"{split}.{WORDS}.npy"
    if words.exists():
        arrays[WORDS] = array = np.load(words, mmap_mode="r")
        if array.dtype != np.uint8 or array.shape != (-(-len(arrays["tokens"]) // 8),):
            raise ValueError(f"{words} does not hold a bit for each of {len(arrays['tokens'])} tokens")
    return Corpus(**arrays, fingerprint=fingerprint)


def check_lengths(*arrays: np.ndarray) -> None:
    """Raises DataError where the file of a memory-mapped array has become shorter: reading what it lacks would end the
    process by a signal.

    To be called right before the arrays are read. A file that shrinks in the microseconds after this still does that;
    only copies in memory would not. One that is removed or moved stays readable for who has it open.
    """
    for array in arrays:
        mapped = array.base
        if isinstance(mapped, mmap.mmap) and mapped.size() < len(mapped):
            name = getattr(array, "filename", "a file of the corpus")
            raise DataError(f"{name} was shortened while it was in use; prepare the corpus again")


def write_token_counts(folder: Path, vocab_size: int) -> None:
    """Writes ``token_counts.npy``, int64 [vocab_size]: how often each id occurs in the train split."""
    counts = np.zeros(vocab_size, np.int64)
    tokens = np.load(folder / "train.tokens.npy", mmap_mode="r")
    for begin in range(0, len(tokens), _CHUNK):
        counts += np.bincount(tokens[begin : begin + _CHUNK], minlength=vocab_size)
    np.save(folder / "token_counts.npy", counts)


def _create(path: Path, dtype: np.dtype, length: int) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(length,))
