"""Learns a WordPiece vocabulary: the characters of the text, then longer pieces by the library's trainer."""

from collections.abc import Iterable

from bertjax.text.alphabet import alphabet, count_characters, without
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceRules, WordPieceTokenizer, normalizer


def train_wordpiece(
    sentences: Iterable[str], vocab_size: int, lowercase: bool, rules: WordPieceRules, coverage: float | None = None
) -> WordPieceTokenizer:
    """A vocabulary of ``vocab_size`` entries, filled up with ``[unusedN]``; equal input gives equal output.

    ``coverage``: the share of the text whose characters are in it, as in ``alphabet.alphabet``; others are unknown.
    """
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    cleaning = normalizer(rules, lowercase)
    texts = [cleaning.normalize_str(text) for text in sentences]
    counts = count_characters(texts)
    # At least half is left for longer pieces.
    room = (vocab_size - len(WORDPIECE_SPECIALS)) // 2
    kept = _fitting(alphabet(counts, coverage, has_bytes=False), _inside(texts), room)
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


def _fitting(ranked: list[str], inside: frozenset[str], room: int) -> set[str]:
    """The first of ``ranked`` that fit into ``room`` entries; a character also ``inside`` words takes two."""
    kept: set[str] = set()
    for character in ranked:
        room -= 1 + (character in inside)
        if room < 0 and kept:
            break
        kept.add(character)
    return kept


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
