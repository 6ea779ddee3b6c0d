"""SentencePiece models: parsed, and written as ``tokenizer.json`` of the library ``tokenizers``, for transformers."""

import json
from typing import Any

from bertjax.errors import ConfigError
from bertjax.text.charsmap import longest_replacement, mapping_steps, precompiled
from bertjax.text.growth import LONGEST_REPLACEMENT
from bertjax.text.interface import Tokenizer
from bertjax.text.languages import dotless_i_steps
from bertjax.text.library_tokenizer import template

_ACCENTS = r"\p{Mn}"  # what stripping accents removes
_UNIGRAM = 1  # TrainerSpec.ModelType in sentencepiece_model.proto; 2 is BPE
# Python's lower() gives a sigma at the end of a word its final form (Unicode 3.13, table 3-17), the library's does
# not. What is before \K is a condition and not part of the match.
_FINAL_SIGMA = r"\p{Cased}\p{Case_Ignorable}*\KΣ(?!\p{Case_Ignorable}*\p{Cased})"


def parse_model(model: bytes, origin: str) -> Any:
    """The ``ModelProto`` of a ``.model`` file. Raises ConfigError if it is damaged, or has a normalizer that may
    replace a short text by a very long one."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as messages

    try:
        proto = messages.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]
    except DecodeError:  # the library's own reader is more lenient
        raise ConfigError(f"{origin} is not a valid SentencePiece model") from None
    longest = longest_replacement(proto.normalizer_spec.precompiled_charsmap)
    if longest > LONGEST_REPLACEMENT:
        raise ConfigError(
            f"{origin} has a normalizer that may put {longest:,} characters in place of one; the limit is "
            f"{LONGEST_REPLACEMENT}"
        )
    return proto


def tokenizer_json(proto: Any, tokenizer: Tokenizer) -> dict[str, Any]:
    """The parsed ``tokenizer.json`` of a model with the special tokens and the cleaning of ``tokenizer``."""
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    byte_fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == _UNIGRAM:
        model = models.Unigram(_scored(proto), unk_id=tokenizer.unk_id, byte_fallback=byte_fallback)
    else:
        model = models.BPE(
            vocab={piece: i for i, (piece, _) in enumerate(pieces)},
            merges=_merges(pieces),
            unk_token=tokenizer.token(tokenizer.unk_id),
            fuse_unk=True,
            byte_fallback=byte_fallback,
        )
    library = tokenizers.Tokenizer(model)

    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if tokenizer.dotless_i:
        steps += dotless_i_steps()
    if tokenizer.strip_accents:
        steps += [normalizers.NFKD(), normalizers.Replace(Regex(_ACCENTS), ""), normalizers.NFC()]
    if tokenizer.lowercase:
        steps += [normalizers.Replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase()]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    if charsmap:
        steps += mapping_steps(charsmap) or [precompiled(charsmap)]
    # Only spaces: by now all other white space is a space too, or is an ordinary character to SentencePiece.
    steps += [normalizers.Replace(Regex("  +"), " "), normalizers.Replace(Regex(r"\A | \z"), "")]
    library.normalizer = normalizers.Sequence(steps)
    words = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    # The library takes text that spells the name of a byte, "<0x41>", for the byte.
    no_bytes = pre_tokenizers.Split(Regex("<(?=0x[0-9A-F]{2}>)"), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([words, no_bytes]) if byte_fallback else words
    spaces = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    library.decoder = decoders.Sequence([decoders.ByteFallback(), spaces] if byte_fallback else [spaces])
    names = tokenizer.special_tokens()
    library.add_special_tokens(
        [AddedToken(name, lstrip=role == "mask", normalized=False, special=True) for role, name in names.items()]
    )
    return {**json.loads(library.to_str()), "post_processor": template(tokenizer)}


def json_cleaning(definition: dict[str, Any]) -> dict[str, bool | None]:
    """``lowercase``, ``strip_accents`` and ``dotless_i`` of the normalizer that ``tokenizer_json`` wrote, or {}."""
    normalizer = definition.get("normalizer")
    if not isinstance(normalizer, dict):
        return {}
    steps = normalizer.get("normalizers")
    steps = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    types = [step.get("type") for step in steps]
    replaced = [step.get("pattern") for step in steps]
    return {
        "lowercase": "Lowercase" in types,
        "strip_accents": "StripAccents" in types or {"Regex": _ACCENTS} in replaced,
        "dotless_i": {"Regex": "I"} in replaced,
    }


def _scored(proto: Any) -> list[tuple[str, float]]:
    """The pieces with their scores; those that a user added with the scores that the library sentencepiece uses."""
    best = max((piece.score for piece in proto.pieces if piece.type == piece.NORMAL), default=0.0)
    return [
        (piece.piece, len(piece.piece.encode()) * best - 0.1 if piece.type == piece.USER_DEFINED else piece.score)
        for piece in proto.pieces
    ]


def _merges(pieces: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """The merges of a BPE model, which SentencePiece does not store: every way to make a piece of two others, ordered
    by the score of the result, as SentencePiece merges."""
    known = {piece for piece, _ in pieces}
    ordered = (piece for piece, _ in sorted(pieces, key=lambda pair: -pair[1]))
    halves = ((piece[:cut], piece[cut:]) for piece in ordered for cut in range(1, len(piece)))
    return [(left, right) for left, right in halves if left in known and right in known]
