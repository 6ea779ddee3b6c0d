"""The command: flags, mistakes in one line with their exit codes, labelled files that cannot be used."""

import json
from pathlib import Path

import pytest

from bertjax.__main__ import main as console
from bertjax.finetune.__main__ import main

CONFIGS = Path(__file__).parents[2] / "configs/finetune"


@pytest.fixture
def files(tmp_path):
    """Small labelled files by name."""
    contents = {
        "good.tsv": "sentence\tlabel\nthe film was good\tpos\na bad book\tneg\nit is a great song\tpos\n",
        "good.conll": "anna B-per\nlives O\n\nparis B-loc\nis O\n",
        "good.json": squad("anna lives in rome", "rome", 14),
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def squad(context, answer, start):
    question = {"id": "q", "question": "where ?", "answers": [{"text": answer, "answer_start": start}]}
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": context, "qas": [question]}]}]}, indent=1)


def command(kind, model, files, train, evaluation, *more):
    return [
        f"--config={CONFIGS / kind}.py",
        f"--model={model}",
        f"--train={files / train}",
        f"--eval={files / evaluation}",
        f"--workdir={files / 'run'}",
        "--config.model.max_length=32",
        *more,
    ]


def error_of(capsys, arguments):
    """(exit code, the one line on standard error)."""
    code = main(arguments)
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return code, lines[0]


def test_help_and_the_console_command(capsys):
    assert main(["--help"]) == 0
    assert "--train, --eval" in capsys.readouterr().out
    assert main([]) == 2
    assert console(["finetune", "--help"]) == 0


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_configs_are_whole_and_begin_with_their_command(config):
    import runpy

    from bertjax.finetune.settings import resolve

    assert config.read_text().startswith(f'"""python -m bertjax.finetune --config=finetune/{config.stem}')
    assert resolve(runpy.run_path(str(config))["get_config"]()).name == config.stem


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("classification", ["--config.training.lr=1"], "unknown config key config.training.lr"),
        ("classification", ["--batch=1"], "unknown flag --batch"),
        (
            "classification",
            ["--config.training.learning_rate=fast"],
            "config.training.learning_rate must be of type float",
        ),
        ("classification", ["--config.model.max_length=65"], "max_length = 65 is more than the 64 positions"),
        ("classification", ["--config.training.frozen_layers=3"], "frozen_layers = 3, but the model has 2"),
        (
            "classification",
            ["--config.training.class_weights=1,2,3"],
            "'balanced' or 2 numbers, for the labels neg, pos",
        ),
        ("classification", ["--config.data.second=label"], "second text is given without that of the text"),
    ],
)
def test_mistakes_are_told_with_exit_code_2(kind, more, words, model_folder, files, capsys):
    code, line = error_of(capsys, command(kind, model_folder, files, "good.tsv", "good.tsv", *more))
    assert code == 2 and words in line


def test_what_is_not_given_is_named(model_folder, files, capsys):
    arguments = command("classification", model_folder, files, "good.tsv", "good.tsv")
    code, line = error_of(capsys, [a for a in arguments if not a.startswith("--eval=")])
    assert code == 2 and "--eval=PATH" in line and "config.data.eval" in line


BAD_TEXTS = {
    "a missing column": (
        b"sentence\tlabel\n",
        b"text\tmood\na film\tpos\n",
        ":1: no column has a usual name of a label",
    ),
    "a label that training has not": (None, b"sentence\tlabel\ngood\tpos\nfine\tposs\n", ":3: the label 'poss' is not"),
    "an empty file": (b"", None, ":1: the file is empty"),
    "an empty text": (b"sentence\tlabel\ngood\tpos\n \tneg\n", None, ":3: the text (column 0) is empty"),
    "an empty label": (b"sentence\tlabel\ngood\tpos\nbad\t\n", None, ":3: the label is empty"),
    "one label for all": (
        b"sentence\tlabel\ngood\tpos\nfine\tpos\n",
        None,
        ":3: up to here all examples have the label",
    ),
    "a field too many": (b"sentence\tlabel\ngood\tpos\nbad\tneg\tx\n", None, ":3: fields: 3"),
    "mixed encodings": (b"sentence\tlabel\ngood\tpos\ncaf\xe9 bad\tneg\n", None, ":3: "),
}


@pytest.mark.parametrize(("train", "evaluation", "words"), BAD_TEXTS.values(), ids=list(BAD_TEXTS))
def test_bad_texts_are_told_with_file_and_line(train, evaluation, words, model_folder, files, capsys):
    name = "train.tsv" if evaluation is None else "eval.tsv"
    for file, content in (("train.tsv", train), ("eval.tsv", evaluation)):
        (files / file).write_bytes((files / "good.tsv").read_bytes() if content is None or file != name else content)
    code, line = error_of(capsys, command("classification", model_folder, files, "train.tsv", "eval.tsv"))
    assert code == 3 and f"{files / name}{words}" in line


