"""BERT's own tokenizer, WordPiece, on the library ``tokenizers``."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.errors import ConfigError
from bertjax.text.interface import ROLES, printable
from bertjax.text.languages import DOTLESS_I, dotless_i_steps
from bertjax.text.library_tokenizer import LibraryTokenizer, guarded, template
from bertjax.text.tokenizer_files import write_files
from bertjax.text.word_boundaries import WordBoundaries, boundaries_of, is_word_mark

WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclasses.dataclass(frozen=True)
class WordPieceRules:
    """How text becomes words, and words pieces, apart from lowercasing; the defaults are those of BERT 2018. Names as
    in the library's BertNormalizer and WordPiece. ``strip_accents`` None: as lowercasing. ``dotless_i``: if text is
    lowercased, I becomes ı and İ i, as in Turkish."""

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100
    dotless_i: bool = False


_BERT = WordPieceRules()


class WordPieceTokenizer(LibraryTokenizer):
    """BERT's cleaning and splitting of text, then greedy longest match with ``##`` continuations."""

    kind = "wordpiece"

    def __init__(
        self,
        tokens: Sequence[str],
        lowercase: bool = True,
        origin: str = "the vocabulary",
        rules: WordPieceRules = _BERT,
        names: Mapping[str, str] | None = None,
        others: Iterable[int] = (),
    ) -> None:
        """``tokens`` in the order of their ids; ``names`` of special tokens by role; ``others``: further special ids.
        Raises ConfigError if special tokens are missing, or a token occurs twice or cannot be written to vocab.txt."""
        _check_tokens(tokens, origin)
        self._set_vocabulary(tokens, names or {}, others, origin)
        self._origin = origin
        self.rules = rules = dataclasses.replace(rules, dotless_i=rules.dotless_i and lowercase)
        self.longest_word = rules.max_input_chars_per_word
        self.lowercase = lowercase
        self.strip_accents = lowercase if rules.strip_accents is None else rules.strip_accents
        self.dotless_i = rules.dotless_i
        # By effect: strip_accents = None and strip_accents = lowercase have one fingerprint.
        same = dataclasses.replace(rules, strip_accents=None if self.strip_accents == lowercase else self.strip_accents)
        unknown = self.token(self.unk_id)
        if same == _BERT and unknown == "[UNK]":
            self._set_fingerprint("wordpiece", str(lowercase), *self._tokens)
        else:
            # Earlier versions did not have dotless_i.
            values = {name: v for name, v in dataclasses.asdict(same).items() if name != "dotless_i" or v}
            written = json.dumps(values, sort_keys=True)
            self._set_fingerprint("wordpiece with rules", str(lowercase), written, unknown, *self._tokens)
        self._library = guarded(origin, self._build)
        # Text that merely mentions "[SEP]" must not end an example.
        self._library.encode_special_tokens = True

    def _build(self) -> Any:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers

        rules, names = self.rules, self.special_tokens()
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
        library.add_special_tokens([names[role] for role in ROLES])
        return library

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._library.encode_special_tokens = True  # the library does not pickle it

    def continues_word(self) -> np.ndarray:
        return np.array([token.startswith(self.rules.continuing_subword_prefix) for token in self._tokens])

    def word_boundaries(self) -> WordBoundaries | None:
        prefix = self.rules.continuing_subword_prefix
        if not is_word_mark(prefix):
            return None
        return boundaries_of(self._tokens, lambda token: token.removeprefix(prefix), self.continues_word())

    def save(self, directory: str | Path) -> None:
        rules = self.rules
        bert = dataclasses.replace(_BERT, handle_chinese_chars=rules.handle_chinese_chars)
        is_bert = bert == dataclasses.replace(rules, strip_accents=None)
        write_files(
            directory,
            self,
            {**json.loads(self._library.to_str()), "post_processor": template(self)},
            # BertTokenizer rebuilds the tokenizer from the keys below and does not read the rest of tokenizer.json.
            tokenizer_class="BertTokenizer" if is_bert else "PreTrainedTokenizerFast",
            do_lower_case=self.lowercase,
            strip_accents=rules.strip_accents,
            tokenize_chinese_chars=rules.handle_chinese_chars,
            do_basic_tokenize=True,
            **({"dotless_i": True} if rules.dotless_i else {}),
            never_split=None,
        )
        lines = "".join(f"{token}\n" for token in self._tokens)
        Path(directory, "vocab.txt").write_text(lines, encoding="utf-8", newline="\n")


def normalizer(rules: WordPieceRules, lowercase: bool) -> Any:
    """The library's normalizer: BERT's own, and before it the Turkish rules that lowercasing does not have."""
    from tokenizers import normalizers

    bert = normalizers.BertNormalizer(rules.clean_text, rules.handle_chinese_chars, rules.strip_accents, lowercase)
    return normalizers.Sequence([*dotless_i_steps(), bert]) if rules.dotless_i and lowercase else bert


def bert_normalizer(definition: Any) -> tuple[dict[str, Any] | None, bool]:
    """(BERT's own step, whether the Turkish rules stand before it) of the normalizer of a ``tokenizer.json``;
    (None, False) if it is not one that ``normalizer`` makes."""
    steps = definition.get("normalizers") if isinstance(definition, dict) else None
    before, bert = (steps[:-1], steps[-1]) if isinstance(steps, list) and steps else ([], definition)
    turkish = [{"type": "Replace", "pattern": {"Regex": pattern}, "content": new} for pattern, new in DOTLESS_I]
    if not isinstance(bert, dict) or bert.get("type") != "BertNormalizer" or before not in ([], turkish):
        return None, False
    return bert, bool(before)


def _check_tokens(tokens: Sequence[str], origin: str) -> None:
    last = {token: i for i, token in enumerate(tokens)}
    for i, token in enumerate(tokens):
        if last[token] != i:
            raise ConfigError(
                f"{origin} has {printable(token)!r} twice, as ids {i} and {last[token]}; "
                f"rename the first, which no text would ever get, to an unused [unusedN]"
            )
        if "\n" in token or "\r" in token or "\0" in token:
            raise ConfigError(f"{origin} has a line break or NUL in entry {i}; vocab.txt is UTF-8, one entry per line")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{origin} has a lone surrogate in an entry; no Unicode text contains one") from None
