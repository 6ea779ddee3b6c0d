"""Text that is safe to show: it cannot steer a terminal or hide what is there."""

import contextlib
import re
import sys
from collections.abc import Collection
from itertools import islice

# Control characters (a tab is harmless), invisible ones that change the direction or the order of what follows, line
# breaks of other kinds, and lone surrogates, which stand for bytes of a file name that are not UTF-8.
_UNSAFE = re.compile(
    "[\0-\x08\x0a-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_UNSAFE_IN_TEXT = re.compile(_UNSAFE.pattern.replace("\x0a-\x1f", "\x0b-\x1f"))


def plain(text: object) -> str:
    """``text`` as one line, with whatever could steer a terminal escaped as in Python: ``\\x1b``."""
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], str(text))


def short(value: object, longest: int = 100) -> str:
    """``plain`` of at most about ``longest`` characters; line breaks in an exception's message become blanks."""
    text = " ".join(str(value).split()) if isinstance(value, BaseException) else str(value)
    return plain(text[:longest]) + " ..." * (len(text) > longest)


def quoted(value: object, longest: int = 60) -> str:
    """A value as an error line quotes it: its repr, on one line, truncated."""
    text = repr(value)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def listed(items: Collection[object], most: int) -> str:
    more = f" and {len(items) - most:,} more" * (len(items) > most)
    return ", ".join(map(str, islice(items, most))) + more


def plain_text(text: object) -> str:
    return _UNSAFE_IN_TEXT.sub(lambda match: ascii(match[0])[1:-1], str(text))


def plain_json(text: str) -> str:
    """JSON with these characters as JSON escapes: the same value, safe to show."""
    return _UNSAFE_IN_TEXT.sub(_as_json, text)


def _as_json(match: re.Match[str]) -> str:
    pairs = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[i : i + 4]}" for i in range(0, len(pairs), 4))


def say(line: object = "") -> None:
    """Prints one line on standard output and flushes. Raises OSError if that is closed or full."""
    print(plain(line), flush=True)


def note(line: object) -> None:
    """Prints one line on standard error, if anybody is there."""
    with contextlib.suppress(OSError, ValueError):  # gone, full, or closed by the caller
        print(plain(line), file=sys.stderr, flush=True)