def test_one_tag_for_all_words(model_folder, files, capsys):
    (files / "one.conll").write_text("anna\tB-per\tO\nlives\tO\tO\n")
    code, line = error_of(capsys, command("tagging", model_folder, files, "one.conll", "one.conll"))
    assert code == 3 and "one.conll:1: up to here all words have the tag 'O'; there must be two; choose another" in line


def test_one_label_for_all_beside_others_of_the_config(model_folder, files, capsys):
    (files / "one.tsv").write_text("sentence\tlabel\ngood\tpos\nfine\tpos\n")
    more = "--config.data.labels=neg,pos,mixed"
    code, line = error_of(capsys, command("classification", model_folder, files, "one.tsv", "good.tsv", more))
    assert code == 3 and "one.tsv:3: up to here all examples have the label 'pos'; there must be two" in line


@pytest.mark.parametrize(
    ("kind", "name", "content", "words"),
    [
        ("tagging", "bad.conll", "anna B-per\nlives O\n\nparis\nis\n", "bad.conll:4: "),
        (
            "tagging",
            "bad.conll",
            "anna B-city\nlives X\n",
            "bad.conll:1: the model knows no tag of the file (B-city, X)",
        ),
        ("answering", "bad.json", squad("anna lives in rome", "paris", 14), "'paris' is not at 14 in its context"),
        ("answering", "bad.json", "{}", "bad.json"),
        ("regression", "bad.tsv", "sentence\tscore\ngood\t3\nbad\tlow\n", "bad.tsv:3: the label must be a number"),
        ("embedding", "bad.tsv", "sentence\ngood\n", "bad.tsv:2: an embedding is learned from pairs"),
    ],
)
def test_other_bad_files(kind, name, content, words, model_folder, files, capsys):
    good = {"tagging": "good.conll", "answering": "good.json"}.get(kind, name)
    (files / name).write_text(content)
    code, line = error_of(capsys, command(kind, model_folder, files, good, name))
    assert code == 3 and words in line


def test_a_model_that_is_not_there(files, capsys):
    code, line = error_of(capsys, command("classification", files / "nothing", files, "good.tsv", "good.tsv"))
    assert code == 3 and "nothing" in line


@pytest.mark.parametrize("kind", ["classification", "embedding"])
def test_a_text_longer_than_the_model_is_truncated_or_refused_as_the_config_says(kind, model_folder, files, capsys):
    """Of 64 positions."""
    end = {"classification": "\tpos", "embedding": "\ta film"}[kind]
    header = {"classification": "sentence\tlabel", "embedding": "sentence1\tsentence2"}[kind]
    other = {"classification": "a book\tneg", "embedding": "a book\ta plot"}[kind]
    (files / "long.tsv").write_text(f"{header}\n{other}\n{'good ' * 40}{end}\n{'good ' * 63}{end}\n")
    arguments = command(kind, model_folder, files, "long.tsv", "long.tsv", "--config.training.epochs=1")
    code, line = error_of(capsys, [*arguments, "--config.data.too_long=refuse"])
    assert code == 3 and f"{files / 'long.tsv'}:4: 65 tokens are more than the 64 positions" in line
    assert "--config.data.too_long=truncate" in line
    assert main(arguments) == 0
    rows = {"classification": 3, "embedding": 6}[kind]
    said = f"2 of {rows} training and 2 of {rows} evaluation texts have more than config.model.max_length = 32 tokens"
    assert said in capsys.readouterr().out
    (event,) = [row for row in log_of(files / "run") if said in row.get("reason", "")]
    assert "--config.model.max_length=64" in event["reason"]


def log_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_long_texts_are_truncated_and_counted_in_one_line(model_folder, files):
    from bertjax.finetune.classification import text_rows
    from bertjax.finetune.settings import resolve
    from bertjax.finetune.task_setup import Labelled
    from bertjax.tasks.examples import text_examples
    from bertjax.text.tokenizer import load_tokenizer

    examples = text_examples(["good " * 20, "bad", ("good film " * 10, "bad book")])
    run = resolve({"model": {"max_length": 10}})
    data = Labelled(examples, examples, load_tokenizer(model_folder))
    rows, truncated = text_rows(run, data, examples)
    assert truncated == 2 and rows.lengths.tolist() == [10, 3, 10]
    assert rows.token_type_ids[-3:].tolist() == [1, 1, 1]  # the shorter text of the pair is whole
