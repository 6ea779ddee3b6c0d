"""Weights of a workdir are read verified, and only with the config and the tokenizer that they were made with."""

import itertools
import json
import shutil
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import bertjax
import bertjax.train
from bertjax import describe, export
from bertjax.config import resolve
from bertjax.config_schema import fingerprint
from bertjax.engine.checkpoint import step_folders, stored_arrays
from bertjax.engine.checkpoint.record import FILE, ITEM, read_record, sealed
from bertjax.engine.checkpoint.stored_arrays import StoredArray, list_arrays
from bertjax.errors import ModelFileError
from bertjax.evaluate import main as evaluate
from bertjax.finetune.model_and_examples import open_start
from bertjax.finetune.settings import resolve as resolve_finetuning
from bertjax.text.tokenizer import WordPieceTokenizer, load_tokenizer
from bertjax.train.first_weights import _told_weights, open_origin
from bertjax.workdir import description, stored_run
from bertjax.workdir.stored_run import open_run

FINETUNING = resolve_finetuning({"task": "classification", "model": {"max_length": 32}})


@pytest.fixture
def workdir(finished, tmp_path):
    """The finished run without its model, as it lies while it goes on."""
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("model", "summary.json", "report.html"))
    return tmp_path / "run"


def flip_parameter(step, name="embeddings/word_embeddings"):
    """Flips the lowest bit of a number of a parameter, wherever in the files that lies. Small arrays lie compressed."""
    values = list_arrays(step)[f"params/{name}"].read()
    wanted, flipped = values.tobytes()[:8], 0
    for path in (step / "state").rglob("d/*"):
        content = bytearray(path.read_bytes())
        if (place := content.find(wanted)) >= 0:
            content[place] ^= 1
            path.write_bytes(content)
            flipped += 1
    assert flipped == 1


def edit_config(workdir, change):
    path = workdir / "config.json"
    recorded = json.loads(path.read_text())
    change(recorded)
    path.write_text(json.dumps(recorded))


def refused_everywhere(workdir, config, tmp_path, capsys, match):
    """By export, describe, init_from and as the start of a fine-tuning, in one line each."""
    assert export.main([f"--workdir={workdir}", f"--output={tmp_path / 'out'}"]) == 3
    assert describe.main([str(workdir)]) == 3
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 2 and all(line.startswith("error: ") and match in line for line in lines), lines
    config.init_from = str(workdir)
    with pytest.raises(ModelFileError) as found:
        open_origin(resolve(config))
    assert match in str(found.value)
    with pytest.raises(ModelFileError) as found:
        open_start(workdir, FINETUNING)
    assert match in str(found.value)
    assert not (tmp_path / "out").exists()


def test_a_flipped_bit_is_never_read(workdir, config, tmp_path, capsys):
    flip_parameter(workdir / "checkpoints/10")
    line = "params/embeddings/word_embeddings is not what was saved"
    assert export.main([f"--workdir={workdir}", f"--output={tmp_path / 'out'}"]) == 3
    err = capsys.readouterr().err
    assert line in err and "checkpoints/10" in err and err.count("\n") == 1 and not (tmp_path / "out").exists()
    config.init_from = str(workdir)
    with pytest.raises(ModelFileError, match=line):
        open_origin(resolve(config)).params()
    with pytest.raises(ModelFileError, match=line):
        open_start(workdir, FINETUNING)
    assert export.main([f"--workdir={workdir}", "--step=9", f"--output={tmp_path / 'out'}"]) == 0


def test_another_config_than_the_checkpoints_is_refused(workdir, config, tmp_path, capsys):
    def heads(recorded):
        recorded["config"]["model"]["num_attention_heads"] = 4

    edit_config(workdir, heads)
    refused_everywhere(workdir, config, tmp_path, capsys, "it says model.num_attention_heads = 4 and not 2")

    def also_the_identity(recorded):
        recorded["identity"]["model.num_attention_heads"] = 4
        recorded["identity_fingerprint"] = fingerprint(recorded["identity"])

    edit_config(workdir, also_the_identity)
    refused_everywhere(workdir, config, tmp_path, capsys, "is not the config that the checkpoint of step 10")
    config.init_from = None
    config.model.num_attention_heads = 4
    with pytest.raises(bertjax.config.ConfigError, match="the checkpoint of step 10 is of another run: identity"):
        bertjax.train.run(config, workdir, say=lambda line: None)


