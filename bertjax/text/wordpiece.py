"""BERT's own tokenizer, WordPiece, on the library ``tokenizers``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.config import ConfigError
from bertjax.text.interface import ROLES, UNUSED, Tokenizer, fingerprint, guarded, printable, special_ids
from bertjax.text.languages import DOTLESS_I
from bertjax.text.located import Located, located
from bertjax.text.tokenizer_files import write_json, write_transformers_config
from bertjax.text.word_marks import WordMarks, marks_of, word_starts

WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclasses.dataclass(frozen=True)
class WordPieceRules:
    """How text becomes words and words pieces, beside lowercasing; what BERT of 2018 does by default.

    Names as in the library's BertNormalizer and WordPiece. ``strip_accents`` None: where text is lowercased.
    ``dotless_i``: where text is lowercased, I becomes ı and İ i, as in Turkish.
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100
    dotless_i: bool = False


_RULES = WordPieceRules()


class WordPieceTokenizer(Tokenizer):
    """BERT's own: its cleaning and splitting of text, then greedy longest match with ``##`` continuations."""

    kind = "wordpiece"

    def __init__(
        self,
        tokens: Sequence[str],
        lowercase: bool = True,
        origin: str = "the vocabulary",
        rules: WordPieceRules = _RULES,
        names: Mapping[str, str] | None = None,
        others: Iterable[int] = (),
    ) -> None:
        """``tokens`` in the order of their ids; ``names`` of special tokens by role; ``others`` are special too.

        Raises ConfigError where special tokens are missing, or a token occurs twice or cannot be written.
        """
        self._tokens = list(tokens)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        _check_tokens(self._tokens, self._ids, origin)
        self.lowercase = lowercase
        self.vocab_size = len(self._tokens)
        rules = dataclasses.replace(rules, dotless_i=rules.dotless_i and lowercase)
        self.rules = rules
        self.longest_word = rules.max_input_chars_per_word
        self.strip_accents = lowercase if rules.strip_accents is None else rules.strip_accents
        self.dotless_i = rules.dotless_i
        names = names or {}
        unused = (i for i, token in enumerate(self._tokens) if UNUSED.match(token))
        self._set_specials(special_ids(self._ids, names), {*unused, *others}, origin, names)
        # Rules by what they do: to say that accents are stripped is as good as to leave it to the case.
        same = dataclasses.replace(rules, strip_accents=None if self.strip_accents == lowercase else self.strip_accents)
        if same == _RULES and self.token(self.unk_id) == "[UNK]":
            self.fingerprint = fingerprint("wordpiece", str(lowercase), *self._tokens)
        else:
            told = dataclasses.asdict(same)
            more = json.dumps({key: told[key] for key in told if key != "dotless_i" or rules.dotless_i}, sort_keys=True)
            unknown = self.token(self.unk_id)
            self.fingerprint = fingerprint("wordpiece with rules", str(lowercase), more, unknown, *self._tokens)
        self._cover_names(self._ids)
        self._library = guarded(self._build, origin)
        # Text that merely mentions "[SEP]" must not end an example.
        self._library.encode_special_tokens = True

    def _build(self) -> Any:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, processors

        rules, names = self.rules, self.special_tokens()
        cls, sep = names["cls"], names["sep"]
        library = tokenizers.Tokenizer(
            models.WordPiece(
                vocab=self._ids,
                unk_token=names["unk"],
                max_input_chars_per_word=rules.max_input_chars_per_word,
                continuing_subword_prefix=rules.continuing_subword_prefix,  # pyright: ignore[reportCallIssue]
            )
        )
        library.normalizer = normalizer(rules, self.lowercase)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        library.decoder = decoders.WordPiece(prefix=rules.continuing_subword_prefix)
        library.post_processor = processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(cls, self.cls_id), (sep, self.sep_id)],
        )
        library.add_special_tokens([names[role] for role in ROLES])
        return library

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._library.encode_special_tokens = True  # the library forgets it when it is pickled

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def locate_batch(self, texts: Sequence[str]) -> list[Located]:
        encodings = self._library.encode_batch(list(texts), add_special_tokens=False)
        return [located(text, found.ids, found.offsets) for text, found in zip(texts, encodings, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._library.decode([int(i) for i in ids], skip_special_tokens=False)

    def token(self, token_id: int) -> str:
        return self._tokens[token_id]

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def continues_word(self) -> np.ndarray:
        return np.array([token.startswith(self.rules.continuing_subword_prefix) for token in self._tokens])

    def word_marks(self) -> WordMarks | None:
        prefix = self.rules.continuing_subword_prefix
        # BERT's cleaning sets punctuation apart: no word begins with two signs of it.
        if len(prefix) < 2 or not prefix.isascii() or any(map(str.isalnum, prefix)):
            return None
        return marks_of(self._tokens, (token.removeprefix(prefix) for token in self._tokens), self.continues_word())

    def encode_words(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        encodings = self._library.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings], word_starts(texts, encodings)

    def save(self, directory: str | Path) -> None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "vocab.txt").write_text("".join(f"{t}\n" for t in self._tokens), encoding="utf-8", newline="\n")
        write_json(directory / "tokenizer.json", json.loads(self._build().to_str()))
        rules = self.rules
        of_bert = dataclasses.replace(_RULES, handle_chinese_chars=rules.handle_chinese_chars) == dataclasses.replace(
            rules, strip_accents=None
        )
        write_transformers_config(
            directory,
            self,
            # The class rebuilds the tokenizer from the keys below and leaves the rest of tokenizer.json unread.
            tokenizer_class="BertTokenizer" if of_bert else "PreTrainedTokenizerFast",
            do_lower_case=self.lowercase,
            strip_accents=rules.strip_accents,
            tokenize_chinese_chars=rules.handle_chinese_chars,
            do_basic_tokenize=True,
            **({"dotless_i": True} if rules.dotless_i else {}),
            never_split=None,
        )


def normalizer(rules: WordPieceRules, lowercase: bool) -> Any:
    """The library's normalizer: BERT's own, and before it what Turkish needs that lowercasing does not do."""
    from tokenizers import Regex, normalizers

    of_bert = normalizers.BertNormalizer(
        clean_text=rules.clean_text,
        handle_chinese_chars=rules.handle_chinese_chars,
        strip_accents=rules.strip_accents,
        lowercase=lowercase,
    )
    if not (rules.dotless_i and lowercase):
        return of_bert
    turkish = (normalizers.Replace(Regex(pattern), content) for pattern, content in DOTLESS_I)
    return normalizers.Sequence([*turkish, of_bert])


def normalizer_of_bert(definition: Any) -> tuple[dict[str, Any] | None, bool]:
    """(the step that is BERT's own, whether I becomes ı before it) of the normalizer of a ``tokenizer.json``, as
    ``normalizer`` makes it; (None, False) where it is another."""
    steps = definition.get("normalizers") if isinstance(definition, dict) else None
    before, own = (steps[:-1], steps[-1]) if isinstance(steps, list) and steps else ([], definition)
    dotless = [{"type": "Replace", "pattern": {"Regex": pattern}, "content": new} for pattern, new in DOTLESS_I]
    if not isinstance(own, dict) or own.get("type") != "BertNormalizer" or before not in ([], dotless):
        return None, False
    return own, bool(before)


def _check_tokens(tokens: list[str], ids: dict[str, int], origin: str) -> None:
    if len(ids) < len(tokens):
        first, last = next((i, ids[token]) for i, token in enumerate(tokens) if ids[token] != i)
        raise ConfigError(
            f"{origin} has {printable(tokens[first])!r} twice, as ids {first} and {last}; "
            f"rename the first, which no text would ever get, to an [unusedN] that is free"
        )
    for i, token in enumerate(tokens):
        if "\n" in token or "\r" in token or "\0" in token:
            raise ConfigError(f"{origin} has a line break or NUL in entry {i}; vocab.txt is UTF-8, an entry a line")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{origin} has half a surrogate pair in an entry; no text of Unicode holds it") from None
