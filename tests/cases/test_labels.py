"""Labels that look alike, joined files and odd line ends among the small hostile inputs."""

import pytest

from bertjax.errors import DataError
from bertjax.tasks.labels import label_map
from bertjax.tasks.tables import Columns, read_texts


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("labels_zero_width.tsv", r"tsv:4: the label 'pos\\u200b' differs from 'pos' \(.*tsv:2\) only in char"),
        ("labels_numbers.tsv", r"tsv:4: the label '1\.0' differs from '1' \(.*tsv:2\) only in how the number is"),
        ("labels_concatenated_boms.tsv", r"tsv:4: the header of line 1 again"),
    ],
)
def test_labels_that_would_be_classes_of_their_own(cases, name, words):
    with pytest.raises(DataError, match=words):
        label_map(read_texts(cases / name, Columns(), "classification"))


def test_line_ends_of_old(cases):
    """Two examples, or a line that says what ends the lines."""
    try:
        examples = read_texts(cases / "line_ends_cr.csv", Columns(), "classification")
    except DataError as error:
        assert "line_ends_cr.csv:1: " in str(error) and "CR" in str(error) and "LF" in str(error)
    else:
        assert [example.label for example in examples] == ["pos", "neg"]
