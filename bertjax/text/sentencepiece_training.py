"""Trains a SentencePiece model, with scores that add up exactly."""

import io

from bertjax.errors import ConfigError
from bertjax.text.alphabet import alphabet, count_characters, without
from bertjax.text.sentencepiece_json import parse_model

_LONGEST_TEXT = 4_000  # characters; SentencePiece ignores longer ones
# The library sentencepiece adds scores up in 24 bits, tokenizers in 53: if two splits of a text have the same score,
# such as "...", "." and ".", "...", the rounding of what stands before decides. Multiples of this number have exact
# sums up to 65,536, the score of a text of some 8,000 pieces. So small a change of a score means nothing.
_STEP = 1 / 256


def train_sentencepiece(texts: list[str], vocab_size: int, model_type: str, coverage: float | None) -> bytes:
    """A ``.model`` file of at most ``vocab_size`` pieces, learned from cleaned texts; equal input gives equal bytes.

    ``model_type``: unigram or bpe; ``coverage``: as in ``alphabet.alphabet``. Raises ConfigError.
    """
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
