"""What the command ``describe`` says of models, checkpoints and runs, and of what is none of these."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from bertjax.config import default_config, identity_fingerprint, phase, resolve
from bertjax.config_schema import fingerprint
from bertjax.describe import main
from bertjax.engine.checkpoint.checkpoints import Checkpoints
from bertjax.engine.guard import initial_health
from bertjax.engine.state import TrainState, initial_loss_scale
from bertjax.interop.models import save_model
from bertjax.interop.task_models import new_task_model, save_task_model
from bertjax.model.bert import Bert, split_params
from bertjax.model.create import create_model
from bertjax.model.task import TaskConfig
from bertjax.parallel.mesh import make_mesh
from bertjax.text.vocabulary import train_tokenizer
from bertjax.workdir.config_json import config_record, write_json

ROOT = Path(__file__).parent.parent
DIMENSIONS = {
    "vocab_size": 150,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
# Of a layer: four projections, the MLP, two norms. Of the whole: also the heads, and nothing twice.
LAYER = 4 * (8 * 8 + 8) + (8 * 12 + 12) + (12 * 8 + 8) + 2 * 16
EMBEDDINGS = (150 + 16 + 2) * 8 + 16
HEADS = (8 * 8 + 8) + (8 * 8 + 8 + 16 + 150) + (8 * 2 + 2)
TOTAL = EMBEDDINGS + 2 * LAYER + HEADS


@pytest.fixture
def model(tmp_path):
    save_model(create_model(**DIMENSIONS), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a run of six steps, as training leaves it, but for its model."""
    workdir = tmp_path_factory.mktemp("runs") / "mine"
    workdir.mkdir()
    config = default_config()
    config.name = "mine"
    config.model.update(DIMENSIONS)
    config.phases.short = phase(sequence_length=8, batch_size=4, steps=4, learning_rate=1e-3, warmup_steps=1)
    config.phases.short.max_predictions = 2
    config.phases.long = phase(sequence_length=16, batch_size=2, steps=2, max_predictions=3)
    run = resolve(config)
    checkpoints = Checkpoints(workdir, run.checkpoint, make_mesh(1, 1, 1, jax.devices()[:1]), print)
    params = split_params(Bert(run.model, nnx.Rngs(0)))[1]
    moments = {"mu": params, "nu": params, "count": jax.numpy.zeros([], jax.numpy.int32)}
    for step in (4, 6):
        state = TrainState(jax.numpy.asarray(step), params, [moments], initial_loss_scale("float32"), initial_health())
        checkpoints.save(step, state, {"phase": 0, "identity": identity_fingerprint(run)})
    checkpoints.wait()
    checkpoints.close()
    write_json(workdir / "config.json", config_record(run, {}, {}, {}))
    write_json(workdir / "summary.json", {"held_out": {"mlm_loss": 5.25, "mlm_accuracy": 0.125}})
    return workdir


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The workdir of a fine-tuning run, as training leaves it, but for its model."""
    from bertjax.finetune.settings import default_config as finetune_config
    from bertjax.finetune.settings import identity_items, of_trial, to_dict, trials
    from bertjax.finetune.settings import resolve as resolve_finetune

    workdir = tmp_path_factory.mktemp("tuned") / "mood"
    workdir.mkdir()
    config = finetune_config("classification")
    config.name = "mood"
    run = resolve_finetune(config)
    trial = trials(run)[0]
    run = of_trial(run, trial)
    identity = identity_items(run, {"model": "a", "tokenizer": "b", "train": "c", "eval": "d"})
    checkpoints = Checkpoints(workdir, run.checkpoint, make_mesh(1, 1, 1, jax.devices()[:1]), print)
    params = {"classifier": {"kernel": jax.numpy.zeros([8, 2]), "bias": jax.numpy.zeros([2])}}
    for step in (3, 5):
        state = TrainState(jax.numpy.asarray(step), params, [params], initial_loss_scale("float32"), initial_health())
        checkpoints.save(step, state, {"identity": fingerprint(identity)})
    checkpoints.wait()
    checkpoints.close()
    write_json(workdir / "config.json", {"config": to_dict(run), "identity": identity, "versions": {}})
    scores = {"scores": {"accuracy": 0.75, "mcc": 0.5}, "best_step": 3, "learning_rate": 5e-5, "epochs": 3, "seed": 0}
    write_json(workdir / "summary.json", scores)
    return workdir


def test_a_workdir_of_fine_tuning(tuned, capsys):
    found = described(capsys, tuned)
    assert (found["kind"], found["name"], found["task"]) == ("workdir", "mood", "classification")
    assert (found["checkpoints"], found["newest_step"], found["best_step"]) == ([5], 5, 3)
    assert found["scores"] == {"accuracy": 0.75, "mcc": 0.5} and found["trials"] == []
    assert (found["contents"]["kind"], found["contents"]["parameters"]) == ("checkpoint", 18)
    lines = text_of(capsys, tuned).splitlines()
    assert lines[0].endswith(": fine-tuning mood for classification")
    assert "  checkpoints: newest 5 of 5" in lines and "  best at step 3: accuracy 0.75, mcc 0.5" in lines
    assert "  epochs 3, learning rate 5e-05, seed 0" in lines
    assert described(capsys, tuned / "checkpoints" / "5")["config"]["max_length"] == 128


def test_a_search_and_what_it_has_done_so_far(tuned, tmp_path, capsys):
    for name in ("lr-1", "lr-2\x1b[2J"):
        shutil.copytree(tuned, tmp_path / "runs" / name)
    (tmp_path / "runs" / "lr-1" / "summary.json").unlink()
    found = described(capsys, tmp_path)
    assert (found["kind"], found["task"], found["contents"]) == ("workdir", "classification", None)
    assert [trial["newest_step"] for trial in found["trials"]] == [5, 5]
    assert [trial["scores"].get("mcc") for trial in found["trials"]] == [None, 0.5]
    text = text_of(capsys, tmp_path)
    assert "  2 trials:\n    lr-1: step 5\n    lr-2\\x1b[2J: step 5, accuracy 0.75, mcc 0.5\n" in text


@pytest.mark.parametrize("odd", [3, [], "x", {"training": 3, "model": []}, {"name": {"a": []}}, {"loss": 10**400}])
@pytest.mark.parametrize("where", ["config", "summary"])
def test_a_workdir_of_fine_tuning_with_odd_records(odd, where, tuned, tmp_path, capsys):
    """An answer, or one line: never a traceback."""
    workdir = shutil.copytree(tuned, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    if where == "config":
        config["config"] = odd if not isinstance(odd, dict) else config["config"] | odd
        write_json(workdir / "config.json", config)
    else:
        write_json(workdir / "summary.json", dict.fromkeys(("scores", "best_step", "epochs", "seed"), odd))
    code = main([str(workdir)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "") or (code == 3 and out == "" and err.count("\n") == 1)


def test_another_config_beside_a_checkpoint_of_fine_tuning(tuned, tmp_path, capsys):
    workdir = shutil.copytree(tuned, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["config"]["training"]["batch_size"] = 9
    write_json(workdir / "config.json", config)
    assert "it says training.batch_size = 9 and not 32" in refused(capsys, workdir)
    config["identity"]["training.batch_size"] = 9
    write_json(workdir / "config.json", config)
    assert "is not the config that the checkpoint of step 5" in refused(capsys, workdir)


def described(capsys, path):
    assert main([str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def text_of(capsys, path):
    assert main([str(path)]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments, code=3):
    assert main(list(map(str, arguments))) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    return err


def test_a_model_folder(model, capsys):
    found = described(capsys, model)
    assert found["kind"] == "model"
    assert found["loadable"]
    assert found["missing_heads"] == []
    assert found["config"]["hidden_size"] == 8
    assert found["parameters"] == TOTAL
    stored = load_file(model / "model.safetensors")
    assert {row["name"]: tuple(row["shape"]) for row in found["tensors"]} == {n: t.shape for n, t in stored.items()}
    assert {row["dtype"] for row in found["tensors"]} == {"F32"}
    lines = text_of(capsys, model).splitlines()
    assert "  hidden_size = 8" in lines
    assert lines[-1].split() == ["total", f"{TOTAL:,}"]
    assert any(
        line.split() == ["bert.embeddings.word_embeddings.weight", "F32", "[150,", "8]", "1,200"] for line in lines
    )


def test_what_is_stored_twice_is_counted_once(model, capsys):
    tensors = load_file(model / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    tensors["bert.embeddings.position_ids"] = np.arange(16)[None]
    save_file(tensors, model / "model.safetensors")
    assert described(capsys, model)["parameters"] == TOTAL


def test_missing_heads_are_named(model, capsys):
    tensors = load_file(model / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if not n.startswith("cls.")}, model / "model.safetensors")
    found = described(capsys, model)
    assert found["missing_heads"] == ["masked-LM head", "next-sentence head"]
    assert "without masked-LM head, next-sentence head" in text_of(capsys, model)


def test_a_model_for_a_task_with_its_labels(tmp_path, capsys):
    tokenizer = train_tokenizer("wordpiece", ["the cat sat on the mat"] * 5, 60, lowercase=True)
    encoder = create_model(**DIMENSIONS | {"vocab_size": tokenizer.vocab_size})
    save_model(encoder, tmp_path / "encoder", tokenizer=tokenizer)
    model, _ = new_task_model(tmp_path / "encoder", TaskConfig("tagging", ("O", "B-PER\n"), 16), 0)
    save_task_model(model, tmp_path / "tagger", tokenizer)
    found = described(capsys, tmp_path / "tagger")
    assert found["loadable"] and found["missing_heads"] == []
    assert (found["task"]["kind"], found["task"]["labels"]) == ("tagging", ["O", "B-PER\n"])
    assert "  for tagging O, B-PER\\n" in text_of(capsys, tmp_path / "tagger").splitlines()
    config = json.loads((tmp_path / "tagger/config.json").read_text()) | {"id2label": {"0": "O"}}
    (tmp_path / "tagger/config.json").write_text(json.dumps(config))
    found = described(capsys, tmp_path / "tagger")
    assert not found["loadable"] and "id2label has 1 labels, the classifier 2 outputs" in found["why_not"]


def test_a_model_that_bertjax_cannot_load_is_described_with_the_reason(tmp_path, capsys):
    """Any names of files, any dtypes, any config."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "other", "depths": [2, 2], "labels": {"0": "a"}}))
    save_file({"blocks.0.w": np.zeros((3, 5), np.float64)}, tmp_path / "part-a.safetensors")
    save_file({"blocks.1.w": np.zeros((2,), np.uint8)}, tmp_path / "part-b.safetensors")
    found = described(capsys, tmp_path)
    assert not found["loadable"]
    assert "model.safetensors" in found["why_not"]
    assert found["config"]["depths"] == [2, 2]
    assert [(row["name"], row["dtype"], row["file"]) for row in found["tensors"]] == [
        ("blocks.0.w", "F64", "part-a.safetensors"),
        ("blocks.1.w", "U8", "part-b.safetensors"),
    ]
    assert found["parameters"] == 17
    text = text_of(capsys, tmp_path)
    assert "bertjax cannot load it: " in text
    assert "  depths = [2, 2]" in text


