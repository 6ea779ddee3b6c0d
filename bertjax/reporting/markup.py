"""Elements of a page. Text and attributes are escaped when the tree is written, wherever they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str | None | Iterable["Child"]

# Controls, lone surrogates and non-characters: a page may not hold them.
_NOT_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# Embeddings, overrides and isolates of direction, which show letters in another order than they stand in.
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def node(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """An element. ``class_``, ``for_`` ...: the underscore at the end goes, others become hyphens. None: left out."""
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.rstrip("_").replace("_", "-"), clean(str(value)))
    _append(element, children)
    return element


def clean(text: str) -> str:
    """``text`` with what no page may hold replaced by U+FFFD, and what turns the direction spelled out."""
    return _TURNING.sub(lambda match: f"\\u{ord(match[0]):04x}", _NOT_TEXT.sub("\ufffd", text))


def render(root: Element) -> str:
    """The document as text."""
    return f"<!doctype html>\n{ElementTree.tostring(root, encoding='unicode', method='html')}\n"


def _append(element: Element, children: Child) -> None:
    if children is None:
        return
    if isinstance(children, Element):
        element.append(children)
    elif isinstance(children, str):
        if len(element):
            element[-1].tail = (element[-1].tail or "") + clean(children)
        else:
            element.text = (element.text or "") + clean(children)
    else:
        for child in children:
            _append(element, child)