@pytest.mark.parametrize(
    "change",
    [
        lambda recorded: recorded["config"]["model"].pop("hidden_act"),
        lambda recorded: recorded["config"].update(name="other", parallel={"fsdp": 2}),
    ],
)
def test_what_changes_nothing_may_be_edited(change, workdir, tmp_path):
    edit_config(workdir, change)
    assert export.main([f"--workdir={workdir}", f"--output={tmp_path / 'out'}"]) == 0


def test_every_key_that_changes_what_is_computed_is_compared(workdir):
    original = (workdir / "config.json").read_text()
    for section, key, value in (
        ("model", "hidden_act", "relu"),
        ("model", "layer_norm_eps", 1e-3),
        ("model", "vocab_size", 599),
        ("model", "position_embedding_type", "sinusoidal"),
        ("data", "lowercase", False),
        (None, "precision", "bfloat16"),
    ):
        change = lambda recorded, section=section, key=key, value=value: (
            recorded["config"][section] if section else recorded["config"]
        ).update({key: value})
        edit_config(workdir, change)
        with pytest.raises(ModelFileError, match=rf"it says ({section}\.)?{key} = "):
            open_run(workdir).check()
        (workdir / "config.json").write_text(original)
    for recorded in ("[]", "{}", '{"config": 3}', '{"config": {"model": []}}', "\xff"):
        (workdir / "config.json").write_text(recorded, encoding="latin-1")
        with pytest.raises(ModelFileError, match=r"config\.json"):
            open_run(workdir).check()


def test_another_tokenizer_than_the_checkpoints_is_refused(workdir, config, tmp_path, capsys):
    own = load_tokenizer(workdir / "tokenizer")
    pieces = [own.token(i) for i in range(own.vocab_size)]
    pieces[50], pieces[51] = pieces[51], pieces[50]
    for other in (WordPieceTokenizer(pieces), WordPieceTokenizer([own.token(i) for i in range(own.vocab_size)], False)):
        shutil.rmtree(workdir / "tokenizer")
        other.save(workdir / "tokenizer")
        refused_everywhere(workdir, config, tmp_path, capsys, "is not the tokenizer that the checkpoint of step 10")


def test_a_record_without_what_was_there_is_refused(workdir):
    step = workdir / "checkpoints/10"
    record = read_record(step)
    del record["identity"], record["tokenizer"]
    (step / ITEM / FILE).write_text(json.dumps(sealed(record)))
    with pytest.raises(ModelFileError, match="is not the config that the checkpoint of step 10"):
        open_run(workdir).weights()


def test_of_a_run_that_deletes_steps_the_newest_that_stays_is_taken(workdir, tmp_path, monkeypatch, capsys):
    """Deleted or moved away, whole or in part, while it is read; only where no step was asked for."""
    expected = open_run(workdir).weights(9)[1]
    listed = stored_arrays.list_arrays

    def vanishing(step_folder):
        if step_folder.name == "10":
            step_folder.rename(step_folder.with_name("10.deleted"))
        return listed(step_folder)

    monkeypatch.setattr(stored_run, "list_arrays", vanishing)
    monkeypatch.setattr(description, "list_arrays", vanishing)
    with pytest.raises(ModelFileError, match="10 cannot be read"):
        open_run(workdir).weights(10)
    (workdir / "checkpoints/10.deleted").rename(workdir / "checkpoints/10")
    step, params = open_run(workdir).weights()
    assert step == 9
    np.testing.assert_array_equal(params["mlm_head"]["bias"], expected["mlm_head"]["bias"])
    (workdir / "checkpoints/10.deleted").rename(workdir / "checkpoints/10")
    assert export.main([f"--workdir={workdir}", f"--output={tmp_path / 'out'}"]) == 0
    assert "step 9 of" in capsys.readouterr().out
    (workdir / "checkpoints/10.deleted").rename(workdir / "checkpoints/10")
    assert description.describe(workdir)["contents"]["step"] == 9


