"""Pairs for embeddings as people have them: with scores, with negatives, with equal texts, too few of them."""

import json

import numpy as np
import pytest

import bertjax
import bertjax.finetune
from bertjax.errors import ConfigError, DataError
from bertjax.finetune.embedding import embedding_setup, ranks, retrieval_scores
from bertjax.finetune.model_and_examples import examples_fingerprint
from bertjax.finetune.settings import resolve
from bertjax.finetune.task_setup import Labelled
from bertjax.tasks.examples import TextExample, text_examples
from bertjax.tasks.tables import Columns, read_texts

TEXTS = ["good film", "bad book", "great plot", "poor song", "the story", "a film", "not too bad", "is it good"]
PAIRS = list(zip(TEXTS[0::2], TEXTS[1::2], strict=True))


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return bertjax.load_tokenizer(model_folder)


@pytest.fixture
def made(tokenizer):
    """``made(train, eval, **training)``: the setup; train and eval are pairs, or (pairs, scores)."""

    def make(train, evaluation=PAIRS, **training):
        run = resolve({"task": "embedding", "model": {"max_length": 16}, "training": training})
        examples = lambda data: text_examples(*(data if isinstance(data, tuple) else (data,)), kind="embedding")
        return embedding_setup(run, Labelled(examples(train), examples(evaluation), tokenizer))

    return make


def said(setup):
    return " / ".join(setup.notes)


def test_pairs_with_scores_are_learned_in_their_order(made):
    setup = made((PAIRS, [0.0, 1.0, 2.5, 5.0]))
    assert "the loss is CoSENT's" in said(setup) and "evaluation pairs is the contrastive one" in said(setup)
    assert setup.train.labels["scores"].tolist() == [0, 0, 1, 1, 2.5, 2.5, 5, 5]
    assert setup.decided["training.embedding_loss"] == ("cosent", "--config.training.embedding_loss=contrastive")
    without = made(PAIRS)
    assert "the loss is the contrastive one" in said(without) and not without.decided
    forced = made((PAIRS, [0.0, 1.0, 2.5, 5.0]), embedding_loss="contrastive")
    assert "the scores of the training pairs are not used" in said(forced)
    assert forced.fields == ("accuracy",) and not forced.decided and not forced.train.labels


def test_a_loss_of_scores_is_no_loss_of_pairs_that_all_belong_together(made):
    """Evaluation pairs of a low score were counted as belonging together."""
    setup = made(PAIRS, (PAIRS, [0.0, 1.0, 2.5, 5.0]))
    assert setup.eval_objective is not None and "scores" in setup.eval.labels and "scores" not in setup.train.labels
    assert "the loss of the evaluation pairs is CoSENT's, as they have a score" in said(setup)
    assert list(setup.decided) == ["loss of the evaluation pairs"]
    assert made(PAIRS, (PAIRS, [0.0, 1.0, 2.5, 5.0]), embedding_loss="contrastive").decided == {}


@pytest.mark.parametrize(
    ("train", "evaluation", "training", "error", "words"),
    [
        ((PAIRS, [1, 1, 1, 1]), PAIRS, {}, DataError, r"texts\[0\]: all 4 scores are 1, .*embedding_loss=contrastive"),
        (PAIRS, (PAIRS, [3, 3, 3, 3]), {}, DataError, r"all 4 scores are 3, .*a correlation needs"),
        (PAIRS, (PAIRS[:1], [3]), {}, DataError, r"the score of the only pair is 3"),
        ((PAIRS, [1, None, 0, 1]), PAIRS, {}, DataError, r"texts\[1\]: the pair has no score, while 3 of 4 pairs have"),
        (PAIRS, (PAIRS, [None, 1, 1, 2]), {}, DataError, r"texts\[0\]: the pair has no score, .* first at texts\[1\]"),
        (PAIRS, PAIRS, {"embedding_loss": "cosent"}, DataError, "no scores, which .* use --config.*=contrastive"),
        (([(*PAIRS[0], "x"), PAIRS[1]], [1, 2]), PAIRS, {}, DataError, "scores, for the CoSENT loss, and negatives"),
        (PAIRS[:1], PAIRS, {}, DataError, "there is one pair"),
        (PAIRS, PAIRS[:1], {}, DataError, "there is one pair"),
        ([(a, "a film") for a, _ in PAIRS], PAIRS, {}, DataError, "4 pairs with the same second text"),
        (PAIRS, [(a, "a film") for a, _ in PAIRS], {}, DataError, "4 pairs with the same second text"),
        ([("good film",)], PAIRS, {}, DataError, "there is one text"),
        (PAIRS, PAIRS, {"batch_size": 1}, ConfigError, "batch_size = 1: .*--config.training.batch_size=32"),
        ((PAIRS, [1, 2, 3, 4]), PAIRS, {"batch_size": 1}, ConfigError, "batch_size = 1"),
    ],
)
def test_what_tells_nothing_is_refused(train, evaluation, training, error, words, made):
    with pytest.raises(error, match=words):
        made(train, evaluation, **training)


