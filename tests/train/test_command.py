"""The training command as a person meets it: one line for a mistake, the exit codes of the README."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bertjax.train.__main__ import main

ROOT = Path(__file__).parent.parent.parent
TINY = f"--config={ROOT / 'configs' / 'tiny.py'}"


def run(capsys, *argv):
    """(exit code, lines on standard error)."""
    code = main(list(argv))
    return code, [line for line in capsys.readouterr().err.split("\n") if line.startswith("error:")]


def test_help_is_quick():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "bertjax.train", "--help"], cwd=ROOT, capture_output=True, check=True)
    assert b"--config.KEY=VALUE" in done.stdout
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([TINY, "--config.model.hiden_size=64"], ["config.model.hiden_size", "'hidden_size'"]),
        ([TINY, "--config.phases.phase1.setps=6"], ["config.phases.phase1.setps", "'steps'"]),
        ([TINY, "--config.phases.phase1.steps=many"], ["config.phases.phase1.steps", "many"]),
        ([TINY, "--config.data.packing=perhaps"], ["config.data.packing", "perhaps"]),
        ([TINY, "--config.precision=bf16"], ["config.precision", "bfloat16"]),
        ([TINY, "--config.phases.phase2.sequence_length=1024"], ["1024", "max_position_embeddings = 512"]),
        ([TINY, "--config.model.num_attention_heads=3"], ["num_attention_heads = 3", "128", "2 would"]),
        ([TINY, "--confg=x"], ["--confg", "'config'"]),
        ([TINY, "surplus"], ["'surplus'"]),
        (["--config=nowhere.py"], ["nowhere.py", "does not exist"]),
        (["--workdir=x"], ["no config"]),
    ],
)
def test_mistakes_in_the_command_line(arguments, words, capsys, tmp_path):
    code, errors = run(capsys, *arguments, *([] if "--workdir=x" in arguments else [f"--workdir={tmp_path / 'run'}"]))
    assert code == 2
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]


def test_config_file_that_raises(capsys, tmp_path):
    (tmp_path / "bad.py").write_text("def get_config():\n    return 1 / 0\n")
    code, errors = run(capsys, f"--config={tmp_path / 'bad.py'}")
    assert code == 2
    assert "ZeroDivisionError" in errors[0]


def corpus(tmp_path, content, name="corpus.txt"):
    path = tmp_path / name
    path.write_bytes(content)
    return f"--config.data.corpus={path}"


SENTENCES = b"The first sentence stands here. The second follows it. "


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b" \n\n  \n", ["empty"]),
        (SENTENCES * 3, ["one document", "--config.data.objective=mlm"]),
        (b"One sentence.\n", ["one sentence", "--config.data.objective=mlm"]),
    ],
    ids=["empty", "blank", "one document", "one sentence"],
)
def test_corpora_that_cannot_be_trained_on(content, words, capsys, tmp_path):
    code, errors = run(capsys, TINY, corpus(tmp_path, content), f"--workdir={tmp_path / 'run'}")
    assert code == 3
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]


def test_corpus_that_does_not_exist(capsys, tmp_path):
    code, errors = run(capsys, TINY, "--config.data.corpus=nowhere.txt", f"--workdir={tmp_path / 'run'}")
    assert code == 3
    assert "nowhere.txt" in errors[0]


def test_vocabulary_that_does_not_match(capsys, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s"]) + "\n")
    documents = corpus(tmp_path, b"\n\n".join([SENTENCES] * 4))
    arguments = [TINY, documents, f"--config.data.tokenizer={tmp_path / 'vocab.txt'}", f"--workdir={tmp_path / 'run'}"]
    code, errors = run(capsys, *arguments)
    assert code == 2
    assert "7" in errors[0]
    assert "8192" in errors[0]
    assert "--config.model.vocab_size=7" in errors[0]


def test_vocabulary_without_special_tokens(capsys, tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nthe\n")
    arguments = [TINY, f"--config.data.tokenizer={tmp_path / 'vocab.txt'}", f"--workdir={tmp_path / 'run'}"]
    code, errors = run(capsys, *arguments)
    assert code == 2
    assert "[MASK]" in errors[0]


SMALL = [
    "--config.model.vocab_size=300",
    "--config.model.hidden_size=16",
    "--config.model.intermediate_size=16",
    "--config.data.held_out_fraction=0.2",
    "--config.phases.phase2.steps=1",
    "--config.checkpoint.every_steps=1000000",
]


@pytest.mark.smoke
def test_stopped_by_a_signal_and_started_again(tmp_path):
    """Invalid UTF-8 and NUL bytes in the corpus are counted and do no harm; SIGTERM saves and exits with 75."""
    odd = {0: b"\x00", 10: b"\xff\xfe"}
    text = b"".join(
        b"Document %d says something. It goes on here. And%s ends so.\n\n" % (n, odd.get(n % 20, b""))
        for n in range(400)
    )
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"  # the last counts
    environment = os.environ | {"BERTJAX_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    workdir = tmp_path / "run"
    command = [
        sys.executable,
        "-u",
        "-m",
        "bertjax.train",
        TINY,
        corpus(tmp_path, text),
        f"--workdir={workdir}",
        *SMALL,
    ]
    command.append("--config.phases.phase1.steps=100000")

    def start_again(*more):
        settings = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "check": False}
        return subprocess.run([*command, *more], **settings)

    job = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in job.stdout:
        lines.append(line)
        if line.startswith("step"):
            # The second start of the same run is refused while the first is at work.
            second = start_again()
            assert second.returncode == 2
            assert "in use by process" in second.stderr
            job.send_signal(signal.SIGTERM)
            break
    rest = job.stdout.read()
    assert job.wait(timeout=120) == 75, "".join(lines) + rest
    assert "run the same command to go on" in rest
    assert "invalid bytes were replaced" in "".join(lines)
    saved = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    assert saved
    # Another config in the same workdir is refused by name, in a moment.
    other = start_again("--config.seed=9")
    assert other.returncode == 2
    assert "seed (there 0, here 9)" in other.stderr
    assert json.loads((workdir / "config.json").read_text())["config"]["seed"] == 0
