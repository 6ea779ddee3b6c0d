"""One interface over WordPiece (library ``tokenizers``) and SentencePiece (library ``sentencepiece``)."""

from __future__ import annotations

import abc
import functools
import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.config import ConfigError
from bertjax.text.tokenizer_files import folder_lowercase, write_json, write_transformers_config

ROLES = ("pad", "unk", "cls", "sep", "mask")
WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# What the pieces are called, by role; the first that a vocabulary holds is taken.
_PIECES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
_UNUSED = re.compile(r"\[unused\d+\]$")
_MAX_CHARACTERS_PER_WORD = 100
SPACE_MARK = "\u2581"  # how SentencePiece writes the white space before a word


class Tokenizer(abc.ABC):
    """Text to ids and back.

    kind: ``wordpiece`` or ``sentencepiece``; lowercase: whether text is lowercased and loses its accents;
    special_ids: ids that are never text - the five below, control pieces and ``[unusedN]`` entries;
    fingerprint: hex SHA-256 over everything that decides the ids.
    """

    kind: str
    lowercase: bool
    vocab_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    fingerprint: str

    def encode(self, text: str) -> list[int]:
        """The ids of ``text`` without special tokens; "[MASK]" and the like inside it are ordinary text."""
        return self.encode_batch([text])[0]

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for many texts at once, on all cores."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special tokens are written out by name."""

    @abc.abstractmethod
    def token(self, token_id: int) -> str:
        """The piece of an id. Raises IndexError where there is none."""

    @abc.abstractmethod
    def token_id(self, token: str) -> int | None:
        """The id of a piece, None where there is none."""

    @abc.abstractmethod
    def continues_word(self) -> np.ndarray:
        """bool [vocab_size]: True where a piece continues the word of the piece before it."""

    @abc.abstractmethod
    def save(self, directory: str | Path) -> None:
        """Writes the vocabulary and the files by which ``transformers.AutoTokenizer`` loads the same tokenizer."""

    def special_tokens(self) -> dict[str, str]:
        """Role (pad, unk, cls, sep, mask) -> piece."""
        return {role: self.token(getattr(self, f"{role}_id")) for role in ROLES}

    def _set_specials(self, ids: dict[str, int], others: Iterable[int], origin: str) -> None:
        missing = [" or ".join(_PIECES[role][:2]) for role in ROLES if role not in ids]
        if missing:
            raise ConfigError(f"{origin} lacks the special tokens {', '.join(missing)}")
        for role in ROLES:
            setattr(self, f"{role}_id", ids[role])
        self.special_ids = tuple(sorted({*ids.values(), *others}))


