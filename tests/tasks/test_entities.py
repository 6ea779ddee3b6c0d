"""Every scheme of entity tags marks the same spans, and what is no scheme is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.scheme import BILOU, IOB2, IOBES, Tokens

from bertjax.tasks.entities import are_entities, entity_pairs, nearest_scheme, scheme_of, types_of
from bertjax.tasks.scores import SCORES, per_class

# Letters of a beginning, a middle, an end, a whole, and the tag outside.
SCHEMES = {
    "BIO": "BIIBO",
    "IOBES": "BIESO",
    "BILOU": "BILUO",
    "BMES": "BMESO",
    "BMEWO": "BMEWO",
    "lower case": "biibo",
    "0 for O": "BIIB0",
}
FORMS = {"prefix": "{0}-{1}", "underscore": "{0}_{1}", "suffix": "{1}-{0}", "bare": "{0}"}
SPANS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "B-LOC", "x"])), max_size=6)


def tags_of(letters, form, spans):
    """(tags, entities): each span is (words before it, its words, its type)."""
    begin, middle, end, alone, outside = letters
    tags, entities = [], []
    for before, length, kind in spans:
        tags += [outside] * before
        roles = [alone] if length == 1 else [begin, *[middle] * (length - 2), end]
        entities.append(("_" if form == "{0}" else kind, len(tags), len(tags) + length - 1))
        tags += [form.format(role, kind) for role in roles]
    return [*tags, outside], entities


@settings(max_examples=40, deadline=None)
@given(spans=SPANS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_spans_are_read_back_from_every_scheme(scheme, form, spans):
    tags, entities = tags_of(SCHEMES[scheme], FORMS[form], spans)
    names = sorted({tag for n in range(1, 4) for tag in tags_of(SCHEMES[scheme], FORMS[form], [(0, n, "PER")])[0]})
    found = scheme_of(sorted({*names, *tags}))
    assert found is not None and found.entities(tags) == entities


@settings(max_examples=40, deadline=None)
@given(spans=SPANS)
@pytest.mark.parametrize(("scheme", "peer"), [("BIO", IOB2), ("IOBES", IOBES), ("BILOU", BILOU)])
def test_well_formed_tags_are_read_as_seqevals_strict_mode_does(scheme, peer, spans):
    tags, _ = tags_of(SCHEMES[scheme], "{0}-{1}", spans)
    found = scheme_of([*dict.fromkeys(tags), "B-x"])
    theirs = [(e.tag, e.start, e.end - 1) for e in Tokens(tags, peer).entities]
    assert found is not None and found.entities(tags) == theirs


def test_the_first_iob_begins_with_i_but_where_two_meet():
    scheme = scheme_of(("O", "I-PER", "B-PER"))
    assert scheme.entities(["I-PER", "I-PER", "B-PER", "O", "I-PER"]) == [("PER", 0, 1), ("PER", 2, 2), ("PER", 4, 4)]


@pytest.mark.parametrize(
    ("names", "are"),
    [
        (("O", "B-x", "I-x"), True),
        (("O", "I-x"), True),
        (("O", "U-x"), True),
        (("0", "B-x", "I-x"), True),
        (("B", "I", "O"), True),
        (("B", "M", "E", "S"), True),  # the words of Chinese: every character is in one
        (("B-x", "I-x"), True),
        (("O", "B-x", "I-x", "0"), False),
        (("O", "o", "B-x"), False),
        (("O", "B-x", "L-x", "S-x"), False),  # BILOU and IOBES at once
        (("O", "B-x", "I"), False),
        (("O", "PER"), False),
        (("O",), False),
        (("0", "1"), False),
        (("NOUN", "VERB"), False),
        (("B-x", "S-x"), False),
        (("O", "B-"), False),
    ],
)
def test_what_is_a_scheme(names, are):
    assert are_entities(names) == are


def test_the_tags_that_are_not_of_the_scheme_are_told():
    scheme, odd = nearest_scheme(["O", "B-PER", "I-PER", "0", "X"])
    assert odd == ["0", "X"] and scheme.listed(["O", "B-PER", "I-PER", "0", "X"]) == "B-, I-, O"
    assert nearest_scheme(["NOUN", "O"]) == (None, ["NOUN", "O"])
    scheme, odd = nearest_scheme(["PER_B", "PER_I", "O", "X"])
    assert odd == ["X"] and scheme.listed(["PER_B", "PER_I", "O", "X"]) == "_B, _I, O"


def test_bilou_has_entity_scores():
    names = ("O", "B-PER", "L-PER", "U-LOC")
    labels, predictions = [[1, 2, 0, 3]], [[1, 2, 0, 0]]
    scores = SCORES["tagging"](predictions, labels, names)
    assert scores == {"f1": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5, "accuracy": 0.75}
    found = per_class("tagging", predictions, labels, names)["per_class"]
    assert found["PER"]["f1"] == 1.0 and found["LOC"]["recall"] == 0.0 and found["LOC"]["support"] == 1
    found = {("_", 0, 0)}
    assert types_of(("B", "I", "O")) == ["_"] and list(entity_pairs([[1, 0]], [[1, 0]], ("O", "B"))) == [(found, found)]
