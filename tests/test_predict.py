"""The command as a person meets it."""

import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import bertjax
from bertjax.interop.task_models import new_task_model
from bertjax.model.task import TaskConfig
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


@pytest.fixture(scope="module")
def task_folder(folder, tmp_path_factory):
    """``task_folder(kind, labels)``: a model folder with a new head."""
    made = {}

    def make(kind, labels=()):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind) / "model"
            bertjax.save_task_model(*_swapped(new_task_model(folder, TaskConfig(kind, labels, 64), 0), made[kind]))
        return made[kind]

    return make


def _swapped(pair, path):
    model, tokenizer = pair
    return model, path, tokenizer


LABELS = {
    "classification": ("good", "bad"),
    "multi_label": ("new", "old"),
    "regression": ("score",),
    "tagging": ("O", "B-PER"),
    "answering": (),
    "embedding": (),
}


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
    assert code == 3 and err.endswith('error: 1 line could not be used; see the objects with "error"\n')
    # The small vocabulary has no "!": that is told, once.
    assert err.startswith("warning: ") and err.count("[UNK]") == 1


def test_embed_is_the_function(folder, capsys, monkeypatch):
    stdin = "\n".join(json.dumps(text) for text in TEXTS)
    code, out, err = run(capsys, monkeypatch, "embed", f"--model={folder}", "--normalize", stdin=stdin)
    assert (code, err) == (0, "")
    vectors = [json.loads(line)["embedding"] for line in out.splitlines()]
    model, tokenizer = bertjax.load_model(folder), bertjax.load_tokenizer(folder)
    np.testing.assert_allclose(vectors, bertjax.embed(model, tokenizer, TEXTS, normalize=True), atol=1e-5)
    code, out, _ = run(capsys, monkeypatch, "embed", f"--model={folder}", "--normalize", TEXTS[0])
    np.testing.assert_allclose(json.loads(out)["embedding"], vectors[0], atol=1e-5)


def answers_to(capsys, monkeypatch, path, task, lines, *options):
    """(exit code, the answers) to JSON lines, given as Python values."""
    stdin = "\n".join(map(json.dumps, lines))
    code, out, _ = run(capsys, monkeypatch, task, f"--model={path}", *options, stdin=stdin)
    return code, [json.loads(line) for line in out.splitlines()]


def loaded(path):
    return bertjax.load_task_model(path)


def test_classify_json_lines(task_folder, capsys, monkeypatch):
    path = task_folder("classification", LABELS["classification"])
    lines = [{"text": "The cat sat.", "id": 7}, ["Dogs bark.", "The mat."], "x", {"text": 3}]
    code, answers = answers_to(capsys, monkeypatch, path, "classify", lines)
    expected = bertjax.classify(*loaded(path), ["The cat sat.", ("Dogs bark.", "The mat."), "x"])
    assert code == 3 and answers[3] == {"line": 4, "error": 'must be an object with a string "text", or a string'}
    assert answers[0]["id"] == 7 and answers[1]["second"] == "The mat."
    for answer, found in zip(answers, expected, strict=False):
        assert answer["label"] == found.label
        assert answer["probabilities"] == pytest.approx(found.probabilities, abs=1e-5)


def test_several_labels_and_numbers(task_folder, capsys, monkeypatch):
    path = task_folder("multi_label", LABELS["multi_label"])
    _, (answer,) = answers_to(capsys, monkeypatch, path, "classify", ["The cat"], "--threshold=0")
    assert sorted(answer["labels"]) == ["new", "old"]
    code, out, _ = run(capsys, monkeypatch, "classify", f"--model={path}", "--threshold=1", "The cat")
    assert code == 0 and out == "The cat\n  (no label)\n"
    path = task_folder("regression", LABELS["regression"])
    _, (answer,) = answers_to(capsys, monkeypatch, path, "classify", ["The cat"])
    assert answer["score"] == pytest.approx(bertjax.classify(*loaded(path), "The cat").score, abs=1e-5)


def test_classify_for_people(task_folder, capsys, monkeypatch):
    path = task_folder("classification", LABELS["classification"])
    code, out, _ = run(capsys, monkeypatch, "classify", f"--model={path}", "The cat", "Dogs")
    lines = out.splitlines()
    assert code == 0 and (lines[0], lines[3]) == ("The cat", "Dogs")
    shares = [float(line.split("%")[0]) for line in lines[1:3]]
    assert shares[0] >= shares[1] and sum(shares) == pytest.approx(100, abs=0.2)
    assert {line.split("%  ")[1] for line in lines[1:3]} == {"good", "bad"}
    code, out, _ = run(capsys, monkeypatch, "classify", f"--model={path}", "--pairs", "--json", "The cat", "Dogs")
    assert json.loads(out)["second"] == "Dogs"