class WordPieceTokenizer(Tokenizer):
    """BERT's own: its cleaning and splitting of text, then greedy longest match with ``##`` continuations."""

    kind = "wordpiece"

    def __init__(self, tokens: Sequence[str], lowercase: bool = True, origin: str = "the vocabulary") -> None:
        """``tokens`` in the order of their ids. Raises ConfigError where special tokens are missing."""
        self._tokens = list(tokens)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self.lowercase = lowercase
        self.vocab_size = len(self._tokens)
        ids = {role: self._ids[name] for role in ROLES for name in _PIECES[role][:1] if name in self._ids}
        unused = (i for i, token in enumerate(self._tokens) if _UNUSED.match(token))
        self._set_specials(ids, unused, origin)
        self.fingerprint = _fingerprint("wordpiece", str(lowercase), *self._tokens)
        self._library = self._build()
        # Text that merely mentions "[SEP]" must not end an example.
        self._library.encode_special_tokens = True

    def _build(self) -> Any:
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

        library = tokenizers.Tokenizer(
            models.WordPiece(
                vocab=self._ids,
                unk_token="[UNK]",
                max_input_chars_per_word=_MAX_CHARACTERS_PER_WORD,
            )
        )
        library.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        library.decoder = decoders.WordPiece()
        library.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", self.cls_id), ("[SEP]", self.sep_id)],
        )
        library.add_special_tokens(list(WORDPIECE_SPECIALS))
        return library

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        return self._library.decode([int(i) for i in ids], skip_special_tokens=False)

    def token(self, token_id: int) -> str:
        return self._tokens[token_id]

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def continues_word(self) -> np.ndarray:
        return np.array([token.startswith("##") for token in self._tokens])

    def save(self, directory: str | Path) -> None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "vocab.txt").write_text("".join(f"{t}\n" for t in self._tokens), encoding="utf-8", newline="\n")
        write_json(directory / "tokenizer.json", json.loads(self._build().to_str()))
        write_transformers_config(
            directory,
            self,
            tokenizer_class="BertTokenizer",
            do_lower_case=self.lowercase,
            strip_accents=None,
            tokenize_chinese_chars=True,
            do_basic_tokenize=True,
            never_split=None,
        )


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model, with the cleaning of text that ALBERT does before it.

    That is: ``` and '' become \", and with ``lowercase`` accents are stripped (NFKD) and text is lowercased.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes, lowercase: bool = True, origin: str = "the SentencePiece model") -> None:
        """``model`` is the content of a ``.model`` file. Raises ConfigError where it is none, or lacks pieces."""
        import sentencepiece

        self._model = model
        try:
            self._library = sentencepiece.SentencePieceProcessor(model_proto=model)
            self.vocab_size = self._library.get_piece_size()
        except RuntimeError:
            self.vocab_size = 0
        if self.vocab_size == 0:
            raise ConfigError(f"{origin} is no SentencePiece model")
        self.lowercase = lowercase
        library = self._library
        pieces = [library.id_to_piece(i) for i in range(self.vocab_size)]
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        self._pieces = pieces
        ids = {}
        for role in ROLES:
            found = [self._ids[name] for name in _PIECES[role] if name in self._ids]
            if found:
                ids[role] = found[0]
        if "unk" not in ids and library.unk_id() >= 0:
            ids["unk"] = library.unk_id()
        control = [i for i in range(self.vocab_size) if library.is_control(i) or library.is_unknown(i)]
        control += [i for i in range(self.vocab_size) if library.is_unused(i) or _UNUSED.match(pieces[i])]
        self._set_specials(ids, control, origin)
        self.fingerprint = _fingerprint("sentencepiece", str(lowercase), hashlib.sha256(model).hexdigest())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._library.encode([prepare_text(text, self.lowercase) for text in texts], out_type=int)

    def decode(self, ids: Sequence[int]) -> str:
        special, parts, run = set(self.special_ids), [], []
        for i in (*(int(i) for i in ids), None):
            if i is not None and i not in special:
                run.append(i)
                continue
            parts.append(self._library.decode(run))
            parts.append("" if i is None else self._pieces[i])
            run = []
        return " ".join(part for part in parts if part)

    def token(self, token_id: int) -> str:
        return self._pieces[token_id]

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def continues_word(self) -> np.ndarray:
        continues = np.array([not piece.startswith(SPACE_MARK) for piece in self._pieces])
        continues[list(self.special_ids)] = False
        return continues

    def save(self, directory: str | Path) -> None:
        from bertjax.text.sentencepiece_json import tokenizer_json

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "spiece.model").write_bytes(self._model)
        write_json(directory / "tokenizer.json", tokenizer_json(self._model, self))
        write_transformers_config(
            directory,
            self,
            tokenizer_class="AlbertTokenizer",
            do_lower_case=self.lowercase,
            keep_accents=not self.lowercase,
            remove_space=True,
            bos_token=self.token(self.cls_id),
            eos_token=self.token(self.sep_id),
        )


def prepare_text(text: str, lowercase: bool) -> str:
    """What is done to text before a SentencePiece model sees it.

    As ``preprocess_text`` of the ALBERT code, but that accents are the marks that BERT strips (category Mn).
    """
    text = text.replace("``", '"').replace("''", '"')
    if lowercase:
        if not text.isascii():
            text = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).translate(_accents()))
        text = text.lower()
    return text


@functools.cache
def _accents() -> dict[int, None]:
    return dict.fromkeys(c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Mn")


def load_tokenizer(path: str | Path, lowercase: bool = True) -> Tokenizer:
    """The tokenizer of a ``vocab.txt``, a SentencePiece ``.model``, or a folder that holds one of them.

    A folder's ``tokenizer_config.json`` decides about lowercasing where it has ``do_lower_case``; else
    ``lowercase`` does. Raises ConfigError where there is no tokenizer, or its special tokens are missing.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        lowercase = folder_lowercase(path, lowercase)
        names = ("vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
        found = [path / name for name in names if (path / name).is_file()] or sorted(path.glob("*.model"))
        if not found:
            raise ConfigError(f"tokenizer folder {path} holds neither vocab.txt nor a SentencePiece .model file")
        path = found[0]
    if not path.is_file():
        raise ConfigError(f"tokenizer {path} does not exist; give 'wordpiece', 'sentencepiece' or a path")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"tokenizer {path} cannot be read: {error.strerror}") from None
    if path.suffix == ".model":
        return SentencePieceTokenizer(content, lowercase, str(path))
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"tokenizer {path} is neither a vocabulary in UTF-8 nor a .model file") from None
    tokens = [line.strip("\r\n\t ") for line in lines]
    while tokens and not tokens[-1]:
        tokens.pop()
    return WordPieceTokenizer(tokens, lowercase, str(path))


def check_tokenizer(tokenizer: Tokenizer, vocab_size: int, trained: bool) -> None:
    """Raises ConfigError where a tokenizer does not fit ``config.model.vocab_size``.

    A given one must have exactly that size; one that bertjax trained may be smaller (a small corpus has no more
    pieces), never larger.
    """
    size = tokenizer.vocab_size
    if size > vocab_size or (size < vocab_size and not trained):
        raise ConfigError(
            f"the tokenizer has {size} entries, but config.model.vocab_size = {vocab_size}; "
            f"use --config.model.vocab_size={size}"
        )


def _fingerprint(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