def test_the_ways_out_of_the_refusals_work(made):
    scores = [1, 1, 1, 1]
    made((PAIRS, scores), embedding_loss="contrastive")
    made(([(*PAIRS[0], "the song"), PAIRS[1]], [1, 2]), embedding_loss="contrastive")
    made([(*PAIRS[0], "the song"), (PAIRS[1][0], PAIRS[0][1])], batch_size=1)


def test_negatives_are_rows_of_their_pair(made):
    train = [(*PAIRS[0], "the song", "a book"), PAIRS[1], (*PAIRS[2], "the song"), PAIRS[3]]
    setup = made(train)
    assert setup.per_example == 4 and setup.train.lengths.reshape(4, 4)[:, 2:].tolist() == [
        [4, 4],
        [0, 0],
        [4, 0],
        [0, 0],
    ]
    texts = setup.train.labels["texts"].reshape(4, 4)
    assert (texts[:, 2:] >= 0).tolist() == [[True, True], [False, False], [True, False], [False, False]]
    assert texts[0, 2] == texts[2, 2] != texts[0, 3]
    assert "2 of 4 training pairs have negatives, 3 in all" in said(setup)
    # Evaluation pairs without have room for them, and none.
    assert len(setup.eval) == 16 and set(setup.eval.lengths.reshape(4, 4)[:, 2:].flat) == {0}


def test_equal_texts_are_counted(made):
    train = [*PAIRS, PAIRS[0], (PAIRS[0][0], "the plot"), ("the story", "the story")]
    setup = made(train, [*PAIRS, ("the plot", "the plot")])
    assert "1 of 7 training pairs repeat an earlier one, 3 texts occur more than once" in said(setup)
    assert "texts" in setup.train.labels and set(setup.decided) == {
        "equal texts in training",
        "equal texts in evaluation",
    }
    assert len(setup.cautions) == 2
    assert "1 of 7 training pairs are a text and itself" in setup.cautions[0]
    assert "1 of 5 evaluation pairs are a text and itself" in setup.cautions[1]
    negative = made([(*PAIRS[0], PAIRS[0][1]), PAIRS[1]])
    assert "1 of 2 training pairs have a negative that is one of their own texts" in negative.cautions[0]


# --- Files --------------------------------------------------------------------------------------------------------


def read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return read_texts(tmp_path / name, Columns(), "embedding")


@pytest.mark.parametrize(
    ("name", "text", "negatives"),
    [
        ("a.tsv", "anchor\tpositive\tnegative\na\tb\tc\nd\te\t\n", [("c",), ()]),
        ("a.csv", "anchor,positive,negative_1,negative_2\na,b,c,d\ne,f,,g\n", [("c", "d"), ("g",)]),
        ("a.csv", "query,positive,hard_negative\na,b,c\n", [("c",)]),
        (
            "a.jsonl",
            '{"anchor": "a", "positive": "b", "negatives": ["c", "d"]}\n{"anchor": "e", "positive": "f"}\n',
            [("c", "d"), ()],
        ),
        (
            "a.jsonl",
            '{"anchor": "a", "positive": "b"}\n{"anchor": "e", "positive": "f", "negative": "g"}\n',
            [(), ("g",)],
        ),
        ("a.jsonl", '{"anchor": "a", "positive": "b", "negative": null}\n', [()]),
    ],
)
def test_columns_of_negatives(name, text, negatives, tmp_path):
    examples = read(tmp_path, name, text)
    assert [example.negatives for example in examples] == negatives
    assert all(example.label is None for example in examples)


def test_scores_and_labels_of_pairs_are_found(tmp_path):
    labels = lambda *args: [example.label for example in read(tmp_path, *args)]
    assert labels("a.csv", "question1,question2,is_duplicate\na,b,0\nc,d,1\n") == [0.0, 1.0]
    assert labels("a.csv", "sentence1,sentence2,score\na,b,0\nc,d,\n") == [0.0, None]
    assert labels("a.jsonl", '{"sentence1": "a", "sentence2": "b", "score": null}') == [None]
    with pytest.raises(DataError, match=r"a\.jsonl:2: the pair has a score, but that of line 1 has none"):
        read(
            tmp_path,
            "a.jsonl",
            '{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "a", "sentence2": "b", "score": 1}\n',
        )
    with pytest.raises(
        DataError, match=r"a\.tsv:2: a negative must be a string|a\.jsonl:1: a negative must be a string"
    ):
        read(tmp_path, "a.jsonl", '{"anchor": "a", "positive": "b", "negatives": [1]}')


