"""Trains a vocabulary on text, WordPiece or SentencePiece; the same text always gives the same vocabulary."""

import functools
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from bertjax.errors import ConfigError
from bertjax.memory import host_memory
from bertjax.text.accents import decide
from bertjax.text.interface import Tokenizer
from bertjax.text.languages import DOTLESS_I_LANGUAGES, primary
from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer, parse_model, prepare_text
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceRules, WordPieceTokenizer, normalizer

# A vocabulary is trained on at most so many characters, an even sample of the documents of a larger corpus. More text
# hardly changes the counts of words; SentencePiece's unigram trainer keeps all text and its suffixes in memory.
SAMPLE_CHARACTERS = {"wordpiece": 100_000_000, "sentencepiece": 25_000_000}
# SentencePiece needs 256 pieces for single bytes; below this there is no room for words.
LEAST_SIZE = {"wordpiece": 32, "sentencepiece": 300}
_BYTES_PER_ENTRY = 1024  # roughly what the trainers and the tables of their results take
# SentencePiece's advice: a large alphabet, of thousands of letters, omits the rarest, one in 2,000 characters of text.
LARGE, COVERAGE = 300, 0.9995
_LONGEST_TEXT = 4_000  # characters; SentencePiece ignores longer ones
# The library sentencepiece adds scores up in 24 bits, tokenizers in 53: if two splits of a text have the same score,
# such as "...", "." and ".", "...", the rounding of what stands before decides. Multiples of this number have exact
# sums up to 65,536, the score of a text of some 8,000 pieces. So small a change of a score means nothing.
_STEP = 1 / 256


class TextSample:
    """An even sample of documents, chosen by a hash of their content, of bounded size. The sample does not depend on
    the order of the documents. Whenever it exceeds the bound, the half with the larger hashes is dropped, and later
    documents with such hashes are not taken."""

    def __init__(self, characters: int) -> None:
        self._bound = characters
        self._documents: list[tuple[int, Sequence[str]]] = []
        self._size = 0
        self._limit = 1 << 64

    def add(self, sentences: Sequence[str]) -> None:
        digest = hashlib.blake2b("".join(sentences).encode(), digest_size=8)
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
    dotless_i = language in DOTLESS_I_LANGUAGES
    if kind == "wordpiece":
        rules = WordPieceRules(strip_accents=strip_accents, dotless_i=dotless_i)
        return train_wordpiece(sentences, vocab_size, lowercase, rules, character_coverage)
    clean = functools.partial(prepare_text, lowercase=lowercase, strip_accents=strip_accents, dotless_i=dotless_i)
    model = train_sentencepiece(list(map(clean, sentences)), vocab_size, sentencepiece_type, character_coverage)
    return SentencePieceTokenizer(model, lowercase, strip_accents=strip_accents, dotless_i=dotless_i)


def train_wordpiece(
    sentences: Iterable[str], vocab_size: int, lowercase: bool, rules: WordPieceRules, coverage: float | None = None
) -> WordPieceTokenizer:
    """A vocabulary of exactly ``vocab_size`` entries. ``coverage``: see ``alphabet``; other characters are unknown."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    cleaning = normalizer(rules, lowercase)
    texts = [cleaning.normalize_str(text) for text in sentences]
    counts = count_characters(texts)
    ranked, inside = alphabet(counts, coverage, has_bytes=False), _inside(texts)
    # At least half is left for longer pieces. A character that also occurs inside words takes two entries.
    room = (vocab_size - len(WORDPIECE_SPECIALS)) // 2
    sizes = itertools.accumulate(1 + (character in inside) for character in ranked)
    kept = set(ranked[: max(1, sum(size <= room for size in sizes))])
    texts = without(texts, counts.keys() - kept)
    inside = _inside(texts)

    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers continuations in the order of a hash map, which differs from run to run, and breaks ties by
    # number. As special tokens they get their numbers here: exactly those that it would find.
    numbered = [*WORDPIECE_SPECIALS, *(f"##{c}" for c in sorted(inside))]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=numbered,
        initial_alphabet=sorted(kept),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    library.train_from_iterator(iter(texts), trainer)
    learned = library.get_vocab()
    tokens = sorted(learned, key=lambda token: learned[token])[:vocab_size]
    tokens += [f"[unused{i}]" for i in range(vocab_size - len(tokens))]
    return WordPieceTokenizer(tokens, lowercase, rules=rules)


def _inside(texts: Iterable[str]) -> frozenset[str]:
    """The characters that occur in words after the first place, by the library's own splitting."""
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    found: set[str] = set()
    for part in {part for text in texts for part in text.split()}:
        # Letters and digits are one word: only punctuation is split off.
        for word in (part,) if part.isalnum() else (word for word, _ in split(part)):
            found.update(word[1:])
    return frozenset(found)


def train_sentencepiece(texts: list[str], vocab_size: int, model_type: str, coverage: float | None) -> bytes:
    """A ``.model`` file of at most ``vocab_size`` pieces, learned from cleaned texts; equal input gives equal bytes.
    ``model_type``: unigram or bpe; ``coverage``: see ``alphabet``. Raises ConfigError."""
    import sentencepiece

    counts = count_characters(texts)
    # Characters that are left out are spelled in bytes. They may take half of the room beside the bytes.
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


def with_exact_scores(model: bytes) -> bytes:
    """A model with its scores rounded to multiples of 1/256, so that ties are ties for every program that reads it."""
    proto = parse_model(model, "the SentencePiece model")
    for piece in proto.pieces:
        piece.score = round(piece.score / _STEP) * _STEP
    return proto.SerializeToString(deterministic=True)


def count_characters(texts: Iterable[str]) -> Counter[str]:
    counts = Counter(itertools.chain.from_iterable(texts))
    return Counter({character: count for character, count in counts.items() if not character.isspace()})


def alphabet(counts: Counter[str], coverage: float | None, has_bytes: bool) -> list[str]:
    """The most frequent characters of ``counts``, in that order, that make up the share ``coverage`` of the text.
    ``coverage`` None: all, but ``COVERAGE`` for a large alphabet. ``has_bytes``: whether other characters are spelled
    in bytes rather than unknown; then an alphabet is large even if it is so only by rare foreign characters."""
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    covered = itertools.accumulate(counts[character] for character in ranked)
    least = (COVERAGE if coverage is None else coverage) * counts.total() - 1e-6
    most = ranked[: 1 + sum(count < least for count in covered)]
    return ranked if coverage is None and len(ranked if has_bytes else most) <= LARGE else most


def without(texts: list[str], characters: Iterable[str]) -> list[str]:
    table = dict.fromkeys(map(ord, characters), " ")
    return [text.translate(table) for text in texts] if table else texts
