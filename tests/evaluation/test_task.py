"""Models for tasks on labelled data: every kind, from files and from memory."""

import dataclasses
import json

import numpy as np
import pytest
from flax import nnx
from sklearn import metrics

import bertjax
from bertjax.errors import ConfigError, DataError
from bertjax.evaluate import main
from bertjax.model.task import TaskConfig, TaskModel

TEXTS = ["The cat sat.", "The dog laughs.", "Paris is famous.", "Reading is fun.", "Numbers are famous.", "A log."]
PAIRS = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))
SENTENCES = [["The", "cat", "sat"], ["Paris", "is", "famous"], ["Reading", "and", "writing"]]
TAGS = [["O", "B-animal", "O"], ["B-place", "O", "O"], ["O", "B-animal", "I-animal"]]
QUESTIONS = [
    {
        "id": str(number),
        "question": "What sat?",
        "context": "The cat sat on the mat.",
        "answers": [{"text": "The cat", "answer_start": 0}],
    }
    for number in range(3)
]
# kind -> (labels by id, inputs and labels)
DATA = {
    "classification": (("no", "yes"), (TEXTS, ["yes", "no"] * 3)),
    "multi_label": (("a", "b", "c"), (TEXTS, [["a"], [], ["b", "c"], ["a", "b"], ["c"], ["a", "c"]])),
    "regression": (("score",), (PAIRS, [0.5, 3, 2.5, 1, 4, 5])),
    "embedding": ((), (PAIRS, [0.5, 3, 2.5, 1, 4, 5])),
    "tagging": (("O", "B-animal", "B-place", "I-animal"), (SENTENCES, TAGS)),
    "answering": ((), QUESTIONS),
}


def other_than_unknown(warnings):
    """Without that the small vocabulary lacks some characters."""
    return [line for line in warnings if "[UNK]" not in line]


@pytest.fixture(scope="module")
def models(model):
    """The encoder of ``model`` with a new head for each kind."""
    made = {}
    for kind, (labels, _) in DATA.items():
        task = TaskConfig(kind, labels, max_length=40, stride=4)
        made[kind] = TaskModel(model.config, task, nnx.Rngs(1))
    return made


def write(folder, kind):
    """The data of a kind as a file."""
    data = DATA[kind][1]
    if kind == "answering":
        paragraphs = [
            {"context": q["context"], "qas": [{k: v for k, v in q.items() if k != "context"}]} for q in QUESTIONS
        ]
        text, name = json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), "data.json"
    elif kind == "tagging":
        blocks = ("\n".join(f"{w}\t{t}" for w, t in zip(*pair, strict=True)) for pair in zip(*data, strict=True))
        text, name = "\n\n".join(blocks) + "\n", "data.conll"
    else:
        rows = []
        for given, label in zip(*data, strict=True):
            texts = {"text": given} if isinstance(given, str) else {"sentence1": given[0], "sentence2": given[1]}
            rows.append(json.dumps(texts | {"label": label}))
        text, name = "\n".join(rows), "data.jsonl"
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("kind", DATA)
def test_files_and_lists_of_every_kind_are_scored(models, tokenizer, tmp_path, kind):
    model = models[kind]
    result = bertjax.evaluate.run(model, "task", DATA[kind][1], tokenizer=tokenizer)
    bertjax.save_task_model(model, tmp_path / "model", tokenizer)
    again = bertjax.evaluate.run(tmp_path / "model", "task", write(tmp_path, kind), batch_tokens=40)
    assert result["scores"].keys() == again["scores"].keys() and result["facts"]["task"] == kind
    for name, score in result["scores"].items():
        assert again["scores"][name]["value"] == pytest.approx(score["value"], abs=1e-5)
        assert score["low"] <= score["value"] + 1e-12 and score["value"] <= score["high"] + 1e-12
        assert score["count"] == (3 if kind in ("tagging", "answering") else 6)
    json.dumps(result)