def test_examples_without_negatives_have_the_fingerprint_that_they_always_had():
    one = TextExample("x:1", "a", "b", None)
    assert repr(one) == "TextExample(where='x:1', text='a', second='b', label=None)"
    other = TextExample("x:1", "a", "b", None, ("c",))
    assert len({examples_fingerprint([one]), examples_fingerprint([other])}) == 2


# --- Retrieval ----------------------------------------------------------------------------------------------------


def test_an_equal_text_is_no_wrong_answer():
    first, second = np.eye(4)[[0, 1, 2]], np.eye(4)[[0, 1, 0]]
    own, rivals = ranks(first, second, np.array([0, 1, 2, 3, 4, 3]))
    # The third text's partner, which is the first one's too, is as far from it as the other candidate.
    assert own.tolist() == [1, 1, 2] and rivals.tolist() == [1, 1, 1]
    # An anchor with two partners: the nearer one is not wrong.
    two, _ = ranks(
        first[[0, 0, 1]], np.array([[1, 0, 0, 0], [0.9, 0.1, 0, 0], [0, 1, 0, 0]]), np.array([0, 0, 1, 2, 3, 4])
    )
    assert two.tolist() == [1, 1, 1]
    # A text that is a first and, elsewhere, a second one: its own copy is not its partner's rival.
    copy, _ = ranks(first[[0, 1]], np.array([[0.5, 0.5, 0, 0], [1, 0, 0, 0]]), np.array([0, 1, 2, 0]))
    assert copy.tolist() == [1, 2]


def test_negatives_are_candidates():
    first, second, negatives = np.eye(3)[[0, 1]], np.array([[0.5, 0, 0], [0, 1.0, 0]]), np.array([[0.9, 0, 0]])
    own, rivals = ranks(first, second, np.array([0, 1, 2, 3, 4]), negatives)
    assert own.tolist() == [2, 1] and rivals.tolist() == [2, 2]
    assert retrieval_scores(own) == {"accuracy": 0.5, "mrr": 0.75}


# --- Whole runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(model_folder, small_config, tmp_path):
    def run(train, evaluation, say=lambda line: None, **settings):
        config = small_config("embedding")
        config.training.epochs = "1"
        for name, value in settings.items():
            config["parallel" if name in config.parallel else "training"][name] = value
        return bertjax.finetune.run(config, model_folder, train, evaluation, tmp_path / "run", say=say)

    return run


def losses(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if row["kind"] == "train"]


def test_the_last_batch_of_an_epoch_is_learned_from(tuned, tmp_path):
    """It is not full: the gradient of its rows of padding was not a number, and the step was skipped."""
    lines = []
    tuned(PAIRS * 5, PAIRS, lines.append)  # 8, 8 and 4
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row for row in events if row.get("event") == "skipped"] == [] and not any(
        "skipped" in line for line in lines
    )


@pytest.mark.parametrize("kind", ["contrastive", "cosent"])
def test_a_batch_on_several_devices_is_one_batch(kind, tuned, tmp_path, monkeypatch):
    train = [*PAIRS, PAIRS[0], (PAIRS[0][0], "the plot"), ("a song", PAIRS[1][1], "the film"), ("the plot", "a book")]
    if kind == "cosent":
        train = ([pair[:2] for pair in train], [0, 1, 2, 3, 4, 5, 6, 7])
    for devices in (1, 4):
        tuned(train, PAIRS, data=devices, evaluate_every=0)
        (tmp_path / "run").rename(tmp_path / str(devices))
    np.testing.assert_allclose(losses(tmp_path / "4"), losses(tmp_path / "1"), rtol=1e-5)


def test_a_batch_of_scored_pairs_is_not_done_in_parts(tuned):
    with pytest.raises(ConfigError, match=r"cannot be done in .* parts.*rows_per_device = 0"):
        tuned((PAIRS, [1, 2, 3, 4]), PAIRS, rows_per_device=2)


def test_a_run_of_scored_pairs_from_before_is_refused_and_goes_on_as_it_began(tuned, tmp_path):
    """Its pairs all counted as belonging together, and its identity names no loss, as with contrastive here."""
    scored = (PAIRS * 2, [0.0, 1.0, 2.5, 5.0] * 2)
    began = tuned(scored, PAIRS, embedding_loss="contrastive")
    identity = json.loads((tmp_path / "run" / "config.json").read_text())["identity"]
    assert "training.embedding_loss" not in identity
    line = r"embedding_loss \(there None, here 'cosent'\).*go on as it began with --config.training.embedding_loss=con"
    with pytest.raises(ConfigError, match=line):
        tuned(scored, PAIRS)
    assert tuned(scored, PAIRS, embedding_loss="contrastive")["loss"] == began["loss"]
