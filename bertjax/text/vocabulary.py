"""Trains a vocabulary on text: WordPiece or SentencePiece, the same result every time."""

from __future__ import annotations

import functools
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence

from bertjax.config import ConfigError
from bertjax.memory import host_memory
from bertjax.text.accents import decide
from bertjax.text.exact_scores import with_exact_scores
from bertjax.text.interface import Tokenizer
from bertjax.text.languages import has_dotless_i, primary
from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer, prepare_text
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceRules, WordPieceTokenizer, normalizer

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
) -> Tokenizer:
    """A tokenizer of at most ``vocab_size`` entries, learned from ``sentences``; equal input gives equal output.

    ``kind`` is ``wordpiece`` or ``sentencepiece``. WordPiece vocabularies of small corpora are filled up with
    ``[unusedN]``; SentencePiece models stay smaller. ``strip_accents`` None: decided from the text
    (``accents.decide``). ``language``: a code, such as tr. Raises ConfigError where ``vocab_size`` is too small.
    """
    check_size(kind, vocab_size)
    language = None if language is None else primary(language)
    if strip_accents is None:
        strip_accents = decide(sentences, lowercase, None, language).strip
    dotless_i = has_dotless_i(language)
    if kind == "wordpiece":
        rules = WordPieceRules(strip_accents=strip_accents, dotless_i=dotless_i)
        return _train_wordpiece(sentences, vocab_size, lowercase, rules)
    cleaning = functools.partial(prepare_text, lowercase=lowercase, strip_accents=strip_accents, dotless_i=dotless_i)
    model = _train_sentencepiece(list(map(cleaning, sentences)), vocab_size, sentencepiece_type)
    return SentencePieceTokenizer(model, lowercase, strip_accents=strip_accents, dotless_i=dotless_i)


def _train_wordpiece(sentences: Iterable[str], vocab_size: int, lowercase: bool, rules: WordPieceRules) -> Tokenizer:
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    cleaning = normalizer(rules, lowercase)
    texts = [cleaning.normalize_str(text) for text in sentences]
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    characters = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    # A character takes two entries, at the beginning of a word and inside. At least half is left for longer pieces.
    most = (vocab_size - len(WORDPIECE_SPECIALS)) // 4
    dropped = characters[most:]
    kept = sorted(characters[:most])
    if dropped:
        table = dict.fromkeys(map(ord, dropped), " ")
        texts = [text.translate(table) for text in texts]

    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers continuations in the order of a hash map that differs from run to run, and breaks ties
    # by number. Given as special tokens they get their numbers here.
    numbered = [*WORDPIECE_SPECIALS, *(f"##{c}" for c in kept)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=numbered,
        initial_alphabet=kept,
        continuing_subword_prefix="##",
        show_progress=False,
    )
    library.train_from_iterator(iter(texts), trainer)
    learned = library.get_vocab()
    tokens = sorted(learned, key=lambda token: learned[token])[:vocab_size]
    tokens += [f"[unused{i}]" for i in range(vocab_size - len(tokens))]
    return WordPieceTokenizer(tokens, lowercase, rules=rules)


def _train_sentencepiece(texts: Sequence[str], vocab_size: int, model_type: str) -> bytes:
    import sentencepiece

    dropped = _rare_characters(texts, vocab_size)
    if dropped:
        table = dict.fromkeys(map(ord, dropped), " ")
        texts = [text.translate(table) for text in texts]
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


def _rare_characters(texts: Sequence[str], vocab_size: int) -> list[str]:
    """Characters that get no piece of their own and are spelled in bytes.

    They are those that occur once in 2,000 characters all together (SentencePiece's own rule for large alphabets),
    and what takes more than half of the room that the bytes leave.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    ranked = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    keep = max(1, (vocab_size - 261) // 2)
    if len(ranked) > 300:
        wanted = 0.9995 * sum(counts[c] for c in ranked)
        for index, character in enumerate(ranked):
            wanted -= counts[character]
            if wanted <= 0:
                keep = min(keep, index + 1)
                break
    return ranked[keep:]
