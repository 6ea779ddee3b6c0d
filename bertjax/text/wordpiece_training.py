"""Learns a WordPiece vocabulary: an alphabet that occurs, then longer pieces by the library's trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bertjax.text.alphabet import alphabet, count_characters, without
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceRules, WordPieceTokenizer, normalizer


def train_wordpiece(
    sentences: Iterable[str], vocab_size: int, lowercase: bool, rules: WordPieceRules, coverage: float | None = None
) -> WordPieceTokenizer:
    """A vocabulary of ``vocab_size`` entries, filled up with ``[unusedN]``; equal input gives equal output.

    ``coverage``: the share of characters that it holds, as ``alphabet.alphabet`` has it; the others are unknown.
    """
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    cleaning = normalizer(rules, lowercase)
    texts = [cleaning.normalize_str(text) for text in sentences]
    counts = count_characters(texts)
    # At least half is left for longer pieces.
    room = (vocab_size - len(WORDPIECE_SPECIALS)) // 2
    kept = _in_room(alphabet(counts, coverage, has_bytes=False), _inside(texts), room)
    texts = without(texts, counts.keys() - kept)
    inside = _inside(texts)

    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers continuations in the order of a hash map that differs from run to run, and breaks ties
    # by number. Given as special tokens they get their numbers here: all that it would find, and no other.
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


def _in_room(ranked: list[str], inside: frozenset[str], room: int) -> set[str]:
    """The first of ``ranked`` that take ``room`` entries at most, two where a character occurs ``inside`` words too."""
    kept: set[str] = set()
    for character in ranked:
        room -= 1 + (character in inside)
        if room < 0 and kept:
            break
        kept.add(character)
    return kept


def _inside(texts: Iterable[str]) -> frozenset[str]:
    """The characters that occur in words elsewhere than at the beginning, by the library's own splitting."""
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    between_spaces: Counter[str] = Counter()
    for text in texts:
        between_spaces.update(text.split())
    found: set[str] = set()
    for part in between_spaces:
        # Letters and digits are one word: punctuation alone is split off.
        for word in (part,) if part.isalnum() else (word for word, _ in split(part)):
            found.update(word[1:])
    return frozenset(found)