def test_of_a_run_that_saves_and_deletes_all_the_time_something_whole_is_read(workdir):
    """As often as it goes in three seconds, by what export reads and by describe."""
    folder, ended = workdir / "checkpoints", threading.Event()
    for step in (6, 9):
        shutil.rmtree(folder / str(step))
    record = read_record(folder / "10")

    def saving():
        for step in itertools.count(11):
            new = folder / f"{step}.orbax-checkpoint-tmp"
            shutil.copytree(folder / str(step - 1), new)
            (new / ITEM / FILE).write_text(json.dumps(sealed(record | {"step": step})))
            new.rename(folder / str(step))
            (folder / str(step - 1)).rename(folder / f"{step - 1}.deleted") if step % 3 else None
            for old in [path for path in folder.iterdir() if path.name.endswith(".deleted") or step % 3 == 0]:
                if old.name != str(step):
                    shutil.rmtree(old)
            if ended.wait(0.2):  # a run does not save as fast as a step can be read
                return

    thread = threading.Thread(target=saving)
    thread.start()
    try:
        run, end, found = open_run(workdir), time.monotonic() + 3, []
        while time.monotonic() < end:
            found.append(run.weights()[0])
            found.append(description.describe(workdir)["contents"]["step"])
    finally:
        ended.set()
        thread.join()
    assert found == sorted(found) and len(set(found)) > 3


def test_a_step_whose_files_go_one_by_one_is_left_for_the_newest_that_stays(tmp_path):
    for step in (3, 6):
        (tmp_path / f"{step}/state/d").mkdir(parents=True)
        for name in "ab":
            (tmp_path / f"{step}/state/d/{name}").write_text("x")
    asked = []

    def use(step):
        asked.append(step)
        if step == 6:
            going = sorted((tmp_path / "6/state/d").iterdir())
            going[0].unlink() if going else shutil.rmtree(tmp_path / "6")
            raise ModelFileError("a file is missing")
        return step

    assert step_folders.newest_that_stays(tmp_path, use, (ModelFileError,)) == 3 and asked == [6, 6, 6, 3]
    with pytest.raises(FileNotFoundError):  # of a step that stays as it is
        step_folders.newest_that_stays(tmp_path, lambda step: (tmp_path / "none").stat(), (FileNotFoundError,))


def test_a_listing_that_misses_every_step_is_taken_again(tmp_path, monkeypatch):
    """It may show the newest under its temporary name and the one before it already under the name it goes by."""
    listings = iter([[], [109], [], [], [110]])
    monkeypatch.setattr(step_folders, "step_numbers", lambda folder: next(listings))
    (tmp_path / "110").mkdir()

    def use(step):
        if step == 109:
            raise ModelFileError("a file is missing")
        return step

    assert step_folders.newest_that_stays(tmp_path, use, (ModelFileError,)) == 110
    monkeypatch.setattr(step_folders, "step_numbers", lambda folder: [])
    with pytest.raises(ModelFileError, match="holds no checkpoint any more"):
        step_folders.newest_that_stays(tmp_path, use, (ModelFileError,))


def test_other_processes_read_the_checkpoint_that_the_first_one_has_read(workdir):
    asked = []
    tell = lambda name, value: asked.append((name, value)) or 9
    here = _told_weights(open_run(workdir), SimpleNamespace(first=False, share=tell))
    assert asked == [("checkpoint of config.init_from", None)]
    np.testing.assert_array_equal(here["mlm_head"]["bias"], open_run(workdir).weights(9)[1]["mlm_head"]["bias"])


def test_a_step_that_is_saved_again_meanwhile_is_read_again(workdir, monkeypatch):
    """After a rollback another checkpoint has the same number."""
    read, done = StoredArray.read, []

    def changing(self):
        if not done:
            done.append(shutil.copytree(workdir / "checkpoints/10", workdir / "new"))
            shutil.rmtree(workdir / "checkpoints/10")
            (workdir / "new").rename(workdir / "checkpoints/10")
            raise step_folders_error()
        return read(self)

    step_folders_error = lambda: stored_arrays.Damaged("it is gone")
    monkeypatch.setattr(StoredArray, "read", changing)
    assert open_run(workdir).weights()[0] == 10 and done
    assert step_folders.step_numbers(workdir / "checkpoints") == [6, 9, 10]


def test_a_damaged_model_of_a_workdir_is_told(finished, tmp_path, capsys):
    """By whatever loads it: evaluate, predict and the functions for Python."""
    shutil.copytree(finished / "model", tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelFileError, match="is not what bertjax exported"):
        bertjax.load_model(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text("The list is returned in the order of the items. And so is the rest of it.\n" * 20)
    assert evaluate([f"--model={tmp_path / 'model'}", "--suite=mlm", f"--data={text}"]) == 3
    err = capsys.readouterr().err
    assert "is not what bertjax exported" in err and err.count("\n") == 1