def test_a_checkpoint(finished, capsys):
    found = described(capsys, finished / "checkpoints" / "6")
    assert found["kind"] == "checkpoint"
    assert found["step"] == 6
    assert found["config"]["hidden_size"] == 8
    # The vocabulary is padded from 150 to 256: in the embeddings and in the bias of the masked-LM head.
    padded = TOTAL + (256 - 150) * 9
    assert found["parameters"] == padded
    assert found["optimizer"]["numbers"] == 2 * padded + 1
    shapes = {row["name"]: row["shape"] for row in found["tensors"]}
    assert shapes["params/embeddings/word_embeddings"] == [256, 8]
    assert shapes["params/encoder/layers/mlp/output/kernel"] == [2, 12, 8]
    text = text_of(capsys, finished / "checkpoints" / "6")
    assert "checkpoint after 6 steps" in text
    assert f"optimizer state: {2 * padded + 1:,} numbers" in text


def test_a_workdir(finished, capsys):
    found = described(capsys, finished)
    assert (found["kind"], found["name"], found["newest_step"]) == ("workdir", "mine", 6)
    assert found["checkpoints"] == [4, 6]
    assert found["total_steps"] == 6
    assert [(p["name"], p["steps"], p["sequence_length"]) for p in found["phases"]] == [
        ("short", 4, 8),
        ("long", 2, 16),
    ]
    assert found["held_out"] == {"mlm_loss": 5.25, "mlm_accuracy": 0.125}
    assert (found["contents"]["kind"], found["contents"]["step"]) == ("checkpoint", 6)
    text = text_of(capsys, finished)
    assert "run mine" in text
    assert "short: 4 steps of 4 rows of 8 tokens" in text
    assert "newest 6 of 4, 6" in text
    assert "mlm_loss 5.25" in text


