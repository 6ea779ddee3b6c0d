"""The command as a person meets it."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import bertjax
from bertjax.predict import main
from bertjax.text.vocabulary import train_tokenizer

ROOT = Path(__file__).parent.parent
TEXTS = ["The cat sat on the mat.", "Dogs bark, and the cat hears them."] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = train_tokenizer("wordpiece", TEXTS, 80, lowercase=True)
    model = bertjax.create_model(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    path = tmp_path_factory.mktemp("predict") / "model"
    bertjax.save_model(model, path, tokenizer=tokenizer)
    return path


def run(capsys, monkeypatch, *argv, stdin=""):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stdin.encode()), isatty=lambda: False))
    code = main(list(map(str, argv)))
    out, err = capsys.readouterr()
    return code, out, err


def test_fill_mask_for_people(folder, capsys, monkeypatch):
    code, out, _ = run(
        capsys, monkeypatch, "fill-mask", f"--model={folder}", "--top_k=3", "The [MASK] sat.", "[MASK] [MASK]"
    )
    assert code == 0
    lines = out.split("\n")
    assert lines[0] == "The [MASK] sat." and len([line for line in lines if "%" in line]) == 9
    assert "  mask 2" in lines


def test_fill_mask_json_lines(folder, capsys, monkeypatch):
    stdin = '{"text": "The [MASK] sat.", "id": 7}\n"no mask"\n"[MASK]!"\n'
    code, out, err = run(capsys, monkeypatch, "fill-mask", f"--model={folder}", "--top_k=2", stdin=stdin)
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0]["id"] == 7 and len(answers[0]["fillings"][0]) == 2
    assert answers[1]["line"] == 2 and "has no [MASK]" in answers[1]["error"]
    assert answers[2]["fillings"][0][0]["text"].endswith("!")
    assert code == 3 and err == 'error: 1 line could not be used; see the objects with "error"\n'


def test_embed_is_the_function(folder, capsys, monkeypatch):
    stdin = "\n".join(json.dumps(text) for text in TEXTS)
    code, out, err = run(capsys, monkeypatch, "embed", f"--model={folder}", "--normalize", stdin=stdin)
    assert (code, err) == (0, "")
    vectors = [json.loads(line)["embedding"] for line in out.splitlines()]
    model, tokenizer = bertjax.load_model(folder), bertjax.load_tokenizer(folder)
    np.testing.assert_allclose(vectors, bertjax.embed(model, tokenizer, TEXTS, normalize=True), atol=1e-5)
    code, out, _ = run(capsys, monkeypatch, "embed", f"--model={folder}", "--normalize", TEXTS[0])
    np.testing.assert_allclose(json.loads(out)["embedding"], vectors[0], atol=1e-5)


def test_a_count_on_the_terminal_leaves_the_answers_alone(folder, tmp_path):
    """Standard error is a terminal, standard output a file: all answers go to the file, whole."""
    shown, terminal = pty.openpty()
    lines = "\n".join(json.dumps(f"text {number}") for number in range(50))
    with (tmp_path / "out").open("w") as out:
        # Lots of 16 texts, so that some are answered while others are still being read.
        command = [sys.executable, "-m", "bertjax.predict", "embed", f"--model={folder}", "--batch_size=1"]
        settings = {"cwd": ROOT, "env": os.environ | {"TERM": "xterm"}, "check": False}
        done = subprocess.run(command, input=lines.encode(), stdout=out, stderr=terminal, **settings)
    os.close(terminal)
    seen = os.read(shown, 65536).decode()
    os.close(shown)
    assert done.returncode == 0 and "texts read" in seen and "embedding" not in seen
    answers = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [answer["text"] for answer in answers] == [f"text {number}" for number in range(50)]


def test_a_reader_that_has_enough_is_no_error(folder):
    command = f"{sys.executable} -u -m bertjax.predict embed --model={folder} a b c d | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and done.stdout.count("\n") == 1


def test_odd_characters_are_in_nobodys_way(folder, capsys, monkeypatch):
    stdin = '{"text": "a", "id": "\\ud800"}\n{"text": "\\ud800"}\n"\u00e9"\n'
    code, out, _ = run(capsys, monkeypatch, "embed", f"--model={folder}", stdin=stdin)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 3 and answers[0]["id"] == "\ud800" and "surrogate" in answers[1]["error"]
    assert answers[2]["text"] == "\u00e9"


def test_a_full_disk_is_one_line(folder):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "bertjax.predict", "embed", f"--model={folder}", "a"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3 and done.stderr.startswith("error: cannot write") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fil-mask", "--model=x"], 2, "fill-mask"),
        (["fill-mask", "text"], 2, "--model"),
        (["fill-mask", "--model=FOLDER", "no mask"], 2, "has no [MASK]"),
        (["fill-mask", "--model=FOLDER", "--top_k=0", "[MASK]"], 2, "--top_k"),
        (["fill-mask", "--model=FOLDER", "--topk=1", "[MASK]"], 2, "--topk"),
        (["embed", "--model=FOLDER", "--pooling=max", "text"], 2, "mean"),
        (["fill-mask", "--model=FOLDER", "--top_k=9999"], 2, "--top_k=9999 is more than"),
        (["embed", "--model=FOLDER", "--max_length=3"], 2, "--max_length=3 is too small"),
        (["fill-mask", "--model=FOLDER", "\udcff [MASK]"], 2, "half a surrogate pair"),
        (["embed", "--model=nowhere", "text"], 3, "nowhere is no model folder"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, monkeypatch, arguments, code, words):
    arguments = [argument.replace("FOLDER", str(folder)) for argument in arguments]
    found, out, err = run(capsys, monkeypatch, *arguments)
    assert found == code and out == ""
    assert err.startswith("error: ") and words in err and err.count("\n") == 1


def test_a_vocabulary_of_another_size_is_refused(folder, tmp_path, capsys, monkeypatch):
    import shutil

    shutil.copytree(folder, tmp_path / "cut")
    lines = (folder / "vocab.txt").read_text().splitlines(keepends=True)
    (tmp_path / "cut/vocab.txt").write_text("".join(lines[:-5]))
    (tmp_path / "cut/tokenizer.json").unlink()
    code, _, err = run(capsys, monkeypatch, "fill-mask", f"--model={tmp_path / 'cut'}", "[MASK]")
    assert code == 3 and f"has {len(lines) - 5} entries" in err and err.count("\n") == 1
