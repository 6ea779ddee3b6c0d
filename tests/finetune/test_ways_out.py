"""What lines about labels name as the way out is done, word by word, and works."""

from pathlib import Path

import pytest

import bertjax
from bertjax.cli.flags import parse
from bertjax.errors import DataError
from bertjax.finetune.classification import text_setup
from bertjax.finetune.model_and_examples import read_examples
from bertjax.finetune.settings import resolve
from bertjax.finetune.task_setup import Labelled

CONFIG = Path(__file__).parents[2] / "configs/finetune/classification.py"


@pytest.fixture
def setup_of(model_folder, tmp_path):
    """``setup_of(train, evaluation, *flags)``: (the task on these files, the warnings about them)."""

    def make(train, evaluation, *flags):
        config, _ = parse("bertjax.finetune", [f"--config={CONFIG}", "--config.model.max_length=16", *flags], {})
        run, said, data = resolve(config), [], []
        for name, content in (("train.tsv", train), ("eval.tsv", evaluation)):
            (tmp_path / name).write_text(content)
            data.append(read_examples(str(tmp_path / name), run, held_out=False, warn=said.append))
        return text_setup(run, Labelled(*data, bertjax.load_tokenizer(model_folder), 64)), said

    return make


TRAIN = "text\tlabel\ngood film\tpos\nbad film\tneg\n"


def test_a_label_of_evaluation_alone(setup_of):
    other = "text\tlabel\ngood\tpos\nquite\tmixed\n"
    with pytest.raises(DataError, match=r"eval.tsv:3: the label 'mixed' is not in .*where config.data.labels lists it"):
        setup_of(TRAIN, other)
    found, _ = setup_of(TRAIN, other, "--config.data.labels=neg,pos,mixed")
    assert found.outcome([[0.0, 9.0, 0.0]] * 2).scores["accuracy"] == 0.5


def test_two_labels_that_look_alike_and_are_two(setup_of):
    train = TRAIN + "very good\tPos\n"
    with pytest.raises(DataError, match=r"list all labels in config\.data\.labels"):
        setup_of(train, TRAIN)
    assert setup_of(train, TRAIN, "--config.data.labels=neg,pos,Pos")[0].task.labels == ("neg", "pos", "Pos")


@pytest.mark.parametrize("sign", ["-1", "-", "n/a"])
def test_a_sign_of_no_label(sign, setup_of):
    train = TRAIN + f"quite\t{sign}\n"
    assert sign in setup_of(train, TRAIN)[0].task.labels
    found, said = setup_of(train, TRAIN, f"--config.data.no_label={sign}")
    assert found.task.labels == ("neg", "pos") and len(said) == 1 and len(found.train) == 2


def test_numbers_that_were_taken_for_classes(setup_of):
    numbers = "text\tlabel\ngood\t2.5\nbad\t1\n"
    found, _ = setup_of(numbers, numbers, "--config.task=regression")
    assert found.task.labels == ("score",)


def test_a_dash_of_a_gold_label_is_a_class_where_no_sign_of_no_label_is_asked_for(setup_of):
    train = "text\tgold_label\ngood film\tpos\nquite\t-\nbad film\tneg\n"
    found, said = setup_of(train, train)
    assert found.task.labels == ("neg", "pos") and len(said) == 2
    found, said = setup_of(train, train, "--config.data.no_label=")
    assert found.task.labels == ("-", "neg", "pos") and said == []
