"""The published files of real tasks: as many examples, and the labels, that their authors say."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from bertjax.tasks import entities, labels, scores
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.examples import text_examples
from bertjax.tasks.squad import read_questions
from bertjax.tasks.tables import Columns, read_texts

COLA, STSB = Columns(text="3", label="1"), Columns("0", "1", "2")


@pytest.fixture(scope="module")
def tasks():
    if "BERTJAX_REAL_DATA" not in os.environ:
        pytest.skip("needs BERTJAX_REAL_DATA")
    return Path(os.environ["BERTJAX_REAL_DATA"]) / "tasks"


@pytest.mark.parametrize(
    ("file", "columns", "kind", "count", "is_pair"),
    [
        ("sst2/train.tsv", Columns(), "classification", 67349, False),
        ("sst2/dev.tsv", Columns(), "classification", 872, False),
        ("sst2/test.tsv", Columns(), "classification", 1821, False),
        ("cola/in_domain_train.tsv", COLA, "classification", 8551, False),
        ("cola/in_domain_dev.tsv", COLA, "classification", 527, False),
        ("cola/out_of_domain_dev.tsv", COLA, "classification", 516, False),
        ("stsb/stsb-en-train.csv", STSB, "regression", 5749, True),
        ("stsb/stsb-en-dev.csv", STSB, "regression", 1500, True),
        ("stsb/stsb-en-test.csv", STSB, "regression", 1379, True),
        ("rte/train.tsv", Columns(), "classification", 2490, True),
        ("rte/dev.tsv", Columns(), "classification", 277, True),
    ],
)
def test_texts(file, columns, kind, count, is_pair, tasks):
    examples = read_texts(tasks / file, columns, kind)
    assert len(examples) == count and all((example.second is not None) == is_pair for example in examples)
    if kind == "regression":
        assert all(0 <= example.label <= 5 for example in examples)
    else:
        assert labels.label_map(examples) == ("0", "1")
    # No quote of the writing is left in the text, and none of the text is lost.
    assert not any('""' in text for example in examples for text in (example.text, example.second or ""))


def test_quotes_of_real_texts(tasks):
    cola = read_texts(tasks / "cola/in_domain_train.tsv", COLA, "classification")
    assert any(example.text == 'Susan whispered "Shut up".' for example in cola)
    rte = read_texts(tasks / "rte/dev.tsv", Columns(), "classification")
    assert rte[13].text.startswith("A jury is slated") and 'as "Dr. Death," has' in rte[13].text


def test_sentence_polarity_from_memory(tasks):
    with zipfile.ZipFile(tasks / "sentence_polarity/sentence_polarity.zip") as archive:
        texts = {
            side: archive.read(f"sentence_polarity/rt-polarity.{side}").decode("utf-8").splitlines()
            for side in ("neg", "pos")
        }
    given = [side for side, own in texts.items() for _ in own]
    examples = text_examples([text for own in texts.values() for text in own], given)
    assert Counter(example.label for example in examples) == {"neg": 5331, "pos": 5331}


@pytest.mark.parametrize(
    ("file", "count", "classes"),
    [
        ("wnut17/wnut17train.conll", 3394, 13),
        ("wnut17/emerging.dev.conll", 1009, 13),
        ("wnut17/emerging.test.annotated", 1287, 13),
        ("ud_ewt/en_ewt-ud-train.conllu.xz", 12544, 17),
        ("ud_ewt/en_ewt-ud-dev.conllu.xz", 2001, 17),
        ("ud_ewt/en_ewt-ud-test.conllu.xz", 2077, 17),
    ],
)
def test_sentences(file, count, classes, tasks):
    examples = read_tagged(tasks / file)
    names = labels.label_map(examples)
    assert len(examples) == count and len(names) == classes
    ids = labels.label_ids(examples, names)
    found = scores.SCORES["tagging"](ids, ids, names)
    assert set(found.values()) == {1.0} and ("f1" in found) == file.startswith("wnut17")


def test_squad(tasks, tmp_path):
    with zipfile.ZipFile(tasks / "squad/squad-dev-v1.1.json.zip") as archive:
        path = Path(archive.extract("dev-v1.1.json", tmp_path))
    questions = read_questions(path)
    assert len(questions) == 10570 and len({question.context for question in questions}) == 2067
    best = {question.id: (question.answers or ())[0].text for question in questions}
    assert scores.SCORES["answering"](best, questions) == {"f1": 1.0, "exact_match": 1.0}
    # The first annotator's answer cut at its first word.
    cut = {id: text.split()[0] for id, text in best.items()}
    found = scores.SCORES["answering"](cut, questions)
    assert 0.3 < found["exact_match"] < found["f1"] < 1


def test_entities_of_real_tags_are_the_same_in_every_scheme(tasks):
    """Written anew from the spans that seqeval finds in the published tags."""
    from seqeval.metrics.sequence_labeling import get_entities

    sentences = [list(example.tags) for example in read_tagged(tasks / "wnut17/emerging.dev.conll")]
    spans = [get_entities(tags) for tags in sentences]
    assert sum(map(len, spans)) == 836
    for begin, middle, end, alone, outside in ("BIIBO", "BIESO", "BILUO", "BMESO", "BMEWO", "biib0"):
        written = []
        for tags, own in zip(sentences, spans, strict=True):
            other = [outside] * len(tags)
            for kind, first, last in own:
                other[first : last + 1] = [f"{middle}_{kind}"] * (last + 1 - first)
                other[first], other[last] = f"{begin}_{kind}", f"{end}_{kind}"
                if first == last:
                    other[first] = f"{alone}_{kind}"
            written.append(other)
        scheme = entities.scheme_of(sorted({tag for tags in written for tag in tags}))
        assert scheme is not None and [scheme.entities(tags) for tags in written] == spans
