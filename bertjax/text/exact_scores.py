"""Scores of a unigram model of which sums are exact, so that ties are ties for every program that reads it."""

from __future__ import annotations

# The library sentencepiece adds scores up in 24 bits, tokenizers in 53: where two ways to divide a text have one and
# the same score, as of "...", "." and ".", "...", the rounding of what stands before decides. Multiples of this add up
# without any up to a sum of 65,536, which is a text of some 8,000 pieces. What it moves a score by means nothing.
_STEP = 1 / 256


def with_exact_scores(model: bytes) -> bytes:
    """A SentencePiece model with its scores rounded to multiples of 1/256."""
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto = messages.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    proto.ParseFromString(model)
    for piece in proto.pieces:
        piece.score = round(piece.score / _STEP) * _STEP
    return proto.SerializeToString(deterministic=True)