def test_scores_are_of_what_the_model_predicts(models, tokenizer):
    run = lambda kind, data: bertjax.evaluate.run(models[kind], "task", data, tokenizer=tokenizer)
    predicted = [found.label for found in bertjax.classify(models["classification"], tokenizer, TEXTS)]
    labels = DATA["classification"][1][1]
    result = run("classification", (TEXTS, labels))
    assert result["scores"]["accuracy"]["value"] == np.mean([a == b for a, b in zip(predicted, labels, strict=True)])
    expected = metrics.confusion_matrix(labels, predicted, labels=["no", "yes"]).tolist()
    assert result["details"]["confusion"] == expected and result["details"]["labels"] == ["no", "yes"]
    # Against its own predictions every model is right.
    assert run("classification", (TEXTS, predicted))["scores"]["accuracy"]["value"] == 1.0
    several = [found.labels for found in bertjax.classify(models["multi_label"], tokenizer, TEXTS)]
    assert run("multi_label", (TEXTS, several))["scores"]["exact_match"]["value"] == 1.0
    numbers = [found.score for found in bertjax.classify(models["regression"], tokenizer, PAIRS)]
    assert run("regression", (PAIRS, numbers))["scores"]["mse"]["value"] == pytest.approx(0.0, abs=1e-8)
    cosines = bertjax.similarity(models["embedding"], tokenizer, PAIRS)
    assert run("embedding", (PAIRS, cosines.tolist()))["scores"]["spearman"]["value"] == pytest.approx(1.0)
    tags = [[word.tag for word in found.words] for found in bertjax.tag(models["tagging"], tokenizer, SENTENCES)]
    assert run("tagging", (SENTENCES, tags))["scores"]["accuracy"]["value"] == 1.0
    context = QUESTIONS[0]["context"]
    found = bertjax.answer(models["answering"], tokenizer, "What sat?", context)
    own = [QUESTIONS[0] | {"answers": [{"text": found.text, "answer_start": found.start}]}]
    assert run("answering", own)["scores"]["exact_match"]["value"] == 1.0


def test_limit_and_columns(models, tokenizer, tmp_path):
    (tmp_path / "odd.tsv").write_text("\n".join(f"x\t{('yes', 'no')[i % 2]}\t{t}" for i, t in enumerate(TEXTS)))
    settings = {"tokenizer": tokenizer, "columns": "2,1"}
    whole = bertjax.evaluate.run(models["classification"], "task", tmp_path / "odd.tsv", **settings)
    expected = bertjax.evaluate.run(models["classification"], "task", DATA["classification"][1], tokenizer=tokenizer)
    assert whole["scores"] == expected["scores"]
    part = bertjax.evaluate.run(models["classification"], "task", tmp_path / "odd.tsv", limit=4, **settings)
    assert part["scores"]["accuracy"]["count"] == 4


