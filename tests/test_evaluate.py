"""The command as a person meets it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bertjax
from bertjax.data.corpus.prepared import prepare
from bertjax.errors import ConfigError, ModelFileError
from bertjax.evaluate import main
from bertjax.evaluation import SUITES, suite_named
from bertjax.text.vocabulary import train_tokenizer

ROOT = Path(__file__).parent.parent
TEXTS = ["The cat sat on the mat.", "Dogs bark, and the cat hears them.", "A dog and a cat bark at the mat."] * 10
PAIRS = [("The cat sat.", "The cat sit."), ("Dogs bark.", "Dogs barks."), ("A cat hears.", "A cat hear.")]


@pytest.fixture(scope="module", autouse=True)
def few_samples():
    """Intervals of a few draws: they are tested with the bootstrap itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertjax.evaluation.suite.SAMPLES", 40)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, one without a masked-LM head, and data for every suite."""
    path = tmp_path_factory.mktemp("evaluate")
    tokenizer = train_tokenizer("wordpiece", TEXTS, 80, lowercase=True)
    for name, heads in (("model", True), ("headless", False)):
        model = bertjax.create_model(
            vocab_size=tokenizer.vocab_size,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            for_pretraining=heads,
        )
        bertjax.save_model(model, path / name, tokenizer=tokenizer)
    (path / "text.txt").write_text("\n\n".join(TEXTS))
    records = [{"sentence_good": good, "sentence_bad": bad, "UID": "[/verbs]"} for good, bad in PAIRS]
    (path / "pairs.jsonl").write_text("\n".join(map(json.dumps, records)))
    (path / "bad.jsonl").write_text(json.dumps(records[0]) + '\n{"sentence_good": "a"}\n')
    (path / "scores.csv").write_text("The cat sat,A cat,3\nDogs bark,A dog,2.5\nThe mat,A dog hears,0\n")
    (path / "empty.csv").write_text("")
    return path


DATA = {"mlm": "text.txt", "blimp": "pairs.jsonl", "sts": "scores.csv"}


