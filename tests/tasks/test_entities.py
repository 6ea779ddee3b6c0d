import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.tasks.entities import Entity, entities

TAGS = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC-2"))]


def test_entities():
    assert entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-PER"]) == [
        Entity("PER", 0, 2),
        Entity("LOC", 3, 4),
        Entity("LOC", 4, 5),
        Entity("PER", 5, 6),
    ]
    assert entities([]) == entities(["O"]) == []


@settings(max_examples=300, deadline=None)
@given(tags=st.lists(st.sampled_from(TAGS), max_size=10))
def test_they_are_those_of_seqeval(tags):
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    assert [(kind, begin, end - 1) for kind, begin, end in entities(tags)] == labeling.get_entities(tags)
