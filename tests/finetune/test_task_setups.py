"""Each kind of task on data that can be learned: rows, labels, scores, and the model that comes out of it."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import bertjax
import bertjax.finetune
from bertjax.errors import DataError
from bertjax.finetune.answering import answering_setup
from bertjax.finetune.batching import IGNORED
from bertjax.finetune.classification import text_setup
from bertjax.finetune.embedding import embedding_setup, ranks, retrieval_scores
from bertjax.finetune.settings import resolve
from bertjax.finetune.tagging import tagging_setup
from bertjax.finetune.task_setup import Labelled
from bertjax.tasks.examples import tagged_examples, text_examples
from bertjax.tasks.squad import question_examples

# Those of the model's vocabulary that are neither places nor people.
WORDS = ["film", "book", "story", "plot", "song", "the", "a", "was", "is", "very", "not", "quite", "too", "and", "it"]


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return bertjax.load_tokenizer(model_folder)


def words(random, count):
    return [str(word) for word in random.choice(WORDS, count)]


def pairs(count, seed):
    """Sentences with their words in the other order."""
    random = np.random.default_rng(seed)
    sentences = [[str(w) for w in random.choice(WORDS, 6, replace=False)] for _ in range(count)]
    return [(" ".join(own), " ".join(reversed(own))) for own in sentences]


@pytest.fixture
def tuned(model_folder, small_config, tmp_path):
    """``tuned(kind, training, evaluation, **settings)``: the summary of a run in tmp_path."""

    def run(kind, train, evaluation, **settings):
        config = small_config(kind)
        for name, value in settings.items():
            config["training" if name in config.training else "model"][name] = value
        return bertjax.finetune.run(config, model_folder, train, evaluation, tmp_path, say=lambda line: None)

    return run


# --- Tagging ------------------------------------------------------------------------------------------------------


def test_entities_are_learned_and_every_word_of_a_long_sentence_has_a_tag(tuned, tagged, tmp_path):
    summary = tuned("tagging", tagged(120, 0), tagged(30, 1), epochs="8")
    assert summary["main_score"] == "f1" and summary["scores"]["f1"] > 0.9
    assert summary["labels"] == ["O", "B-loc", "B-per"] and set(summary["per_class"]) == {"loc", "per"}
    model, tokenizer = bertjax.load_task_model(tmp_path)
    sentences, tags = tagged(4, 2)
    whole = [word for sentence in sentences for word in sentence]
    assert len(whole) > 16 - 2
    found = bertjax.tag(model, tokenizer, [whole])[0]
    assert len(found.words) == len(whole)
    assert np.mean([w.tag == t for w, t in zip(found.words, itertools.chain(*tags), strict=True)]) > 0.9


def test_labels_stand_at_first_pieces_and_each_word_counts_once(tokenizer):
    run = resolve({"task": "tagging", "model": {"max_length": 8}})
    sentence = ["films", "was", "singing"] * 6  # "films" is film ##s
    tags = [("A", "B", "C")[i % 3] for i in range(18)]
    data = Labelled(*[tagged_examples([sentence], [tags])] * 2, tokenizer)
    setup = tagging_setup(run, data)
    rows, labels = setup.train, setup.train.token_labels["labels"]
    assert len(rows) > 1 and rows.lengths.max() == 8 and "further windows" in setup.notes[0]
    assert setup.notes[1:] == ["the tags do not mark entities, as B-PER, I-PER and O do: words are scored, by accuracy"]
    firsts = {"film": 0, "was": 1, "[UNK]": 2}
    pieces = [tokenizer.token(int(i)) for i in rows.input_ids]
    assert all(label in (IGNORED, firsts.get(piece)) for piece, label in zip(pieces, labels, strict=True))
    assert (labels != IGNORED).sum() == len(sentence)
    # What the rows say, word by word, is what the outcome reads.
    outputs = [np.eye(3)[np.maximum(own, 0)] for own in np.split(labels, rows.starts[1:-1])]
    assert setup.outcome(outputs).scores["accuracy"] == 1.0


def setup_of_tags(tokenizer, train, evaluation, labels=None):
    """The setup of sentences of known words with these tags."""
    run = resolve({"task": "tagging", "data": {} if labels is None else {"labels": labels}})
    examples = [tagged_examples([["film"] * len(own) for own in tags], tags) for tags in (train, evaluation)]
    return tagging_setup(run, Labelled(*examples, tokenizer))


def test_tags_of_the_evaluation_data_that_training_has_not_count_as_errors(tokenizer):
    setup = setup_of_tags(tokenizer, [["O", "B-a", "I-a"]], [["B-a", "L-a", "O", "U-b"], ["O", "0"]])
    (line,) = setup.cautions
    assert line.startswith(
        "sentences[0][1]: a tag that the model does not know; words with such tags count as errors: "
    )
    assert line.endswith("'L-a' 1, 'U-b' 1, '0' 1; it knows O, B-a, I-a")
    assert (setup.eval.token_labels["labels"] != IGNORED).sum() == 3  # what the loss is of
    ids = [[1, 2, 0, 0], [0, 1]]
    rows = [np.eye(3)[[0, *own, 0]] * 5 for own in ids]
    outcome = setup.outcome(rows)
    # Found: a of two words, which is right however its end is spelled, and a wrong a; there: a, and b.
    assert outcome.scores == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 3 / 6}
    details = outcome.details()
    assert details["labels"] == ["O", "B-a", "I-a", "0", "L-a", "U-b"] and details["per_class"]["b"]["support"] == 1
    assert {error["label"] for error in details["errors"]} <= {"L-a", "U-b", "0"}
    assert setup.task.labels == ("O", "B-a", "I-a")


def test_what_is_said_of_tags(tokenizer):
    data = [["O", "B-a", "I-a", "0"]]
    (line,) = setup_of_tags(tokenizer, data, data).cautions
    assert line == (
        "sentences[0][3]: the tag 0 is not an entity tag like B-, I-, O; with it there, the accuracy of words is "
        "scored, and entities are not"
    )
    setup = setup_of_tags(tokenizer, [["O", "B-a"]], [["O", "B-a"]], ("O", "B-a", "B-b"))
    assert setup.cautions == ["no training example has the label 'B-b', of which nothing is learned"]
    assert setup.task.labels == ("O", "B-a", "B-b") and "f1" in setup.outcome([np.eye(3)[[0, 0, 1, 0]]]).scores
    with pytest.raises(DataError, match=r"sentences\[0\]: up to here all words have the tag 'O'; there must be two"):
        setup_of_tags(tokenizer, [["O", "O"]], [["O", "B-a"]])
    (line,) = setup_of_tags(tokenizer, [["O", "B-a"]], [["O", "O"], ["O"]]).cautions
    assert line == "sentences[0]: all 3 words have the tag 'O': their scores mean nothing"
    with pytest.raises(DataError, match=r"sentences\[0\]: the model knows no tag of the file \(NN, VB\)"):
        setup_of_tags(tokenizer, [["O", "B-a"]], [["NN", "VB"]])


def test_runs_that_were_scored_otherwise_do_not_go_on(tokenizer):
    """Their best score is of another kind: the identity tells."""
    decided = lambda *tags: setup_of_tags(tokenizer, [[*tags]], [[*tags]]).decided
    assert decided("O", "B-a", "I-a", "S-a") == decided("NN", "VB") == decided("O", "0", "B-a") == {}
    assert decided("O", "B-a", "L-a") == decided("B", "I", "O") == {"scores": ("of entities", "")}
    context = {"question": "where ?", "context": "anna lives in rome"}
    answered, none = (
        {"id": str(n), "answers": own} | context for n, own in enumerate(([{"text": "rome", "answer_start": 14}], []))
    )
    assert setup_of_questions(tokenizer, [answered]).decided == {}
    assert setup_of_questions(tokenizer, [answered, none]).decided == {"scores": ("no answer above 0", "")}
    chinese = {"question": "?", "context": "元朝的郭守敬", "answers": [{"text": "郭守敬", "answer_start": 3}]}
    setup = setup_of_questions(tokenizer, [chinese])
    assert setup.decided == {"scores": ("by characters", "")}
    assert setup.notes == [
        "answers are compared by characters, not by words, in 1 of the 1 evaluation questions, whose contexts are in "
        "Chinese, Japanese or another script without spaces"
    ]


def test_a_class_without_examples_is_said(tokenizer):
    examples = text_examples(["good film"] * 4, ["a", "b", "a", "b"])
    run = resolve({"data": {"labels": ("a", "b", "c")}})
    setup = text_setup(run, Labelled(examples, examples, tokenizer))
    assert setup.task.labels == ("a", "b", "c")
    assert setup.cautions == ["no training example has the label 'c', of which nothing is learned"]


# --- Answering ----------------------------------------------------------------------------------------------------


def test_answers_are_learned_and_so_is_when_there_is_none(tuned, questions, tmp_path):
    train, evaluation = questions(120, 0), questions(30, 1)
    summary = tuned("answering", train, evaluation, max_length=24, stride=6, epochs="3")
    assert summary["main_score"] == "f1" and summary["scores"]["f1"] > 0.9
    assert {"has_answer_f1", "no_answer_f1"} <= set(summary["scores"])
    model, tokenizer = bertjax.load_task_model(tmp_path)
    assert model.task.null_threshold == 0.0 and model.task.stride == 6
    assert summary["scores"]["best_f1"] >= summary["scores"]["f1"] and "best_f1_thresh" in summary["scores"]
    asked, contexts = ([one[name] for one in evaluation] for name in ("question", "context"))
    found = bertjax.answer(model, tokenizer, asked, contexts)
    golds = [one["answers"][0]["text"] if one["answers"] else "" for one in evaluation]
    assert (
        np.mean([one.text == gold for one, gold in zip(found, golds, strict=True)]) == summary["scores"]["exact_match"]
    )


def test_labels_of_windows_are_the_answer_or_cls(tokenizer):
    run = resolve({"task": "answering", "model": {"max_length": 16, "stride": 4}})
    context = "the film was very good . anna lives in rome . the book was not good . it is a great song"
    question = {"question": "where lives anna ?", "context": context, "id": "1"}
    question["answers"] = [{"text": "in rome", "answer_start": context.index("in rome")}]
    setup = answering_setup(run, Labelled(*[question_examples([question])] * 2, tokenizer))
    rows, labels = setup.train, setup.train.labels["labels"]
    assert len(rows) > 2
    texts = []
    for row, (first, last) in zip(np.split(rows.input_ids, rows.starts[1:-1]), labels, strict=True):
        texts.append(" ".join(tokenizer.token(int(i)) for i in row[first : last + 1]))
    assert set(texts) == {"[CLS]", "in rome"}
    # A model that says just this is right.
    outputs = []
    for size, (first, last) in zip(rows.lengths, labels, strict=True):
        logits = np.zeros((size, 2), np.float32)
        logits[first, 0] = logits[last, 1] = 9.0 if first else 0.0
        outputs.append(logits)
    outcome = setup.outcome(outputs)
    assert outcome.scores == {"f1": 1.0, "exact_match": 1.0} and outcome.settings == {"null_threshold": None}


def setup_of_questions(tokenizer, questions, **model):
    run = resolve({"task": "answering", "model": {"max_length": 16, "stride": 4} | model})
    return answering_setup(run, Labelled(*[question_examples(questions)] * 2, tokenizer))


def test_no_answer_is_given_where_its_score_is_higher_and_the_best_threshold_is_told_beside_it(tokenizer):
    context = "anna lives in rome"
    answer = {"text": "rome", "answer_start": context.index("rome")}
    questions = [
        {"id": str(n), "question": "where ?", "context": context, "answers": [answer] if n < 2 else []}
        for n in range(4)
    ]
    setup = setup_of_questions(tokenizer, questions)
    leads, outputs = (0.5, 2.0, 3.0, -0.5), []
    for size, lead in zip(setup.eval.lengths, leads, strict=True):
        logits = np.full((size, 2), -9.0)
        logits[size - 2] = 5.0  # the last word
        logits[0] = 5.0 + lead / 2
        outputs.append(logits)
    outcome = setup.outcome(outputs)
    assert outcome.settings == {"null_threshold": 0.0}
    scores = outcome.scores
    assert next(iter(scores)) == "f1" and scores["f1"] == scores["exact_match"] == 0.25
    assert (scores["has_answer_f1"], scores["no_answer_f1"]) == (0.0, 0.5)
    assert (scores["best_f1"], scores["best_exact"]) == (0.75, 0.75)
    assert (scores["best_f1_thresh"], scores["best_exact_thresh"]) == (2.0, 2.0)


def test_answers_that_are_too_long_are_told(tokenizer):
    context = "the film was very good . anna lives in rome . the book was not good . it is a great song"
    answer = lambda text: {"text": text, "answer_start": context.index(text)}
    ask = lambda n, text: {
        "id": str(n),
        "question": "where lives anna ?",
        "context": context,
        "answers": [answer(text)],
    }
    one = [ask(0, "in rome")]
    assert setup_of_questions(tokenizer, one).cautions == []
    (line,) = setup_of_questions(tokenizer, [one[0] | {"answers": []}]).cautions
    assert line.startswith("questions[0]: none of the 1 training questions has an answer: that there is none is all")
    setup = setup_of_questions(tokenizer, [*one, ask(1, "anna lives in rome")], max_answer=3)
    (line,) = setup.cautions
    assert line.startswith(
        "questions[1]: the answer of question 1 has 4 tokens; 1 of 2 have more than config.model.max_"
    )
    (line,) = setup_of_questions(tokenizer, [*one, ask(1, "lives in rome . the book was not good .")]).cautions
    assert line.startswith(
        "questions[1]: no row of config.model.max_length = 16 tokens holds the whole answer of question 1"
    )
    assert "1 of 2 answers are not learned" in line
    # As the line says.
    assert (
        setup_of_questions(tokenizer, [*one, ask(1, "lives in rome . the book was not good .")], max_length=32).cautions
        == []
    )


def test_an_answer_far_beyond_the_first_window_is_learned(tokenizer):
    context = "the film was very good . " * 20 + "anna lives in rome . " + "it is a great song . " * 20
    answer = {"text": "rome", "answer_start": context.index("rome")}
    question = {"id": "0", "question": "where lives anna ?", "context": context, "answers": [answer]}
    setup = setup_of_questions(tokenizer, [question])
    labels = setup.train.labels["labels"]
    there = [n for n, (first, _) in enumerate(labels) if first]
    assert len(labels) > 20 and there and setup.cautions == []
    for n in there:
        row = setup.train.input_ids[setup.train.starts[n] : setup.train.starts[n + 1]]
        assert tokenizer.token(int(row[labels[n][0]])) == "rome"


# --- Several labels, numbers, vectors -----------------------------------------------------------------------------


def test_several_labels_at_once(tuned, tmp_path):
    random = np.random.default_rng(0)
    texts = [" ".join(words(random, random.integers(3, 9))) for _ in range(400)]
    labels = [[word for word in ("story", "plot", "song") if word in text.split()] for text in texts]
    data = [(texts[part], labels[part]) for part in (slice(0, 340), slice(340, 400))]
    summary = tuned("multi_label", *data, epochs="20", hidden_dropout_prob=0.0)
    assert summary["labels"] == ["plot", "song", "story"]
    assert summary["scores"]["f1_micro"] > 0.8
    assert bertjax.load_task_model(tmp_path)[0].task.kind == "multi_label"


def test_numbers(tuned):
    random = np.random.default_rng(0)
    texts = [" ".join(words(random, 6)) for _ in range(400)]
    numbers = [float("good" in text or "song" in text) for text in texts]
    data = [(texts[part], numbers[part]) for part in (slice(0, 340), slice(340, 400))]
    summary = tuned("regression", *data, epochs="6")
    assert summary["main_score"] == "pearson" and summary["scores"]["pearson"] > 0.8
    assert [set(error) for error in summary["errors"][:1]] == [{"text", "label", "predicted"}]


def test_a_rise_of_a_squared_error_is_counted_in_the_variance(tokenizer):
    def unit(task, labels):
        examples = text_examples(["good film"] * 4, labels, kind=task)
        return text_setup(resolve({"task": task}), Labelled(examples, examples, tokenizer)).loss_unit

    assert unit("regression", [0.0, 100.0, 0.0, 100.0]) == pytest.approx(2500.0)
    assert unit("regression", [0.1] * 4) == 1.0
    assert unit("classification", ["a", "b", "a", "b"]) == 1.0


def test_vectors_of_pairs(tuned, tmp_path):
    summary = tuned("embedding", pairs(96, 0), pairs(30, 1), epochs="1")
    assert summary["scores"]["accuracy"] > 0.9
    model, tokenizer = bertjax.load_task_model(tmp_path)
    assert model.task.kind == "embedding"
    own, other = pairs(2, 5)
    assert bertjax.similarity(model, tokenizer, own) > bertjax.similarity(model, tokenizer, (own[0], other[0]))


def test_scored_pairs_are_scored_by_the_correlation_of_cosines(tokenizer):
    run = resolve({"task": "embedding", "model": {"max_length": 16}})
    data = Labelled(
        text_examples(pairs(3, 0), kind="embedding"),
        text_examples(pairs(3, 1), [0.1, 0.5, 0.9], kind="embedding"),
        tokenizer,
    )
    angles = np.array([1.2, 0.6, 0.1])
    vectors = [v for a in angles for v in (np.array([1.0, 0.0]), np.array([np.cos(a), np.sin(a)]))]
    assert embedding_setup(run, data).outcome(vectors).scores["spearman"] == pytest.approx(1.0)


def test_retrieval_counts_ranks():
    first = np.eye(3)
    second = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.8, 0.6]])
    found = retrieval_scores(ranks(first, second, np.arange(6))[0])
    assert found == {"accuracy": pytest.approx(1 / 3), "mrr": pytest.approx((1 + 0.5 + 0.5) / 3)}


def test_an_embedding_batch_is_not_done_in_parts(model_folder, small_config, tmp_path):
    from bertjax.errors import ConfigError

    config = small_config("embedding")
    config.parallel.rows_per_device = 2
    with pytest.raises(ConfigError, match=r"cannot be done in 8 parts.*rows_per_device = 0"):
        bertjax.finetune.run(config, model_folder, pairs(20, 0), pairs(4, 1), tmp_path, say=lambda line: None)


def test_class_weights_by_counts_or_by_hand():
    from bertjax.errors import ConfigError
    from bertjax.finetune.classification import class_weights

    run = lambda given: SimpleNamespace(training=SimpleNamespace(class_weights=given))
    counts = np.array([30, 10])
    assert class_weights(run(None), ("a", "b"), counts) is None
    np.testing.assert_allclose(class_weights(run("balanced"), ("a", "b"), counts), [40 / 60, 40 / 20])
    np.testing.assert_allclose(class_weights(run("1,2.5"), ("a", "b"), counts), [1.0, 2.5])
    for wrong in ("1", "1,2,3", "1,x", "1,-1", "0,0", "inf,1"):
        with pytest.raises(ConfigError, match="'balanced' or 2 numbers, for the labels a, b"):
            class_weights(run(wrong), ("a", "b"), counts)
