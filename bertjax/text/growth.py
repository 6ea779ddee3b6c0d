"""Limits how much longer a ``tokenizer.json`` may make a text: its steps are whatever the file says, and twenty that
double a letter would turn a page of text into more than any machine's memory holds."""

import base64
import contextlib
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from bertjax.errors import ConfigError
from bertjax.text.charsmap import longest_replacement

# Published tokenizers at most double a text, with replacements that may match between letters.
_MAX_FACTOR = 16.0
_MAX_PREFIX = 256  # characters put before a text
# The longest text that Unicode itself makes of one character (U+FDFA); many maps have that entry.
_UNICODE_FACTOR = 18
LONGEST_REPLACEMENT = 64  # characters, in the map of a SentencePiece model
_BYTE_FACTOR = 4  # each step ByteLevel writes one letter per byte of UTF-8
_HUGE = 1e18  # we stop counting here
# A regular expression of one branch that begins with a certain character: it never matches the empty text.
_BEGINS_WITH_A_LETTER = re.compile(r"[^\\|()\[\]{}?*+^$.](?![?*{])[^|]*$")
_UNICODE_STEPS = ("NFD", "NFKD", "NFC", "NFKC", "Nmt", "Lowercase", "BertNormalizer")
_KEYS = {
    "Replace": {"pattern", "content"},
    "Prepend": {"prepend"},
    "Precompiled": {"precompiled_charsmap"},
    "ByteLevel": {"add_prefix_space", "trim_offsets"},
}
_LISTS = ("normalizers", "pretokenizers", "decoders")  # the steps of a sequence


def check_growth(definition: dict[str, Any], origin: str) -> None:
    """Raises ConfigError if the normalizer, pre-tokenizer or decoder of a ``tokenizer.json`` may multiply text."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        factor, prefix = _growth(definition.get(part))
        if factor > _MAX_FACTOR or prefix > _MAX_PREFIX:
            raise ConfigError(
                f"{origin} has a {part} that may make a text {factor:,.0f} times as long and put {prefix:,} "
                f"characters before it; the limits are {_MAX_FACTOR:.0f} times and {_MAX_PREFIX} characters"
            )


def _growth(part: Any) -> tuple[float, int]:
    """(how many times as long the part may make a text, characters that it puts before the text)."""
    factor, prefix = 1.0, 0
    is_first, has_map = True, False
    is_normal = False  # whether an earlier step has already done to the text what Unicode can
    for kind, step in _steps(part):
        factor = min(factor, _HUGE)
        content = str(step.get("content" if kind == "Replace" else "prepend") or "")
        if kind == "Replace":
            times = _replacement_factor(step.get("pattern"), content)
            factor, prefix = min(factor * times, _HUGE), min(math.ceil(prefix * times), int(_HUGE))
            is_normal = is_normal and _is_stable(content)
        elif kind == "Prepend":
            prefix += len(content)
            is_normal = is_normal and _is_stable(content)
        elif kind == "Precompiled":
            longest = 0
            with contextlib.suppress(TypeError, ValueError):  # the library refuses it
                longest = longest_replacement(base64.b64decode(step.get("precompiled_charsmap")))
            factor *= longest if has_map or longest > LONGEST_REPLACEMENT else 1
            has_map = True
        elif kind == "ByteLevel":
            factor, prefix = factor * _BYTE_FACTOR, min(prefix * _BYTE_FACTOR, int(_HUGE))
            is_normal, is_first = False, False
        elif kind in _UNICODE_STEPS:
            factor *= 1 if is_normal or is_first else _UNICODE_FACTOR
            is_normal, is_first = True, False
    return factor, prefix


def _steps(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kinds and steps of a part in order, nested sequences unrolled; the library refuses what is not a step."""
    pending = [part]
    while pending:
        step = pending.pop()
        if not isinstance(step, dict):
            continue
        lists = [step[name] for name in _LISTS if isinstance(step.get(name), list)]
        pending += [inside for steps in reversed(lists) for inside in reversed(steps)]
        if not lists:
            # The library goes by the keys if ``type`` is missing or unknown.
            yield next((kind for kind, keys in _KEYS.items() if keys <= step.keys()), str(step.get("type"))), step


def _replacement_factor(pattern: Any, content: str) -> float:
    pattern = pattern if isinstance(pattern, dict) else {}
    text, expression = pattern.get("String"), pattern.get("Regex")
    if isinstance(text, str) and text:
        return max(1.0, len(content) / len(text))
    if isinstance(expression, str) and _BEGINS_WITH_A_LETTER.match(expression):
        return max(1.0, len(content))
    return 1.0 + len(content)  # the expression may match the empty text between any two letters


def _is_stable(content: str) -> bool:
    """Whether no normal form and no change of case has more characters."""
    return all(len(unicodedata.normalize("NFKD", form)) == len(content) for form in (content, content.lower()))
