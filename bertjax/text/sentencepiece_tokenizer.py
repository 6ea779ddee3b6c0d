"""A SentencePiece model as a tokenizer (library ``sentencepiece``), with ALBERT's cleaning of text."""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bertjax.errors import ConfigError
from bertjax.text.accents import without_marks
from bertjax.text.interface import Tokenizer, fingerprint
from bertjax.text.languages import with_dotless_i
from bertjax.text.offsets import EncodedText, Offsets, align, encoded_text
from bertjax.text.sentencepiece_json import parse_model, tokenizer_json
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
        """``model`` is the content of a ``.model`` file; ``names`` of special tokens by role.

        ``strip_accents`` None: as ``lowercase``. ``dotless_i``: if text is lowercased, I becomes ı, as in Turkish.
        Raises ConfigError if the model is damaged or lacks special tokens.
        """
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
        control = (library.is_control, library.is_unknown, library.is_unused)
        others = [i for i in range(len(pieces)) if any(is_special(i) for is_special in control)]
        unk_id = library.unk_id() if library.unk_id() >= 0 else None
        self._set_vocabulary(pieces, names or {}, others, origin, unk_id)
        cleaning = str(lowercase) if self.strip_accents == lowercase else f"{lowercase} {self.strip_accents}"
        cleaning += " dotless i" if self.dotless_i else ""
        self.fingerprint = fingerprint("sentencepiece", cleaning, hashlib.sha256(model).hexdigest())
        self._add_names_to_fingerprint()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._library.encode([self._prepare(text) for text in texts], out_type=int)

    def _prepare(self, text: str) -> str:
        return prepare_text(text, self.lowercase, self.strip_accents, self.dotless_i)

    def encode_with_offsets(self, texts: Sequence[str]) -> list[EncodedText]:
        prepared = [align(text, self._prepare) for text in texts]
        answers = self._library.encode([text for text, _ in prepared], out_type="serialized_proto")
        return [_from_answer(*rest) for rest in zip(texts, prepared, answers, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        special, parts, run = set(self.special_ids), [], []
        for i in (*map(int, ids), None):
            if i is not None and i not in special:
                run.append(i)
            else:
                parts += [self._library.decode(run), "" if i is None else self._tokens[i]]
                run = []
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
    to ı.

    Like ``preprocess_text`` of the ALBERT code, except that accents are the marks that BERT strips (category Mn).
    """
    text = text.replace("``", '"').replace("''", '"')
    text = with_dotless_i(text) if dotless_i and lowercase else text
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
