"""What every tokenizer offers, and what all kinds share: names of pieces, hashes, errors of one line."""

from __future__ import annotations

import abc
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from bertjax.config import ConfigError
from bertjax.text.located import Located
from bertjax.text.word_marks import WordMarks

T = TypeVar("T")
ROLES = ("pad", "unk", "cls", "sep", "mask")
# What the pieces are called, by role, where no file says it; the first that a vocabulary holds is taken.
PIECES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
UNUSED = re.compile(r"\[unused\d+\]$")


class Tokenizer(abc.ABC):
    """Text to ids and back.

    kind: ``wordpiece``, ``sentencepiece`` or ``tokenizers``; lowercase: whether text is lowercased; strip_accents:
    whether it loses the marks on its letters (None: its file says so in its own way); dotless_i: whether I is
    lowercased to ı;
    special_ids: ids that are never text - the five below, control pieces and ``[unusedN]`` entries;
    fingerprint: hex SHA-256 over everything that decides the ids, and what an export says beside them;
    former_fingerprint: what versions before recorded for a tokenizer of the same ids, where that was another.
    """

    kind: str
    lowercase: bool
    strip_accents: bool | None = None
    dotless_i: bool = False
    vocab_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    fingerprint: str
    longest_word: int | None = None  # characters; a longer word becomes the unknown token, whatever is in it
    former_fingerprint: str | None = None

    def has_fingerprint(self, recorded: object) -> bool:
        """Whether a fingerprint on record, of this version or one before, is that of this tokenizer."""
        return recorded is not None and recorded in (self.fingerprint, self.former_fingerprint)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text`` without special tokens; "[MASK]" and the like inside it are ordinary text."""
        return self.encode_batch([text])[0]

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for many texts at once, on all cores."""

    @abc.abstractmethod
    def locate_batch(self, texts: Sequence[str]) -> list[Located]:
        """``encode_batch``, with the place of each token in its text."""

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

    def word_marks(self) -> WordMarks | None:
        """What pieces tell of where words begin, for whole-word masking; None where ids alone do not tell."""
        return None

    def encode_words(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """``encode_batch``, and which of the tokens, one text after the other, begin a word: bool [tokens]. Only of
        tokenizers without ``word_marks``."""
        raise NotImplementedError

    @abc.abstractmethod
    def save(self, directory: str | Path) -> None:
        """Writes the vocabulary and the files by which ``transformers.AutoTokenizer`` loads the same tokenizer."""

    def special_tokens(self) -> dict[str, str]:
        """Role (pad, unk, cls, sep, mask) -> piece."""
        return {role: self.token(getattr(self, f"{role}_id")) for role in ROLES}

    def _set_specials(self, ids: dict[str, int], others: Iterable[int], origin: str, names: Mapping[str, str]) -> None:
        missing = [names.get(role) or " or ".join(PIECES[role][:2]) for role in ROLES if role not in ids]
        if missing:
            raise ConfigError(f"{origin} lacks the special tokens {', '.join(map(printable, missing))}")
        for role in ROLES:
            setattr(self, f"{role}_id", ids[role])
        self.special_ids = tuple(sorted({*ids.values(), *others}))

    def _cover_names(self, ids: Mapping[str, int]) -> None:
        """Makes the fingerprint cover which pieces are special, where ``special_ids`` would choose others by itself."""
        chosen = special_ids(ids, {})
        if any(chosen.get(role, own) != own for role in ROLES for own in [getattr(self, f"{role}_id")]):
            names = self.special_tokens()
            self.fingerprint = fingerprint("special tokens", self.fingerprint, *(names[role] for role in ROLES))


def special_ids(ids: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """Role -> id of the piece that ``names`` gives it, else of the first of ``PIECES`` in ``ids`` (piece -> id)."""
    wanted = {role: (names[role],) if role in names else PIECES[role] for role in ROLES}
    found = {role: [ids[piece] for piece in pieces if piece in ids] for role, pieces in wanted.items()}
    return {role: numbers[0] for role, numbers in found.items() if numbers}


def fingerprint(*parts: str) -> str:
    """Hex SHA-256 over ``parts``, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def printable(value: object) -> str:
    """``value`` from a file as part of a message of one line."""
    text = type(value).__name__ if isinstance(value, list | dict) else str(value)[:200]
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def guarded(call: Callable[[], T], origin: str) -> T:
    """``call()``, its errors as ConfigError. The library raises bare Exception, and for panics BaseException."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, ConfigError):
        raise
    except BaseException as error:
        raise ConfigError(f"{origin} is no tokenizer of the library tokenizers: {printable(error)}") from None
