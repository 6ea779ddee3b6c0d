"""The longest-match map of a SentencePiece model out of the steps that ``tokenizer.json`` has.

The library ``tokenizers`` applies such a map (its step Precompiled) to single characters, and wrongly to short ones
with their marks: it drops the marks. The sequences that the map holds are letters with the marks, or the halves of
syllables, that compose with them. So the text is first divided by separators into what the map would take at once. Then
every character is mapped alone, and NFC composes what stands between two separators: no more, in no other order.
"""

from __future__ import annotations

import base64
import functools
import unicodedata
from collections import defaultdict
from typing import Any

from bertjax.text.charsmap import entries, without

# Two characters that no text has: those that the map deletes anyway, or else two that are none.
_CONTROLS = "\x01\x02"
_NONE = "\ufdd0\ufdd1"
# What may be one letter with the character before it for the library, beside what composes.
_JOINED = r"\p{M}\x{200C}\x{200D}\x{E33}\x{EB3}"
_END = ""


def mapping_steps(charsmap: bytes) -> list[Any] | None:
    """Normalizers of the library ``tokenizers`` that do what the map does; None where it is another kind of map."""
    from tokenizers import Regex, normalizers

    found = entries(charsmap)
    expression = _sequences(charsmap)
    if expression is None:
        return None
    unit, joined = expression
    is_deleted = all(found.get(character) == "" for character in _CONTROLS)
    between, inside = _CONTROLS if is_deleted else _NONE
    charsmap = without(charsmap, _CONTROLS) if is_deleted else charsmap
    # All units up to one that something follows which may join it. \K: what is before is no part of the match.
    divided = rf"(?>(?:[\s\S](?!{joined})|(?>{unit})(?!{joined}))*)(?>{unit}|[\s\S])?\K(?={joined}|\z)"
    return [
        normalizers.Replace(Regex(divided), between),
        normalizers.Replace(Regex(rf"(?<=[^{between}])(?={joined})"), inside),
        precompiled(charsmap),
        normalizers.Replace(inside, ""),
        normalizers.NFC(),
        normalizers.Replace(between, ""),
    ]


def precompiled(charsmap: bytes) -> Any:
    """The library's step for a map of SentencePiece."""
    from tokenizers import normalizers

    try:
        return normalizers.Precompiled(charsmap)
    except TypeError:  # a version that wants it as text
        return normalizers.Precompiled(base64.b64encode(charsmap).decode())


@functools.lru_cache(maxsize=4)
def _sequences(charsmap: bytes) -> tuple[str, str] | None:
    """Regular expressions of the sequences of two and more characters that a map holds, and of one character that may
    join the one before it; None where NFC of what its characters are mapped to is not what it puts for sequences.

    Maps that fold case put something else for Greek letters with an iota below, a few hundred of 220,000: let be.
    """
    found = entries(charsmap)
    alone = {key: text for key, text in found.items() if len(key) == 1}
    tree: dict[str, Any] = {}
    joining: set[str] = set()
    others = 0
    for key, text in found.items():
        if len(key) == 1:
            continue
        composed = unicodedata.normalize("NFC", "".join(alone.get(character, character) for character in key))
        others += composed != text and all(unicodedata.category(character) != "Cn" for character in key + text)
        node = tree
        for character in key:
            node = node.setdefault(character, {})
        node[_END] = {}
        joining |= set(key[1:])
    if not tree or others > len(found) / 100:
        return None
    return _expression(_numbered(tree, {})), f"[{_JOINED}{_ranges(joining)}]"


# A node of the tree as (may end here, ((characters, what may follow them), ...)): equal ones are one.
_Node = tuple[bool, tuple[Any, ...]]


def _numbered(node: dict[str, Any], known: dict[Any, _Node]) -> _Node:
    following: dict[_Node, list[str]] = defaultdict(list)
    for character, child in node.items():
        if character != _END:
            following[_numbered(child, known)].append(character)
    made = (_END in node, tuple(sorted((_ranges(set(characters)), child) for child, characters in following.items())))
    return known.setdefault(made, made)


def _expression(node: _Node) -> str:
    """The longest of the sequences, as long as it stands in an atomic group."""
    may_end, following = node
    if not following:
        return ""
    body = "|".join(f"[{characters}]{_expression(child)}" for characters, child in following)
    return f"(?:{body}){'?' if may_end else ''}"


def _ranges(characters: set[str]) -> str:
    """The inside of a class of characters."""
    codes = sorted(map(ord, characters))
    parts, begin = [], 0
    for index, code in enumerate(codes):
        if index + 1 == len(codes) or codes[index + 1] != code + 1:
            first = rf"\x{{{codes[begin]:X}}}"
            parts.append(first if begin == index else rf"{first}-\x{{{code:X}}}")
            begin = index + 1
    return "".join(parts)
