"""A SentencePiece model in the form of the library ``tokenizers``: ``tokenizer.json``, which transformers reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bertjax.text.languages import DOTLESS_I
from bertjax.text.longest_match import mapping_steps, precompiled

if TYPE_CHECKING:
    from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer

MARKS = r"\p{Mn}"  # what is stripped, where accents are
_UNIGRAM = 1  # TrainerSpec.ModelType in sentencepiece_model.proto; 2 is BPE
# Python's lower() writes a sigma at the end of a word as such (Unicode 3.13, table 3-17), the library's does not. What
# is before \K belongs to the condition, not to the match.
_FINAL_SIGMA = r"\p{Cased}\p{Case_Ignorable}*\KΣ(?!\p{Case_Ignorable}*\p{Cased})"


def tokenizer_json(model: bytes, tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    """The parsed ``tokenizer.json`` of a SentencePiece ``model`` with ``tokenizer``'s special tokens and cleaning."""
    import tokenizers
    from sentencepiece import sentencepiece_model_pb2 as messages
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

    proto = messages.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    proto.ParseFromString(model)
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    byte_fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == _UNIGRAM:
        library_model = models.Unigram(_scored(proto), unk_id=tokenizer.unk_id, byte_fallback=byte_fallback)
    else:
        library_model = models.BPE(
            vocab={piece: i for i, (piece, _) in enumerate(pieces)},
            merges=_merges(pieces),
            unk_token=tokenizer.token(tokenizer.unk_id),
            fuse_unk=True,
            byte_fallback=byte_fallback,
        )
    library = tokenizers.Tokenizer(library_model)

    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if tokenizer.dotless_i:
        steps += [normalizers.Replace(Regex(pattern), content) for pattern, content in DOTLESS_I]
    if tokenizer.strip_accents:
        steps += [normalizers.NFKD(), normalizers.Replace(Regex(MARKS), ""), normalizers.NFC()]
    if tokenizer.lowercase:
        steps += [normalizers.Replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase()]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    if charsmap:
        steps += mapping_steps(charsmap) or [precompiled(charsmap)]
    # Spaces alone: what else is white space has become one by now, or is a character to SentencePiece.
    steps += [normalizers.Replace(Regex("  +"), " "), normalizers.Replace(Regex(r"\A | \z"), "")]
    library.normalizer = normalizers.Sequence(steps)
    words = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    # The library takes text that spells the name of a byte, "<0x41>", for the byte.
    no_bytes = pre_tokenizers.Split(Regex("<(?=0x[0-9A-F]{2}>)"), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([words, no_bytes]) if byte_fallback else words
    library.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(replacement="\u2581", prepend_scheme="always")]
        if byte_fallback
        else [decoders.Metaspace(replacement="\u2581", prepend_scheme="always")]
    )
    cls, sep = tokenizer.token(tokenizer.cls_id), tokenizer.token(tokenizer.sep_id)
    library.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )
    names = tokenizer.special_tokens()
    library.add_special_tokens(
        [AddedToken(name, lstrip=role == "mask", normalized=False, special=True) for role, name in names.items()]
    )
    return json.loads(library.to_str())


def _scored(proto: Any) -> list[tuple[str, float]]:
    """The pieces with their scores, as the library sentencepiece counts those that a user added."""
    normal = [piece.score for piece in proto.pieces if piece.type == piece.NORMAL]
    best = max(normal, default=0.0)
    return [
        (piece.piece, len(piece.piece.encode()) * best - 0.1 if piece.type == piece.USER_DEFINED else piece.score)
        for piece in proto.pieces
    ]


def _merges(pieces: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """The merges of a BPE model, which SentencePiece does not store: every way to make a piece of two others.

    A pair is merged in the order of the score of what it makes, as SentencePiece does.
    """
    scores = dict(pieces)
    merges = []
    for piece, score in pieces:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                merges.append((-score, len(left), left, right))
    merges.sort(key=lambda merge: merge[0])
    return [(left, right) for _, _, left, right in merges]