def run(capsys, place, *arguments):
    code = main([argument.replace("PLACE", str(place)) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("suite", DATA)
def test_every_suite_gives_json_and_a_table(place, capsys, suite):
    arguments = ["--model=PLACE/model", f"--suite={suite}", f"--data=PLACE/{DATA[suite]}"]
    code, out, _ = run(capsys, place, *arguments, "--json", f"--output=PLACE/{suite}.json")
    result = json.loads(out)
    assert code == 0 and json.loads((place / f"{suite}.json").read_text()) == result
    assert result["suite"] == suite and result["data"] == f"{place}/{DATA[suite]}"
    expected = bertjax.evaluate.run(place / "model", suite, place / DATA[suite])
    assert (result["scores"], result["groups"]) == (expected["scores"], expected["groups"])
    code, out, _ = run(capsys, place, *arguments)
    assert code == 0 and "95% interval" in out and all(group in out for group in result["groups"].get("UID", {}))
    for name, score in result["scores"].items():
        cells = [line for line in out.splitlines() if line.startswith(f"  {name} ")][-1].split()
        spec = suite_named(suite).FORMATS[name]
        expected = [name, format(score["value"], spec), format(score["low"], spec), "..", format(score["high"], spec)]
        assert cells == [*expected, str(score["count"])]


def test_a_run_is_scored_on_its_own_held_out_text(place, capsys, tmp_path):
    """A workdir, as far as it matters here: the model, a checkpoint, and which corpus it was trained on."""
    corpus = prepare(place / "text.txt", tmp_path / "corpus", tokenizer=place / "model/vocab.txt")
    shutil.copytree(place / "model", tmp_path / "run/model")
    (tmp_path / "run/checkpoints/1").mkdir(parents=True)
    recorded = {"identity": {}, "corpus": {"fingerprint": corpus.fingerprint, "path": str(corpus.path)}}
    (tmp_path / "run/config.json").write_text(json.dumps(recorded))
    code, out, _ = run(capsys, tmp_path, "--model=PLACE/run", "--suite=mlm", "--json")
    assert code == 0 and json.loads(out)["facts"]["tokens"] == corpus.held_out.num_tokens
    shutil.rmtree(tmp_path / "corpus")
    for left_out in ("nothing", "corpus"):  # fine-tuning has no corpus
        recorded.pop(left_out, None)
        (tmp_path / "run/config.json").write_text(json.dumps(recorded))
        code, _, err = run(capsys, tmp_path, "--model=PLACE/run", "--suite=mlm")
        assert code == 2 and "needs --data" in err


def test_a_path_that_is_no_text_can_be_written(place, capsys, tmp_path):
    data = tmp_path / os.fsdecode(b"\xff.csv")
    shutil.copy(place / "scores.csv", data)
    arguments = ["--model=PLACE/model", "--suite=sts", f"--data={data}", f"--output={tmp_path}/a.json"]
    assert run(capsys, place, *arguments)[0] == 0
    assert json.loads((tmp_path / "a.json").read_text())["data"] == str(data)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--model"),
        (["--model=PLACE/model", "--suite=glue"], 2, "invalid choice: 'glue'"),
        (["--model=PLACE/model", "--suite=blimp"], 2, "the suite 'blimp' needs --data"),
        (["--model=PLACE/model", "--suite=mlm"], 2, "the suite 'mlm' needs --data"),
        (
            ["--model=PLACE/model", "--suite=mlm", "--data=PLACE/text.txt", "--pooling=cls"],
            2,
            "pooling = 'cls': the suite",
        ),
        (["--model=PLACE/model", "--suite=mlm", "--data=PLACE/text.txt", "--limit=0"], 2, "limit = 0 must be"),
        (["--model=PLACE/model", "--suite=mlm", "--data=PLACE/text.txt", "--max_length=99"], 2, "max_length = 99"),
        (["--model=PLACE/model", "--suite=mlm", "--data=PLACE/text.txt", "--precision=fp8"], 2, "precision = 'fp8'"),
        (["--model=PLACE/nowhere", "--suite=mlm", "--data=PLACE/text.txt"], 3, "nowhere is not a model folder"),
        (["--model=PLACE/headless", "--suite=mlm", "--data=PLACE/text.txt"], 3, "no weights of a masked-LM head"),
        (["--model=PLACE/headless", "--suite=blimp", "--data=PLACE/pairs.jsonl"], 3, "no weights of a masked-LM head"),
        (["--model=PLACE/model", "--suite=blimp", "--data=PLACE/bad.jsonl"], 3, "bad.jsonl:2: no field 'sentence_bad'"),
        (["--model=PLACE/model", "--suite=sts", "--data=PLACE/empty.csv"], 3, "empty.csv:1: the file is empty"),
        (["--model=PLACE/model", "--suite=sts", "--data=PLACE/none.csv"], 3, "none.csv cannot be read"),
        (["--model=PLACE/model", "--suite=mlm", "--data=PLACE/none.txt"], 3, "none.txt does not exist"),
        (
            ["--model=PLACE/model", "--suite=sts", "--data=PLACE/scores.csv", "--output=PLACE/x/y"],
            2,
            "there is no folder",
        ),
        (
            ["--model=PLACE/model", "--suite=sts", "--data=PLACE/scores.csv", "--output=PLACE"],
            2,
            "is a folder; it must be a file",
        ),
    ],
)
def test_mistakes_are_one_line(place, capsys, arguments, code, words):
    found, out, err = run(capsys, place, *arguments)
    lines = [line for line in err.splitlines() if "..." not in line or line.startswith("error")]  # but progress
    assert found == code and out == ""
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]


def test_mistakes_in_python_are_named(place):
    model, tokenizer = bertjax.load_model(place / "model"), bertjax.load_tokenizer(place / "model")
    with pytest.raises(ConfigError, match=r"no suite 'blump'; did you mean 'blimp'\?"):
        bertjax.evaluate.run(model, "blump", PAIRS, tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="limmit = 3: no such option; did you mean 'limit'"):
        bertjax.evaluate.run(model, "blimp", PAIRS, tokenizer=tokenizer, limmit=3)
    with pytest.raises(ConfigError, match="tokenizer"):
        bertjax.evaluate.run(model, "blimp", PAIRS)
    with pytest.raises(ConfigError, match="precision"):
        bertjax.evaluate.run(model, "blimp", PAIRS, tokenizer=tokenizer, precision="bfloat16")


def test_scores_that_are_no_numbers_are_refused(place):
    model, tokenizer = (
        bertjax.load_model(place / "model", for_pretraining=True),
        bertjax.load_tokenizer(place / "model"),
    )
    model.embeddings.word_embeddings[...] *= float("nan")
    with pytest.raises(ModelFileError, match="model: its loss is nan"):
        bertjax.evaluate.run(model, "mlm", TEXTS, tokenizer=tokenizer)


def test_the_lower_precision_is_near(place):
    exact, rounded = (
        bertjax.evaluate.run(place / "model", "mlm", place / "text.txt", max_length=32, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    difference = exact["scores"]["loss"]["value"] - rounded["scores"]["loss"]["value"]
    assert 0 < abs(difference) < 0.02


def test_help_names_every_suite_before_jax_is_imported():
    code = "import sys, bertjax.evaluate as e; e.main(['--help']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and all(f"\n  {name} " in done.stdout for name in SUITES)
