"""How much longer a tokenizer may make a text: its steps are whatever its file says, and twenty that double a letter
would make a page of text fill the memory of any machine."""

from __future__ import annotations

import base64
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from bertjax.config import ConfigError

# Replacements of published tokenizers make a text at most twice as long, where they may match between letters.
_MOST_TIMES = 16.0
_MOST_CHARACTERS = 256  # put before a text
# What Unicode itself makes of one character at most (U+FDFA); many maps hold that.
_UNICODE = 18
_LONGEST_MAPPED = 64
# A regular expression of one branch whose first character has to be there: it never matches nothing.
_BEGINS_WITH_A_LETTER = re.compile(r"[^\\|()\[\]{}?*+^$.](?![?*{])[^|]*$")
_MANY = 1e18  # where counting ends
_DECOMPOSE = ("NFD", "NFKD", "NFC", "NFKC", "Nmt", "Lowercase", "BertNormalizer")
_KEYS = {
    "Replace": {"pattern", "content"},
    "Prepend": {"prepend"},
    "Precompiled": {"precompiled_charsmap"},
    "ByteLevel": {"add_prefix_space", "trim_offsets"},
}
_INSIDE = ("normalizers", "pretokenizers", "decoders")  # the steps of a sequence
# A letter for each byte of UTF-8, every time anew.
_BYTES = 4


def check_growth(definition: dict[str, Any], origin: str) -> None:
    """Raises ConfigError where the normalizer, pre-tokenizer or decoder of a ``tokenizer.json`` may multiply text."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        times, added = 1.0, 0
        is_normal = False  # whether a step that knows Unicode has already made of the text what it can
        is_first, maps = True, 0
        for kind, step in _steps(definition.get(part)):
            times = min(times, _MANY)
            if kind == "Replace":
                content = str(step.get("content") or "")
                factor = _replacement(step.get("pattern"), content)
                times, added = min(times * factor, _MANY), min(math.ceil(added * factor), int(_MANY))
                is_normal = is_normal and _is_stable(content)
            elif kind == "Prepend":
                content = str(step.get("prepend") or "")
                added += len(content)
                is_normal = is_normal and _is_stable(content)
            elif kind == "Precompiled":
                longest = longest_mapped(_decoded(step.get("precompiled_charsmap")))
                times *= longest if maps or longest > _LONGEST_MAPPED else 1
                maps += 1
            elif kind == "ByteLevel":
                times, added = times * _BYTES, min(added * _BYTES, int(_MANY))
                is_normal, is_first = False, False
            elif kind in _DECOMPOSE:
                times *= 1 if is_normal or is_first else _UNICODE
                is_normal, is_first = True, False
        if times > _MOST_TIMES or added > _MOST_CHARACTERS:
            raise ConfigError(
                f"{origin} has a {part} that may make a text {times:,.0f} times as long and put {added:,} "
                f"characters before it; no tokenizer needs more than {_MOST_TIMES:.0f} times and {_MOST_CHARACTERS}"
            )


def check_map(model: bytes, origin: str) -> None:
    """Raises ConfigError where the normalizer of a SentencePiece ``.model`` may put a long text for a short one."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto = messages.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        proto.ParseFromString(model)
    except DecodeError:  # the library's own reader is more lenient
        raise ConfigError(f"{origin} is no SentencePiece model") from None
    longest = longest_mapped(proto.normalizer_spec.precompiled_charsmap)
    if longest > _LONGEST_MAPPED:
        raise ConfigError(
            f"{origin} has a normalizer that may put {longest:,} characters for one; no tokenizer needs more than "
            f"{_LONGEST_MAPPED}"
        )


def longest_mapped(charsmap: bytes) -> int:
    """Characters of the longest text that a map of SentencePiece puts for what it finds; it is a trie, its size before
    it, and then the texts with a zero after each."""
    size = int.from_bytes(charsmap[:4], "little")
    return max((len(text.decode("utf-8", "replace")) for text in charsmap[4 + size :].split(b"\0")), default=0)


def _steps(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kinds and steps of a part in order, sequences of sequences taken apart; what is none is for the library to
    refuse."""
    waiting = [part]
    while waiting:
        step = waiting.pop()
        if not isinstance(step, dict):
            continue
        lists = [step[name] for name in _INSIDE if isinstance(step.get(name), list)]
        waiting += [inside for steps in reversed(lists) for inside in reversed(steps)]
        if not lists:
            yield _kind(step), step


def _kind(step: dict[str, Any]) -> str:
    """What a step is: the library goes by its keys where it does not know its ``type``, or where there is none."""
    found = [kind for kind, keys in _KEYS.items() if keys <= step.keys()]
    return found[0] if found else str(step.get("type"))


def _replacement(pattern: Any, content: str) -> float:
    """How many times as long a replacement may make a text."""
    pattern = pattern if isinstance(pattern, dict) else {}
    text, expression = pattern.get("String"), pattern.get("Regex")
    if isinstance(text, str) and text:
        return max(1.0, len(content) / len(text))
    if isinstance(expression, str) and _BEGINS_WITH_A_LETTER.match(expression):
        return max(1.0, len(content))
    return 1.0 + len(content)  # a regular expression may match nothing, between all letters


def _is_stable(content: str) -> bool:
    """Whether no normal form and no case has more characters."""
    return all(len(unicodedata.normalize("NFKD", form)) == len(content) for form in (content, content.lower()))


def _decoded(charsmap: Any) -> bytes:
    try:
        return base64.b64decode(charsmap, validate=False)
    except (TypeError, ValueError):  # no map: for the library to refuse
        return b""
