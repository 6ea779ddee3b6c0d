"""A SentencePiece model as a tokenizer, with ALBERT's cleaning of text; also as ``tokenizer.json`` for transformers."""

import hashlib
import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.errors import ConfigError
from bertjax.text.accents import without_marks
from bertjax.text.charsmap import longest_replacement, mapping_steps
from bertjax.text.growth import LONGEST_REPLACEMENT
from bertjax.text.interface import Tokenizer
from bertjax.text.languages import DOTLESS_I, dotless_i_steps
from bertjax.text.library_tokenizer import template
from bertjax.text.offsets import EncodedText, Offsets, align, encoded_text
from bertjax.text.tokenizer_files import write_files
from bertjax.text.word_boundaries import WordBoundaries, boundaries_of

SPACE_MARK = "\u2581"  # how SentencePiece writes the white space before a word


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model behind the cleaning that ALBERT does: `` and '' become ", and with ``lowercase`` accents
    are stripped (NFKD) and text is lowercased."""

    kind = "sentencepiece"

    def __init__(
        self,
        model: bytes,
        lowercase: bool = True,
        origin: str = "the SentencePiece model",
        strip_accents: bool | None = None,
        names: Mapping[str, str] | None = None,
        dotless_i: bool = False,
    ) -> None:
        """``model`` is the content of a ``.model`` file; ``names`` of special tokens by role. ``strip_accents`` None:
        as ``lowercase``. ``dotless_i``: if text is lowercased, I becomes ı, as in Turkish. Raises ConfigError if the
        model is damaged or lacks special tokens."""
        import sentencepiece

        self._model = model
        try:
            self._library = library = sentencepiece.SentencePieceProcessor(model_proto=model)
            pieces = [library.id_to_piece(i) for i in range(library.get_piece_size())]
        except (RuntimeError, UnicodeDecodeError):
            pieces = []
        if not pieces:
            raise ConfigError(f"{origin} is not a valid SentencePiece model")
        parse_model(model, origin)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.dotless_i = dotless_i and lowercase
        is_special = lambda i: library.is_control(i) or library.is_unknown(i) or library.is_unused(i)
        unk_id = library.unk_id() if library.unk_id() >= 0 else None
        self._set_vocabulary(pieces, names or {}, filter(is_special, range(len(pieces))), origin, unk_id)
        cleaning = str(lowercase) if self.strip_accents == lowercase else f"{lowercase} {self.strip_accents}"
        cleaning += " dotless i" if self.dotless_i else ""
        self._set_fingerprint("sentencepiece", cleaning, hashlib.sha256(model).hexdigest())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._library.encode([self._prepare(text) for text in texts], out_type=int)

    def _prepare(self, text: str) -> str:
        return prepare_text(text, self.lowercase, self.strip_accents, self.dotless_i)

    def encode_with_offsets(self, texts: Sequence[str]) -> list[EncodedText]:
        prepared = [align(text, self._prepare) for text in texts]
        answers = self._library.encode([text for text, _ in prepared], out_type="serialized_proto")
        return [_from_answer(*rest) for rest in zip(texts, prepared, answers, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        parts, special = [], set(self.special_ids)
        for is_special, group in itertools.groupby(map(int, ids), special.__contains__):
            run = list(group)
            parts += map(self.token, run) if is_special else [self._library.decode(run)]
        return " ".join(filter(None, parts))

    def continues_word(self) -> np.ndarray:
        continues = np.array([not piece.startswith(SPACE_MARK) for piece in self._tokens])
        continues[list(self.special_ids)] = False
        return continues

    def word_boundaries(self) -> WordBoundaries:
        marks = boundaries_of(self._tokens, lambda piece: piece.strip(SPACE_MARK), self.continues_word())
        # Some models write the space after a word, or put several words into a piece.
        marks.ends[[i for i, piece in enumerate(self._tokens) if len(piece) > 1 and piece.endswith(SPACE_MARK)]] = True
        return marks

    def save(self, directory: str | Path) -> None:
        write_files(
            directory,
            self,
            tokenizer_json(parse_model(self._model, "the SentencePiece model"), self),
            # transformers 5 rebuilds AlbertTokenizer from the vocabulary alone, as a unigram model without bytes;
            # this class runs tokenizer.json as it is.
            tokenizer_class="PreTrainedTokenizerFast",
            do_lower_case=self.lowercase,
            keep_accents=not self.strip_accents,
            remove_space=True,
            **({"dotless_i": True} if self.dotless_i else {}),
            bos_token=self.token(self.cls_id),
            eos_token=self.token(self.sep_id),
        )
        Path(directory, "spiece.model").write_bytes(self._model)


def prepare_text(text: str, lowercase: bool, strip_accents: bool | None = None, dotless_i: bool = False) -> str:
    """Cleans text for a SentencePiece model; ``strip_accents`` None: as ``lowercase``. ``dotless_i``: I is lowercased
    to ı. Like ``preprocess_text`` of the ALBERT code, except that accents are the marks that BERT strips (category
    Mn)."""
    text = text.replace("``", '"').replace("''", '"')
    for pattern, content in DOTLESS_I if dotless_i and lowercase else ():
        text = re.sub(pattern, content, text)
    if (lowercase if strip_accents is None else strip_accents) and not text.isascii():
        text = unicodedata.normalize("NFC", without_marks(unicodedata.normalize("NFKD", text)))
    return text.lower() if lowercase else text


def _from_answer(text: str, prepared: tuple[str, list[Offsets]], answer: bytes) -> EncodedText:
    """The tokens in ``text`` from the library's answer on the prepared text, which counts bytes of UTF-8."""
    from sentencepiece import sentencepiece_pb2 as messages

    pieces = messages.SentencePieceText.FromString(answer).pieces  # pyright: ignore[reportAttributeAccessIssue]
    cleaned, origins = prepared
    at = np.repeat(np.arange(len(cleaned)), [len(character.encode()) for character in cleaned])
    spans = []
    for piece in pieces:
        inside = [origins[i] for i in at[piece.begin : piece.end]]
        spans.append((inside[0][0], inside[-1][1]) if inside else (0, 0))
    return encoded_text(text, [piece.id for piece in pieces], spans)


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
    from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers

    library = tokenizers.Tokenizer(_library_model(proto, tokenizer))
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if tokenizer.dotless_i:
        steps += dotless_i_steps()
    if tokenizer.strip_accents:
        steps += [normalizers.NFKD(), normalizers.Replace(Regex(_ACCENTS), ""), normalizers.NFC()]
    if tokenizer.lowercase:
        steps += [normalizers.Replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase()]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    if charsmap:
        steps += mapping_steps(charsmap) or [normalizers.Precompiled(charsmap)]
    # Only spaces: by now all other white space is a space too, or is an ordinary character to SentencePiece.
    steps += [normalizers.Replace(Regex("  +"), " "), normalizers.Replace(Regex(r"\A | \z"), "")]
    library.normalizer = normalizers.Sequence(steps)
    byte_fallback = proto.trainer_spec.byte_fallback
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


def _library_model(proto: Any, tokenizer: Tokenizer) -> Any:
    """The model of the library ``tokenizers`` that splits a word as SentencePiece does."""
    from tokenizers import models

    byte_fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == _UNIGRAM:
        # Pieces that a user added have the scores that the library sentencepiece uses.
        best = max((piece.score for piece in proto.pieces if piece.type == piece.NORMAL), default=0.0)
        added = lambda piece: len(piece.piece.encode()) * best - 0.1
        score = lambda piece: added(piece) if piece.type == piece.USER_DEFINED else piece.score
        scored = [(piece.piece, score(piece)) for piece in proto.pieces]
        return models.Unigram(scored, unk_id=tokenizer.unk_id, byte_fallback=byte_fallback)
    vocab = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    # SentencePiece does not store the merges: they are every way to make a piece of two others, ordered by the score of
    # the result, as SentencePiece merges.
    ordered = (piece.piece for piece in sorted(proto.pieces, key=lambda piece: -piece.score))
    halves = ((piece[:cut], piece[cut:]) for piece in ordered for cut in range(1, len(piece)))
    merges = [(left, right) for left, right in halves if left in vocab and right in vocab]
    unknown = tokenizer.token(tokenizer.unk_id)
    return models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=byte_fallback)
