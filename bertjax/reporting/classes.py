"""What a fine-tuned model confuses: its confusion matrix, the figures of each class, and examples of its errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bertjax.reporting.markup import Element, node
from bertjax.reporting.record import count, listing, mapping, number
from bertjax.reporting.wording import figure, percent, title

# More classes make no matrix that anybody can read; their commonest confusions are listed all the same.
MOST_CLASSES = 30
_MOST_CONFUSIONS = 10
_MOST_ERRORS = 50
_LONGEST_TEXT = 600
# Longer texts need a wide column.
_SHORT_TEXT = 60
# Over this share a cell is so dark that its number is written in the other colour.
_DARK = 0.7
# Names longer than this, or more of them, stand upright over the columns.
_SHORT_NAME, _FEW = 7, 5


def confusion_matrix(summary: dict[str, Any]) -> list[Element]:
    """The matrix as a heat map where it has a readable size, and which labels are taken for which."""
    labels, counts = _labels(summary), _counts(summary)
    if not counts:
        listed = _listed_confusions(summary)
        return [node("p", f"{len(labels):,} classes: too many for a matrix.", class_="note"), *listed] if listed else []
    names = [labels[index] if index < len(labels) else str(index) for index in range(len(counts))]
    found = []
    if len(counts) <= MOST_CLASSES:
        found.append(_heat_map(names, counts))
    else:
        found.append(node("p", f"{len(counts)} classes: too many for a matrix.", class_="note"))
    if len(counts) > 2:
        found += _confusions(names, counts)
    return found


def per_class(summary: dict[str, Any]) -> Element | None:
    """Precision, recall, F1 and support of each class."""
    rows = _class_rows(summary.get("per_class"))
    if not rows:
        return None
    names = list(dict.fromkeys(name for _, values in rows for name in values))
    body = [
        node("tr", node("th", node("bdi", label), scope="row"), [_class_cell(name, values.get(name)) for name in names])
        for label, values in rows
    ]
    head = node("tr", node("th", "class", scope="col"), [node("th", title(name), scope="col") for name in names])
    return node("div", node("table", node("thead", head), node("tbody", body), class_="numbers"), class_="wide")


def error_examples(summary: dict[str, Any]) -> Element | None:
    """A table of wrong answers, in columns as the entries have them."""
    errors = [entry for entry in listing(summary.get("errors")) if isinstance(entry, dict)][:_MOST_ERRORS]
    if not errors:
        return None
    names = list(dict.fromkeys(name for entry in errors for name in entry))
    body = [node("tr", [_error_cell(name, entry.get(name)) for name in names]) for entry in errors]
    head = node("tr", [node("th", title(name), scope="col") for name in names])
    return node("div", node("table", node("thead", head), node("tbody", body), class_="errors"), class_="wide")


def _labels(summary: dict[str, Any]) -> list[str]:
    return [str(label) for label in listing(summary.get("labels"))]


def _counts(summary: dict[str, Any]) -> list[list[int]]:
    """The matrix, rows by true label; [] where it is not square or not of counts."""
    rows = listing(summary.get("confusion"))
    square = all(isinstance(row, list) and len(row) == len(rows) for row in rows)
    return rows if square and all(count(cell) is not None for row in rows for cell in row) else []


def _heat_map(names: Sequence[str], counts: list[list[int]]) -> Element:
    upright = len(names) > _FEW or any(len(name) > _SHORT_NAME for name in names)
    head = node(
        "tr",
        node("th", "true \\ predicted", class_="corner"),
        [
            node("th", node("bdi", name), scope="col", title=name, class_="upright" if upright else None)
            for name in names
        ],
    )
    body = [
        node("tr", node("th", node("bdi", name), scope="row", title=name), _heat_cells(row, index))
        for index, (name, row) in enumerate(zip(names, counts, strict=True))
    ]
    table = node("table", node("thead", head), node("tbody", body), class_="heat many" if len(names) > 12 else "heat")
    note = "Rows: true label. Columns: what was predicted. The stronger the colour, the larger the share of its row."
    return node("div", node("p", note, class_="note"), node("div", table, class_="wide"))


def _heat_cells(row: list[int], true: int) -> list[Element]:
    total = sum(row)
    cells = []
    for predicted, cell in enumerate(row):
        share = cell / total if total else 0.0
        classes = " ".join(filter(None, ["dark" if share > _DARK else "", "right" if predicted == true else ""]))
        text = f"{cell:,}" if cell else node("span", "0", class_="none")
        cells.append(
            node("td", text, class_=classes or None, style=f"--v:{share:.0%}", title=f"{share:.1%} of the row")
        )
    return cells


def _confusions(names: Sequence[str], counts: list[list[int]]) -> list[Element]:
    wrong = [
        (cell, names[true], names[predicted], cell / sum(row))
        for true, row in enumerate(counts)
        for predicted, cell in enumerate(row)
        if cell and true != predicted
    ]
    return _most_frequent(sorted(wrong, key=lambda item: -item[0]))


def _listed_confusions(summary: dict[str, Any]) -> list[Element]:
    """Of a summary that holds the commonest confusions in place of a matrix."""
    found = []
    for entry in map(mapping, listing(summary.get("confusions"))[:_MOST_CONFUSIONS]):
        cell, share = count(entry.get("count")), number(entry.get("share"))
        if cell is not None and share is not None:
            found.append((cell, str(entry.get("label")), str(entry.get("predicted")), share))
    return _most_frequent(found)


def _most_frequent(wrong: list[tuple[int, str, str, float]]) -> list[Element]:
    """wrong: (count, true label, predicted label, share of the true label's), the commonest first."""
    if not wrong:
        return []
    items = [
        node("li", node("bdi", true), " taken for ", node("bdi", other), f": {cell:,} ({percent(share)} of its class)")
        for cell, true, other, share in wrong[:_MOST_CONFUSIONS]
    ]
    return [node("h3", "Most frequent confusions"), node("ol", items)]


def _class_rows(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """(label, its figures) from {label: figures} or [{"label": label, ...}]."""
    if isinstance(value, dict):
        return [(label, figures) for label, figures in value.items() if isinstance(figures, dict)]
    rows = [mapping(entry) for entry in listing(value)]
    return [(str(row["label"]), {k: v for k, v in row.items() if k != "label"}) for row in rows if "label" in row]


def _class_cell(name: str, value: Any) -> Element:
    known = number(value)
    if known is None:
        return node("td", "–")
    if count(value) is not None and name == "support":
        return node("td", f"{value:,}")
    # A bar behind the number: weak classes are seen before they are read.
    return node("td", figure(known), class_="bar", style=f"--v:{min(max(known, 0.0), 1.0):.0%}")


def _error_cell(name: str, value: Any) -> Element:
    known = number(value)
    if known is not None:
        return node(
            "td", percent(known) if name == "probability" else figure(known), class_="number", data_name=title(name)
        )
    text = value if isinstance(value, str) else "–" if value is None else json.dumps(value, ensure_ascii=False)
    rest = len(text) - _LONGEST_TEXT
    more = node("span", f" … {rest:,} more characters", class_="note") if rest > 0 else None
    # The text's own direction, closed off from the cell around it.
    words = node("bdi", text[:_LONGEST_TEXT], dir="auto")
    return node("td", words, more, class_="text" if len(text) > _SHORT_TEXT else None, data_name=title(name))
