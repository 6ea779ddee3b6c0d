"""The tokens of an answer that F1 counts: words by SQuAD's rules, or characters in scripts without spaces.

Chinese and Japanese follow CMRC 2018, MLQA and JaQuAD: every Chinese character and kana is a token, what is between
them is split into words ("2020", "NHK"), punctuation of any script is dropped, articles are kept ("A" of "A座" names a
building). Full-width forms become the usual ones (NFKC): ２０２０ and 2020 are one answer. Thai, Lao, Khmer and Burmese
have no published rules; a character with its marks is a token. Korean has spaces and is split into words.
"""

import functools
import re
import string
import unicodedata
from collections.abc import Callable, Iterable

from bertjax.text.languages import CHINESE

AnswerTokenizer = Callable[[str], list[str]]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Kana with its marks of iteration and length, bopomofo, Chinese; Thai and Lao; Burmese; Khmer.
_UNSPACED = re.compile(
    "[々〆〇\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9d"
    + "".join(f"{chr(first)}-{chr(last)}" for first, last in CHINESE)
    + "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1780-\u17d3]"
)
# Of the letters of a context: more than the names of people and places in an English text have.
_LEAST_SHARE = 0.2


def normalize_answer(answer: str) -> str:
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def word_tokens(answer: str) -> list[str]:
    return normalize_answer(answer).split()


def character_tokens(answer: str) -> list[str]:
    """Characters of scripts without spaces, with their marks, and the words between them."""
    plain = unicodedata.normalize("NFKC", answer).lower()
    kept = "".join(c for c in plain if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    words: list[str] = []
    for part in re.split(f"({_UNSPACED.pattern})", kept):
        if words and part and _UNSPACED.fullmatch(part) and unicodedata.category(part).startswith("M"):
            words[-1] += part
        else:
            words += part.split()
    return words


def answer_tokenizer(context: str) -> AnswerTokenizer:
    """``character_tokens`` if many letters of the context belong to such scripts, else ``word_tokens``."""
    return character_tokens if _is_unspaced(context) else word_tokens


def counted_in_characters(contexts: Iterable[str]) -> int:
    return sum(map(_is_unspaced, contexts))


@functools.lru_cache(maxsize=1024)
def _is_unspaced(context: str) -> bool:
    if context.isascii():
        return False
    letters = sum(map(str.isalpha, context))
    return len(_UNSPACED.findall(context)) > _LEAST_SHARE * letters
