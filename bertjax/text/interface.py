"""The interface that every tokenizer implements, and which of its pieces are special tokens."""

import abc
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bertjax.errors import ConfigError
from bertjax.text.offsets import EncodedText
from bertjax.text.word_boundaries import WordBoundaries

ROLES = ("pad", "unk", "cls", "sep", "mask")
# Usual names of the special tokens, for vocabularies whose files name none; the first one in the vocabulary is used.
PIECES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
_UNUSED = re.compile(r"\[unused\d+\]$")


class Tokenizer(abc.ABC):
    """Text to ids and back.

    kind: ``wordpiece``, ``sentencepiece`` or ``tokenizers``.
    lowercase: whether text is lowercased. strip_accents: whether letters lose their marks (None: only the tokenizer's
    file knows). dotless_i: whether I is lowercased to ı.
    special_ids: ids that no text gets: the five below, control pieces and ``[unusedN]`` entries.
    longest_word: in characters; a longer word becomes the unknown token (None: no limit).
    fingerprint: hex SHA-256 over everything that decides the ids and what an export writes beside them.
    former_fingerprint: what earlier versions recorded for a tokenizer of the same ids, if that was different.
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
    longest_word: int | None = None
    fingerprint: str
    former_fingerprint: str | None = None

    def has_fingerprint(self, recorded: object) -> bool:
        return recorded is not None and recorded in (self.fingerprint, self.former_fingerprint)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text`` without special tokens; "[MASK]" and the like in it are ordinary text."""
        return self.encode_batch([text])[0]

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for many texts, on all cores."""

    @abc.abstractmethod
    def encode_with_offsets(self, texts: Sequence[str]) -> list[EncodedText]:
        """``encode_batch``, with the offsets of each token in its text."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; special tokens are written out by name."""

    def token(self, token_id: int) -> str:
        """The piece with an id. Raises IndexError for an id outside the vocabulary."""
        return self._tokens[token_id]

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)

    @abc.abstractmethod
    def continues_word(self) -> np.ndarray:
        """bool [vocab_size]: whether a piece continues the word of the piece before it."""

    def word_boundaries(self) -> WordBoundaries | None:
        """Which pieces begin and end words, for whole-word masking; None if the ids alone do not show it."""
        return None

    def encode_with_word_starts(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """``encode_batch``, and bool [tokens of all texts]: whether a token begins a word. Only tokenizers without
        ``word_boundaries`` have it."""
        raise NotImplementedError

    @abc.abstractmethod
    def save(self, directory: str | Path) -> None:
        """Writes the vocabulary, and the files with which ``transformers.AutoTokenizer`` loads the same tokenizer."""

    def special_tokens(self) -> dict[str, str]:
        """Role (pad, unk, cls, sep, mask) -> piece."""
        return {role: self.token(getattr(self, f"{role}_id")) for role in ROLES}

    def _set_vocabulary(
        self,
        tokens: Sequence[str],
        names: Mapping[str, str],
        others: Iterable[int],
        origin: str,
        unk_id: int | None = None,
    ) -> None:
        """Sets the pieces, in the order of their ids, and which of them are special. names: special tokens by role.
        others: further special ids. unk_id: if no piece has a name of that role. Raises ConfigError, naming ``origin``,
        if a role has no piece."""
        self._tokens = list(tokens)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self.vocab_size = len(self._tokens)
        ids = _special_ids(self._ids, names)
        if unk_id is not None:
            ids.setdefault("unk", unk_id)
        missing = [names.get(role) or " or ".join(PIECES[role][:2]) for role in ROLES if role not in ids]
        if missing:
            raise ConfigError(f"{origin} lacks the special tokens {', '.join(map(printable, missing))}")
        for role in ROLES:
            setattr(self, f"{role}_id", ids[role])
        unused = (i for i, token in enumerate(self._tokens) if _UNUSED.match(token))
        self.special_ids = tuple(sorted({*ids.values(), *unused, *others}))

    def _set_fingerprint(self, *parts: str) -> None:
        """The fingerprint of these parts, and of the special tokens unless they have their usual names."""
        self.fingerprint = fingerprint(*parts)
        usual = _special_ids(self._ids, {})
        if any(usual.get(role, own) != own for role in ROLES for own in [getattr(self, f"{role}_id")]):
            self.fingerprint = fingerprint("special tokens", self.fingerprint, *self.special_tokens().values())


def _special_ids(ids: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """Role -> id of the piece that ``names`` gives it, or else of the first usual name that is in ``ids``."""
    wanted = {role: (names[role],) if role in names else PIECES[role] for role in ROLES}
    found = {role: [ids[piece] for piece in pieces if piece in ids] for role, pieces in wanted.items()}
    return {role: numbers[0] for role, numbers in found.items() if numbers}


def fingerprint(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def printable(value: object) -> str:
    """``value`` from a file, shortened and escaped to stand in a message of one line."""
    text = type(value).__name__ if isinstance(value, list | dict) else str(value)[:200]
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
