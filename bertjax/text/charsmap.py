"""The map of characters in a SentencePiece model: a text is read from left to right, and the longest sequence that the
map holds is replaced."""

from __future__ import annotations

import functools
import struct
from collections import defaultdict

_VALUE = (1 << 31) - 1
_LABEL = (1 << 31) | 0xFF


@functools.lru_cache(maxsize=4)
def entries(charsmap: bytes) -> dict[str, str]:
    """Sequence of characters -> what is put in its place. {} for what is no map of UTF-8.

    The bytes are the size of a trie, the trie (a double array of 32-bit units, as of the library Darts-clone), and the
    texts with a zero after each.
    """
    units, texts = _parts(charsmap)
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by the base that a node's children share
    for number, unit in enumerate(units):
        label = unit & _LABEL
        if 0 < label < 256:
            children[number ^ label].append((label, number))
    found: dict[bytes, bytes] = {}
    waiting = [(0, b"")] if units else []
    while waiting:
        node, key = waiting.pop()
        unit = units[node]
        base = node ^ ((unit >> 10) << ((unit & 1 << 9) >> 6))
        if unit >> 8 & 1 and base < len(units):
            begin = units[base] & _VALUE
            found[key] = texts[begin : texts.index(b"\0", begin)] if b"\0" in texts[begin:] else b""
        if len(key) < _LONGEST_KEY:
            waiting += [(child, key + bytes([label])) for label, child in children.get(base, ())]
    try:
        return {key.decode(): text.decode() for key, text in found.items()}
    except UnicodeDecodeError:
        return {}


_LONGEST_KEY = 64  # bytes; no map of a model comes near


def without(charsmap: bytes, characters: str) -> bytes:
    """The map without its entries for ASCII ``characters``."""
    units, texts = _parts(charsmap)
    changed = list(units)
    base = changed[0] >> 10 << ((changed[0] & 1 << 9) >> 6)
    for character in characters:
        place = base ^ ord(character)
        if changed[place] & _LABEL == ord(character):
            changed[place] = 0
    return struct.pack(f"<I{len(changed)}I", 4 * len(changed), *changed) + texts


def _parts(charsmap: bytes) -> tuple[tuple[int, ...], bytes]:
    """(units of the trie, texts)."""
    size = int.from_bytes(charsmap[:4], "little") // 4 * 4
    if len(charsmap) < 4 + size:
        return (), b""
    return struct.unpack(f"<{size // 4}I", charsmap[4 : 4 + size]), charsmap[4 + size :]
