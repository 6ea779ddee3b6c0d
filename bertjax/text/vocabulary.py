"""Trains a vocabulary on text: WordPiece or SentencePiece, the same result every time."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence

from bertjax.config import ConfigError
from bertjax.memory import host_memory
from bertjax.text.accents import decide
from bertjax.text.alphabet import alphabet, count_characters, without
from bertjax.text.exact_scores import with_exact_scores
from bertjax.text.interface import Tokenizer
from bertjax.text.languages import has_dotless_i, primary
from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer, prepare_text
from bertjax.text.wordpiece import WordPieceRules
from bertjax.text.wordpiece_training import train_wordpiece

# Characters of text that a vocabulary is trained on at most; of a larger corpus an even sample of documents is taken.
# Counts of words hardly change beyond; SentencePiece's unigram model keeps the whole text and its suffixes in memory.
SAMPLE_CHARACTERS = {"wordpiece": 100_000_000, "sentencepiece": 25_000_000}
# SentencePiece has 256 pieces for single bytes; below that there is no room for words.
BYTES_AN_ENTRY = 1024  # about what the trainers take, and the tables made of what they find
LEAST_SIZE = {"wordpiece": 32, "sentencepiece": 300}
_LONGEST_TEXT = 4_000  # characters; SentencePiece passes over longer ones


class TextSample:
    """An even sample of documents, chosen by a hash of their content, of bounded size.

    Which documents are in it does not depend on their order. When the sample grows over the bound, half of what is
    in it is dropped, and of what comes half is not taken any more.
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
    """Raises ConfigError where a vocabulary of that kind cannot have so many entries."""
    least, most = LEAST_SIZE[kind], host_memory() // BYTES_AN_ENTRY
    for is_wrong, bound in (
        (vocab_size < least, f"small for {kind}; the least is {least}"),
        (vocab_size > most, f"large to be learned on this machine; the most is {most}"),
    ):
        if is_wrong:
            raise ConfigError(f"config.model.vocab_size = {vocab_size} is too {bound}")


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
    (``accents.decide``). ``language``: a code, such as tr. ``character_coverage``: the share of characters that have a
    piece of their own (None: all, but 0.9995 of an alphabet of over 300). Raises ConfigError where ``vocab_size`` is
    too small.
    """
    check_size(kind, vocab_size)
    language = None if language is None else primary(language)
    if strip_accents is None:
        strip_accents = decide(sentences, lowercase, None, language).strip
    dotless_i = has_dotless_i(language)
    if kind == "wordpiece":
        rules = WordPieceRules(strip_accents=strip_accents, dotless_i=dotless_i)
        return train_wordpiece(sentences, vocab_size, lowercase, rules, character_coverage)
    cleaning = functools.partial(prepare_text, lowercase=lowercase, strip_accents=strip_accents, dotless_i=dotless_i)
    texts = list(map(cleaning, sentences))
    model = _train_sentencepiece(texts, vocab_size, sentencepiece_type, character_coverage)
    return SentencePieceTokenizer(model, lowercase, strip_accents=strip_accents, dotless_i=dotless_i)


def _train_sentencepiece(texts: list[str], vocab_size: int, model_type: str, coverage: float | None) -> bytes:
    import sentencepiece

    counts = count_characters(texts)
    # What is left out is spelled in bytes, and so is what takes more than half of the room that these leave.
    kept = alphabet(counts, coverage, has_bytes=True)[: max(1, (vocab_size - 261) // 2)]
    texts = without(texts, counts.keys() - kept)
    pieces = (text[i : i + _LONGEST_TEXT] for text in texts for i in range(0, len(text), _LONGEST_TEXT))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=pieces,
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=1.0,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece="[PAD]",
            unk_piece="[UNK]",
            control_symbols=["[CLS]", "[SEP]", "[MASK]"],
            normalization_rule_name="nmt_nfkc",
            shuffle_input_sentence=False,
            max_sentence_length=8 * _LONGEST_TEXT,
            num_threads=16,  # fixed: the sums over threads decide the last bits of the scores
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"no SentencePiece vocabulary of config.model.vocab_size = {vocab_size} can be learned here: {reason}"
        ) from None
    return with_exact_scores(model.getvalue())