def test_tag(task_folder, capsys, monkeypatch):
    path = task_folder("tagging", LABELS["tagging"])
    lines = ["The cat,\tsat", {"words": ["The", "cat"], "id": 1}, ["sat"], ""]
    code, answers = answers_to(capsys, monkeypatch, path, "tag", lines)
    assert code == 0 and answers[1]["id"] == 1 and answers[3]["words"] == []
    assert [(word["text"], word["start"], word["end"]) for word in answers[0]["words"]] == [
        ("The", 0, 3),
        ("cat", 4, 7),
        (",", 7, 8),
        ("sat", 9, 12),
    ]
    expected = bertjax.tag(*loaded(path), "The cat,\tsat")
    assert [word["tag"] for word in answers[0]["words"]] == [word.tag for word in expected.words]
    assert len(answers[0]["entities"]) == sum(word.tag != "O" for word in expected.words)
    code, out, _ = run(capsys, monkeypatch, "tag", f"--model={path}", "The cat", "")
    assert code == 0 and out.startswith("The cat\n  ") and out.endswith("\n\n  (none)\n")


def test_answer(task_folder, capsys, monkeypatch):
    path, context = task_folder("answering"), "The cat sat on the mat. Dogs bark."
    lines = [{"question": "Who sat?", "context": context, "id": "a"}, {"question": "Who?"}]
    code, answers = answers_to(capsys, monkeypatch, path, "answer", lines, "--n_best=2")
    expected = bertjax.answer(*loaded(path), "Who sat?", context)
    assert code == 3 and answers[1]["line"] == 2 and '"question" and "context"' in answers[1]["error"]
    assert answers[0]["id"] == "a" and len(answers[0]["n_best"]) == 2
    assert (answers[0]["answer"], answers[0]["start"], answers[0]["end"]) == (
        expected.text,
        expected.start,
        expected.end,
    )
    code, out, _ = run(capsys, monkeypatch, "answer", f"--model={path}", f"--context={context}", "Who sat?", "Who?")
    assert code == 0 and out.splitlines()[0] == "Who sat?" and len(out.splitlines()) == 8
    assert f"{expected.text}  [{expected.start}:{expected.end}]" in out.splitlines()[1]


@pytest.mark.parametrize("kind", ["embedding", "regression", None])
def test_similarity(kind, folder, task_folder, capsys, monkeypatch):
    path = task_folder(kind, LABELS[kind]) if kind else folder
    lines = [["The cat sat.", "Dogs bark."], {"text": "The cat", "second": "The cat"}, "one alone"]
    code, answers = answers_to(capsys, monkeypatch, path, "similarity", lines)
    assert code == 3 and answers[2]["line"] == 3
    if kind != "regression":
        assert answers[1]["similarity"] == pytest.approx(1, abs=1e-5) and answers[0]["similarity"] < 1
    code, out, _ = run(capsys, monkeypatch, "similarity", f"--model={path}", "The cat", "Dogs", "x", "y")
    assert code == 0 and [line.split("  ")[-1] for line in out.splitlines()] == ["The cat | Dogs", "x | y"]


def test_embed_takes_the_models_own_pooling(folder, tmp_path, capsys, monkeypatch):
    task = TaskConfig("embedding", max_length=64, pooling="cls")
    bertjax.save_task_model(*_swapped(new_task_model(folder, task, 0), tmp_path / "model"))
    _, (own,) = answers_to(capsys, monkeypatch, tmp_path / "model", "embed", ["The cat"])
    _, (cls,) = answers_to(capsys, monkeypatch, folder, "embed", ["The cat"], "--pooling=cls")
    _, (mean,) = answers_to(capsys, monkeypatch, tmp_path / "model", "embed", ["The cat"], "--pooling=mean")
    np.testing.assert_allclose(own["embedding"], cls["embedding"], atol=1e-6)
    assert not np.allclose(own["embedding"], mean["embedding"], atol=1e-3)


def test_long_texts_warn_once_in_a_stream(task_folder):
    """Lots of 16 lines, each with long texts."""
    path = task_folder("classification", LABELS["classification"])
    command = [sys.executable, "-m", "bertjax.predict", "classify", f"--model={path}", "--batch_size=1"]
    lines = "\n".join(json.dumps("the cat " * 60) for _ in range(40))
    done = subprocess.run(command, cwd=ROOT, input=lines, capture_output=True, text=True, check=True)
    assert done.stderr == "warning: texts of more than 64 tokens are truncated to these; the rest is not read\n"
    assert done.stdout.count("\n") == 40


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
        (["embed", "--model=nowhere", "text"], 3, "nowhere is not a model folder"),
        (["classify", "--model=FOLDER", "text"], 3, "is of a 'BertForPreTraining', which is not a model for a task"),
        (["classify", "--model=TAGGER", "text"], 3, "is a model for tagging; this needs one for classification"),
        (["similarity", "--model=TAGGER", "a", "b"], 3, "is a model for tagging; this needs one for embedding"),
        (["similarity", "--model=FOLDER", "a", "b", "c"], 2, "two by two; 3 were given"),
        (["classify", "--model=FOLDER", "--threshold=2", "a"], 2, "a number from 0 to 1"),
        (["answer", "--model=FOLDER", "Who?"], 2, "--context=TEXT is needed"),
        (["tag", "--model=TAGGER", "\udcff"], 2, "half a surrogate pair"),
    ],
)
def test_mistakes_are_one_line(folder, task_folder, capsys, monkeypatch, arguments, code, words):
    tagger = str(task_folder("tagging", LABELS["tagging"]))
    arguments = [argument.replace("FOLDER", str(folder)).replace("TAGGER", tagger) for argument in arguments]
    found, out, err = run(capsys, monkeypatch, *arguments)
    assert found == code and out == ""
    assert err.startswith("error: ") and words in err and err.count("\n") == 1