@pytest.mark.parametrize(
    ("kind", "name", "text", "words"),
    [
        (
            "classification",
            "a.tsv",
            "text\tlabel\na cat\tyes\na dog\tmaybe\n",
            r"a\.tsv:3: the label 'maybe' is not in",
        ),
        ("classification", "a.tsv", "text\tlabel\n", r"a\.tsv:1: there is a header and no example"),
        ("classification", "a.csv", "", r"a\.csv:1: the file is empty"),
        ("regression", "a.tsv", "text\tlabel\na cat\tmuch\n", r"a\.tsv:2: the label must be a number, not 'much'"),
        ("embedding", "a.jsonl", '{"text": "a cat", "score": 1}\n', r"a\.jsonl:1: cosines need two texts and a score"),
        ("tagging", "a.conll", "The X\ncat B-tree\n", r"a\.conll:1: the model knows no tag of the file \(B-tree, X\)"),
        (
            "answering",
            "a.json",
            '{"data": [{"paragraphs": [{"context": "A cat.", "qas": [{"id": "7", "question": "What?"}]}]}]}',
            r"a\.json:1: question 7 has no 'answers' to compare with",
        ),
    ],
)
def test_a_bad_line_is_named(models, tokenizer, tmp_path, kind, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        bertjax.evaluate.run(models[kind], "task", tmp_path / name, tokenizer=tokenizer)


def test_mistakes_in_the_call_are_named(model, models, tokenizer):
    with pytest.raises(ConfigError, match=r"model must come from bertjax\.load_task_model\(path\), not be a Bert"):
        bertjax.evaluate.run(model, "task", (TEXTS, ["yes"] * 6), tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="data must be a path, or a tuple of inputs and labels"):
        bertjax.evaluate.run(models["classification"], "task", TEXTS, tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="columns = '0': a file of questions has no columns"):
        bertjax.evaluate.run(models["answering"], "task", "a.json", tokenizer=tokenizer, columns="0")
    with pytest.raises(ConfigError, match="must be of one length, not 6 and 5"):
        bertjax.evaluate.run(models["classification"], "task", (TEXTS, ["yes"] * 5), tokenizer=tokenizer)


def test_tags_that_the_model_does_not_know_count_as_errors(models, tokenizer, tmp_path):
    predicted = [[word.tag for word in found.words] for found in bertjax.tag(models["tagging"], tokenizer, SENTENCES)]
    run = lambda tags: bertjax.evaluate.run(models["tagging"], "task", (SENTENCES, tags), tokenizer=tokenizer)
    known = run(predicted)
    assert known["warnings"] == [] and known["scores"]["accuracy"]["value"] == 1.0
    tags = [[*predicted[0][:2], "B-tree"], *predicted[1:]]
    result = run(tags)
    (line,) = result["warnings"]
    assert line.startswith("sentences[0][2]: a tag that the model does not know; words with such tags count as errors")
    assert "'B-tree' 1; it knows O, B-animal, B-place, I-animal" in line
    assert result["scores"]["accuracy"]["value"] == pytest.approx(8 / 9)
    assert result["details"]["per_class"]["tree"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    # A tag that is none of entities leaves the others' scores there.
    assert "f1" in run([[*predicted[0][:2], "0"], *predicted[1:]])["scores"]


def test_columns_of_words_and_tags(models, tokenizer, tmp_path, capsys):
    rows = [list(zip(*pair, strict=True)) for pair in zip(SENTENCES, TAGS, strict=True)]
    blocks = ["".join(f"{i + 1}\t{word}\t{tag}\tX\n" for i, (word, tag) in enumerate(own)) for own in rows]
    (tmp_path / "a.conll").write_text("# id 1\n" + "\n".join(blocks))
    bertjax.save_task_model(models["tagging"], tmp_path / "model", tokenizer)
    arguments = [f"--model={tmp_path / 'model'}", "--suite=task", f"--data={tmp_path / 'a.conll'}", "--json"]
    assert main([*arguments, "--columns=2"]) == 3
    line = capsys.readouterr().err.strip().split("\n")[-1]
    assert "column 0 counts them" in line and line.endswith("in evaluate with --columns=1,2")
    assert main([*arguments, "--columns=1,2"]) == 0
    said = capsys.readouterr()
    expected = bertjax.evaluate.run(models["tagging"], "task", (SENTENCES, TAGS), tokenizer=tokenizer)
    assert json.loads(said.out)["scores"] == json.loads(json.dumps(expected["scores"]))
    assert "warning: " in said.err and "a.conll:1: a comment, not a word" in said.err
    with pytest.raises(ConfigError, match="must be the column of the tags, or those of words and tags: 1,3"):
        bertjax.evaluate.run(models["tagging"], "task", tmp_path / "a.conll", tokenizer=tokenizer, columns="0,1,2")


def test_questions_without_an_answer_have_the_best_threshold_beside_the_score_at_zero(models, tokenizer):
    model = models["answering"]
    questions = [*QUESTIONS, QUESTIONS[0] | {"id": "none", "answers": []}]
    run = lambda threshold, asked: bertjax.evaluate.run(
        with_threshold(model, threshold), "task", asked, tokenizer=tokenizer
    )
    result = run(0.0, questions)
    best = {"best_f1", "best_f1_thresh", "best_exact", "best_exact_thresh"}
    assert best <= result["scores"].keys() and other_than_unknown(result["warnings"]) == []
    scores = {name: score["value"] for name, score in result["scores"].items()}
    assert scores["best_f1"] >= scores["f1"] and scores["best_exact"] >= scores["exact_match"]
    assert not best & run(0.0, QUESTIONS)["scores"].keys() and not best & run(None, questions)["scores"].keys()
    # At the best threshold the score is the best.
    at_best = run(scores["best_f1_thresh"], questions)
    assert at_best["scores"]["f1"]["value"] == pytest.approx(scores["best_f1"])
    assert "SQuAD's is 0" in at_best["warnings"][0]


def with_threshold(model, threshold):
    graphdef, state = nnx.split(model)
    changed = nnx.merge(graphdef, state)
    changed.task = dataclasses.replace(model.task, null_threshold=threshold)
    return changed


def test_rows_of_datasets_and_misaligned_answers(models, tokenizer, tmp_path, capsys):
    rows = [
        {
            "id": n,
            "question": "What sat?",
            "context": "The cat sat.",
            "answers": {"text": ["The cat"], "answer_start": [0]},
        }
        for n in range(150)
    ]
    rows[3]["answers"]["answer_start"] = [1]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = bertjax.evaluate.run(models["answering"], "task", tmp_path / "a.jsonl", tokenizer=tokenizer)
    assert result["scores"]["f1"]["count"] == 149
    (line,) = other_than_unknown(result["warnings"])
    assert "a.jsonl:4: question 3: the answer 'The cat' is not at 1" in line and "1 of 150 questions" in line
