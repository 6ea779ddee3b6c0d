"""Trains a vocabulary on text, WordPiece or SentencePiece; the same text always gives the same vocabulary."""

import functools
import hashlib
from collections.abc import Sequence

from bertjax.errors import ConfigError
from bertjax.memory import host_memory
from bertjax.text.accents import decide
from bertjax.text.interface import Tokenizer
from bertjax.text.languages import has_dotless_i, primary
from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer, prepare_text
from bertjax.text.sentencepiece_training import train_sentencepiece
from bertjax.text.wordpiece import WordPieceRules
from bertjax.text.wordpiece_training import train_wordpiece

# A vocabulary is trained on at most so many characters, an even sample of the documents of a larger corpus. More text
# hardly changes the counts of words; SentencePiece's unigram trainer keeps all text and its suffixes in memory.
SAMPLE_CHARACTERS = {"wordpiece": 100_000_000, "sentencepiece": 25_000_000}
# SentencePiece needs 256 pieces for single bytes; below this there is no room for words.
LEAST_SIZE = {"wordpiece": 32, "sentencepiece": 300}
_BYTES_PER_ENTRY = 1024  # roughly what the trainers and the tables of their results take


class TextSample:
    """An even sample of documents, chosen by a hash of their content, of bounded size.

    The sample does not depend on the order of the documents. Whenever it exceeds the bound, the half with the larger
    hashes is dropped, and later documents with such hashes are not taken.
    """

    def __init__(self, characters: int) -> None:
        self._bound = characters
        self._documents: list[tuple[int, Sequence[str]]] = []
        self._size = 0
        self._limit = 1 << 64

    def add(self, sentences: Sequence[str]) -> None:
        """Offers a document."""
        digest = hashlib.blake2b(digest_size=8)
        for sentence in sentences:
            digest.update(sentence.encode())
        rank = int.from_bytes(digest.digest(), "little")
        if rank >= self._limit:
            return
        self._documents.append((rank, sentences))
        self._size += sum(map(len, sentences))
        while self._size > self._bound and len(self._documents) > 1:
            self._limit //= 2
            self._documents = [entry for entry in self._documents if entry[0] < self._limit]
            self._size = sum(len(sentence) for _, document in self._documents for sentence in document)

    def sentences(self) -> list[str]:
        """The sentences of the documents in the sample."""
        return [sentence for _, document in self._documents for sentence in document]


def check_size(kind: str, vocab_size: int) -> None:
    """Raises ConfigError if a vocabulary of that kind cannot have so many entries."""
    least, most = LEAST_SIZE[kind], host_memory() // _BYTES_PER_ENTRY
    if vocab_size < least:
        raise ConfigError(f"config.model.vocab_size = {vocab_size} is too small for {kind}; the minimum is {least}")
    if vocab_size > most:
        raise ConfigError(
            f"config.model.vocab_size = {vocab_size} is too large to be learned on this machine; the maximum is {most}"
        )


def train_tokenizer(
    kind: str,
    sentences: Sequence[str],
    vocab_size: int,
    lowercase: bool,
    sentencepiece_type: str = "unigram",
    strip_accents: bool | None = None,
    language: str | None = None,
    character_coverage: float | None = None,
) -> Tokenizer:
    """A tokenizer of at most ``vocab_size`` entries, learned from ``sentences``; equal input gives equal output.

    ``kind`` is ``wordpiece`` or ``sentencepiece``. WordPiece vocabularies of small corpora are filled up with
    ``[unusedN]``; SentencePiece models stay smaller. ``strip_accents`` None: decided from the text
    (``accents.decide``). ``language``: a code, such as tr. ``character_coverage``: the share of the text whose
    characters have pieces of their own (None: all, but 0.9995 for an alphabet of over 300). Raises ConfigError if
    ``vocab_size`` is out of range.
    """
    check_size(kind, vocab_size)
    language = None if language is None else primary(language)
    if strip_accents is None:
        strip_accents = decide(sentences, lowercase, None, language).strip
    dotless_i = has_dotless_i(language)
    if kind == "wordpiece":
        rules = WordPieceRules(strip_accents=strip_accents, dotless_i=dotless_i)
        return train_wordpiece(sentences, vocab_size, lowercase, rules, character_coverage)
    clean = functools.partial(prepare_text, lowercase=lowercase, strip_accents=strip_accents, dotless_i=dotless_i)
    model = train_sentencepiece(list(map(clean, sentences)), vocab_size, sentencepiece_type, character_coverage)
    return SentencePieceTokenizer(model, lowercase, strip_accents=strip_accents, dotless_i=dotless_i)
