"""Files that are not UTF-8, with marks inside, odd line ends and odd blank lines: read alike, or named."""

from __future__ import annotations

import pytest

from bertjax.data.corpus.files import Report
from bertjax.data.corpus.sources import open_sources
from bertjax.errors import DataError
from bertjax.tasks.records import numbered_lines
from bertjax.tasks.tables import Columns, read_texts
from bertjax.text.tokenizer import load_tokenizer


def documents(path):
    return [document.text for source in open_sources([path]) for document in source.documents(Report())]


@pytest.mark.parametrize("name", ["utf16_0.txt", "utf16_1.txt"])
def test_utf16_is_refused_by_name(cases, name):
    with pytest.raises(DataError, match=rf"{name}:1: the file is UTF-16; save it as UTF-8: `iconv -f UTF-16 -t UTF-8"):
        documents(cases / name)
    with pytest.raises(DataError, match=rf"{name}:1: the file is UTF-16; save it as UTF-8: `iconv"):
        list(numbered_lines(cases / name))


def test_a_line_of_an_ideographic_space_is_blank(cases):
    assert len(documents(cases / "blank_ideographic_space.txt")) == 3


def test_carriage_returns_end_lines(cases):
    assert len(documents(cases / "line_ends_cr.txt")) == 3
    examples = read_texts(cases / "line_ends_cr.csv", Columns(), "classification")
    assert len(examples) == 2 and len({example.label for example in examples}) == 2


def test_a_mark_before_a_line_is_no_text(cases):
    report = Report()
    found = [d.text for source in open_sources([cases / "bom_inside.jsonl"]) for d in source.documents(report)]
    assert len(found) == 3 and report.skipped_lines == 0
    assert all("\ufeff" not in text for text in found)
    # The header again; what is made of that is the reader's of tables.
    lines = dict(numbered_lines(cases / "labels_concatenated_boms.tsv"))
    assert lines[4] == lines[1] == "label\ttext"


def test_a_vocabulary_with_a_mark(cases):
    assert load_tokenizer(cases / "vocab_bom").vocab_size == 58