def test_scores_that_no_float_holds(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    write_json(workdir / "summary.json", {"held_out": {"loss": 10**400, "accuracy": 0.5, "kind": "x"}})
    assert "  held out: accuracy 0.5\n" in text_of(capsys, workdir)


def test_a_workdir_with_a_model(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    save_model(create_model(**DIMENSIONS), workdir / "model")
    contents = described(capsys, workdir)["contents"]
    assert (contents["kind"], contents["parameters"]) == ("model", TOTAL)


def test_a_workdir_before_its_first_checkpoint(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    assert described(capsys, tmp_path)["newest_step"] is None
    assert "none yet" in text_of(capsys, tmp_path)


def test_nothing_of_the_weights_is_read(model, capsys):
    """Numbers that would stop a model from loading do not stop it from being described."""
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\xff\xff\xff\xff")
    assert described(capsys, model)["parameters"] == TOTAL


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--jsn", "a"]])
def test_mistakes_in_the_command_line(arguments, capsys):
    assert "describe --help" in refused(capsys, *arguments, code=2)


def test_what_cannot_be_described(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "No such file" in refused(capsys, "nowhere")
    (tmp_path / "file").write_text("x")
    assert "Not a directory" in refused(capsys, "file")
    assert "neither a model" in refused(capsys, tmp_path)
    assert "~nobody-of-this-name" in refused(capsys, "~nobody-of-this-name/model")
    assert "5000 bytes" in refused(capsys, "x" * 5000)
    refused(capsys, "a\0b")
    refused(capsys, "a\nb\x1b[2J")


@pytest.mark.parametrize("damage", ["nothing in it", "no manifest", "arrays cut short", "bits flipped"])
def test_damaged_checkpoints(damage, finished, tmp_path, capsys):
    checkpoint = shutil.copytree(finished / "checkpoints" / "6", tmp_path / "6")
    data = [path for path in (checkpoint / "state").rglob("d/*") if path.is_file()]
    if damage == "nothing in it":
        shutil.rmtree(checkpoint / "state")
        (checkpoint / "state").mkdir()
    elif damage == "no manifest":
        (checkpoint / "state" / "manifest.ocdbt").unlink()
    for path in data if damage in ("arrays cut short", "bits flipped") else []:
        content = path.read_bytes()
        path.write_bytes(content[:50] if damage == "arrays cut short" else bytes(byte ^ 4 for byte in content))
    assert "not a complete checkpoint" in refused(capsys, checkpoint)


@pytest.mark.parametrize(
    "recorded",
    ["", "[]", "{}", '{"config": 5}', '{"config": {"phases": {}}}', '{"config": {"model": {"hidden_size": "8"}}}'],
)
def test_a_workdir_with_a_damaged_config(recorded, tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text(recorded)
    assert "config.json" in refused(capsys, tmp_path)


def test_hostile_names_do_not_reach_the_terminal(model, capsys):
    config = json.loads((model / "config.json").read_text())
    config |= {"\x1b[2J": "\x1b]0;owned\x07", "lone \ud800": "\ud800", "long": "x" * 100_000}
    (model / "config.json").write_text(json.dumps(config))
    text = text_of(capsys, model)
    assert all(line.isprintable() for line in text.splitlines())
    assert max(map(len, text.splitlines())) < 300


def test_numbers_that_json_does_not_have(model, capsys):
    config = json.loads((model / "config.json").read_text()) | {"odd": [float("nan"), {"x": float("-inf")}]}
    (model / "config.json").write_text(json.dumps(config))
    assert main([str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["config"]["odd"] == ["NaN", {"x": "-Infinity"}]


def test_damaged_models_end_in_one_line(model, capsys):
    """Forty damaged folders through the whole command: an answer, or exit code 3 and one line."""
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    codes = []
    for seed in range(40):
        draw = random.Random(seed)
        name = draw.choice(sorted(files))
        content = bytearray(files[name])
        # Near the beginning of the tensors' file lies its header.
        for _ in range(draw.choice([1, 3])):
            content[draw.randrange(min(len(content), 2000))] ^= 1 << draw.randrange(8)
        (model / name).write_bytes(content if draw.random() < 0.7 else content[: draw.randrange(len(content))])
        codes.append(main([str(model)]))
        out, err = capsys.readouterr()
        assert codes[-1] in (0, 3), (seed, err)
        if codes[-1] == 3:
            assert (out, err.count("\n"), err[:7]) == ("", 1, "error: ")
        (model / name).write_bytes(files[name])
    assert 5 < codes.count(3) < 40


def test_help_is_quick():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "bertjax.describe", "--help"], cwd=ROOT, capture_output=True, check=True
    )
    assert b"WORKDIR/checkpoints/N" in done.stdout
    assert time.monotonic() - began < 2


def test_a_table_on_a_terminal(model):
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "bertjax.describe", str(model)]
    with subprocess.Popen(command, cwd=ROOT, stdout=follower, env=environment) as job:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 1 << 16)
            except OSError:  # how the end of a terminal is told
                break
            if not part:
                break
            shown += part
    os.close(leader)
    assert job.returncode == 0
    assert "│ bert.embeddings.LayerNorm.bias".encode() in shown