def test_a_vocabulary_of_another_size_is_refused(folder, tmp_path, capsys, monkeypatch):
    shutil.copytree(folder, tmp_path / "cut")
    lines = (folder / "vocab.txt").read_text().splitlines(keepends=True)
    (tmp_path / "cut/vocab.txt").write_text("".join(lines[:-5]))
    (tmp_path / "cut/tokenizer.json").unlink()
    code, _, err = run(capsys, monkeypatch, "fill-mask", f"--model={tmp_path / 'cut'}", "[MASK]")
    assert code == 3 and f"has {len(lines) - 5} entries" in err and err.count("\n") == 1


ODD_LINES = [b'{"text": "The [MASK].", "id": 1e999}', b"NaN", b'{"text": "The [MASK].", "id": NaN}', b"[" * 200_000]
ODD_LINES += [
    b"9" * 5000,
    b'{"text": "a", "text": "b"}',
    b'{"text": "\\ud800 [MASK]"}',
    b"\xff",
    b'{"text": 1}',
    b"null",
]
TASK_OF = {"embed": None, "fill-mask": None, "classify": "multi_label", "tag": "tagging", "answer": "answering"}


@pytest.mark.parametrize("task", [*TASK_OF, "similarity"])
def test_odd_lines_are_answered_alone(task, folder, task_folder, capsys, monkeypatch):
    """Each by an error in its place, as JSON that any reader takes; the good ones as if they were not there."""
    kind = TASK_OF.get(task)
    path = task_folder(kind, LABELS[kind]) if kind else folder
    good = {
        "text": "The [MASK].",
        "second": "Dogs.",
        "question": "Who?",
        "context": "The cat.",
        "id": "\x9b\u202e\ud800",
    }
    giant = json.dumps(good | {"id": "x" * (5 << 20)}).encode()
    lines = [json.dumps(good).encode()]
    for line in (*ODD_LINES, giant):
        lines += [line, lines[0]]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\n".join(lines)), isatty=lambda: False))
    code = main([task, f"--model={path}"])
    out, err = capsys.readouterr()
    assert code == 3 and err.endswith(
        f'error: {len(lines) // 2} lines could not be used; see the objects with "error"\n'
    )
    assert out.isascii()  # nothing in it that a terminal would heed
    answers = [json.loads(line, parse_constant=pytest.fail) for line in out.split("\n")[:-1]]
    assert [answer.get("line") for answer in answers[1::2]] == list(range(2, len(lines), 2))
    assert all(sorted(answer) == ["error", "line"] for answer in answers[1::2])
    assert all(answer == answers[0] and answer["id"] == good["id"] for answer in answers[::2])
    assert "longer than 4,194,304 bytes" in answers[-2]["error"]


def test_weights_that_overflow_are_no_answers(folder, tmp_path, capsys, monkeypatch):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder, tmp_path / "odd")
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.embeddings.LayerNorm.weight"] = tensors["bert.embeddings.LayerNorm.weight"] * np.float32(3e38)
    save_file(tensors, tmp_path / "odd/model.safetensors", {"format": "pt"})
    code, out, _ = run(capsys, monkeypatch, "embed", f"--model={tmp_path / 'odd'}", stdin='"a"\n"b"\n')
    assert code == 3 and [json.loads(line)["line"] for line in out.splitlines()] == [1, 2]
    code, out, err = run(capsys, monkeypatch, "embed", f"--model={tmp_path / 'odd'}", "a")
    assert (code, out) == (3, "") and "not a finite number" in err and err.count("\n") == 1


def test_standard_input_that_cannot_be_read(folder, tmp_path, capsys, monkeypatch):
    with (tmp_path / "x").open("wb") as unreadable:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=unreadable, isatty=lambda: False))
        code = main(["embed", f"--model={folder}"])
    out, err = capsys.readouterr()
    assert (code, out) == (3, "") and err.startswith("error: standard input cannot be read") and err.count("\n") == 1


def test_a_hostile_label_does_not_reach_the_terminal(folder, tmp_path, capsys, monkeypatch):
    task = TaskConfig("classification", ("good\x1b[2J", "bad\u202e"), 64)
    bertjax.save_task_model(*_swapped(new_task_model(folder, task, 0), tmp_path / "model"))
    code, out, _ = run(capsys, monkeypatch, "classify", f"--model={tmp_path / 'model'}", "a\x1b[31m\nb")
    assert code == 0 and "good\\x1b[2J" in out and "bad\\u202e" in out and out.startswith("a\\x1b[31m\nb\n")
