"""What lies where a model is to go: bertjax's own export is replaced, everything else is its owner's."""

import json
import os
import resource
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from bertjax import unfinished
from bertjax.config import ModelConfig
from bertjax.errors import ModelFileError
from bertjax.interop.huggingface import export_model, open_folder
from bertjax.model.bert import Bert, split_params
from bertjax.text.vocabulary import train_tokenizer

OWN = "somebody's own"


@pytest.fixture(scope="module")
def model():
    """(config, params, tokenizer) of a small model."""
    tokenizer = train_tokenizer("wordpiece", ["a small vocabulary of few words"] * 9, 60, lowercase=True)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    return config, jax.tree.map(np.asarray, split_params(Bert(config, nnx.Rngs(0)))[1]), tokenizer


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "name", ["config.json", "vocab.txt", "tokenizer.json", "model.safetensors", "model-00001-of-00002.safetensors"]
)
def test_somebodys_own_file_asks_for_overwrite(name, model, tmp_path):
    (tmp_path / name).write_text(OWN)
    (tmp_path / "README.md").write_text(OWN)
    before = contents(tmp_path)
    with pytest.raises(ModelFileError, match=rf"holds {name}, which bertjax did not export .*--overwrite"):
        export_model(tmp_path, *model)
    assert contents(tmp_path) == before
    export_model(tmp_path, *model, overwrite=True)
    assert (tmp_path / "README.md").read_text() == OWN
    assert OWN.encode() not in [content for name, content in contents(tmp_path).items() if name != "README.md"]
    assert open_folder(tmp_path).config == model[0]


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "tokenizer_config.json"])
def test_an_export_that_somebody_changed_is_theirs(name, model, tmp_path):
    folder = tmp_path / "model"
    export_model(folder, *model)
    export_model(folder, *model)  # bertjax's own is replaced
    (folder / name).write_text((folder / name).read_text() + "\n")
    changed = contents(folder)
    with pytest.raises(ModelFileError, match=f"holds {name}, which"):
        export_model(folder, *model)
    assert contents(folder) == changed


@pytest.mark.parametrize("own", [("config.json", "checkpoints/"), ("_CHECKPOINT_METADATA",)])
def test_a_folder_of_a_run_is_never_overwritten(own, model, tmp_path):
    for name in own:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text(
            '{"identity_fingerprint": ""}'
        )
    before = contents(tmp_path)
    with pytest.raises(ModelFileError, match="is the folder of a run, or of a checkpoint"):
        export_model(tmp_path, *model, overwrite=True)
    assert contents(tmp_path) == before


def without_record(folder):
    """Rewrites the weights as versions before the record did."""
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_export_from_before_the_record_is_replaced_by_its_equal(model, tmp_path):
    export_model(tmp_path, *model)
    once = contents(tmp_path)
    without_record(tmp_path)
    export_model(tmp_path, *model)
    assert contents(tmp_path) == once


def test_an_export_from_before_the_record_that_is_another_stays(model, tmp_path):
    config, params, tokenizer = model
    export_model(tmp_path, config, jax.tree.map(lambda x: x + 1, params), tokenizer)
    without_record(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ModelFileError, match=r"holds model\.safetensors, which bertjax did not export"):
        export_model(tmp_path, *model)
    assert contents(tmp_path) == before


def test_equal_models_have_equal_bytes(model, tmp_path):
    """Also in their record, of which the library would draw the order by chance."""
    for number in range(6):
        export_model(tmp_path / str(number), *model)
    assert len({(tmp_path / str(number) / "model.safetensors").read_bytes() for number in range(6)}) == 1


def test_without_a_tokenizer_its_files_stay_whosever_they_are(model, tmp_path):
    config, params, tokenizer = model
    export_model(tmp_path / "m", config, params, tokenizer)
    export_model(tmp_path / "m", config, params, None)
    export_model(tmp_path / "m", config, params, tokenizer)  # they are still known as bertjax's
    (tmp_path / "m/vocab.txt").write_text(OWN)
    export_model(tmp_path / "m", config, params, None)
    assert (tmp_path / "m/vocab.txt").read_text() == OWN
    with pytest.raises(ModelFileError, match=r"vocab\.txt"):
        export_model(tmp_path / "m", config, params, tokenizer)


def test_overwrite_replaces_the_files_of_the_model_and_no_others(model, tmp_path):
    folder = tmp_path / "m"
    (folder / "thesis/chapters").mkdir(parents=True)
    for name in ("notes.txt", "adapter.safetensors", "thesis/chapters/1.txt", "config.json"):
        (folder / name).write_text(OWN)
    (folder / "thesis/link").symlink_to("nowhere")
    with pytest.raises(
        ModelFileError, match=r"holds adapter\.safetensors, which is not a file of a model.*--overwrite"
    ):
        export_model(folder, *model)
    export_model(folder, *model, overwrite=True)
    for name in ("notes.txt", "adapter.safetensors", "thesis/chapters/1.txt"):
        assert (folder / name).read_text() == OWN
    assert (folder / "thesis/link").is_symlink()
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 8
    assert [child.name for child in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_links_are_not_followed(name, model, tmp_path):
    """As in a snapshot of the Hub's cache, whose files are links to blobs."""
    folder, blob = tmp_path / "m", tmp_path / "blob"
    export_model(folder, *model)
    (folder / name).rename(blob)
    (folder / name).symlink_to(blob)
    before = blob.read_bytes()
    with pytest.raises(ModelFileError, match=r"which bertjax did not export"):
        export_model(folder, *model)
    export_model(folder, model[0], jax.tree.map(np.zeros_like, model[1]), model[2], overwrite=True)
    assert blob.read_bytes() == before and not (folder / name).is_symlink()


def test_a_folder_in_the_place_of_a_file_is_one_line(model, tmp_path):
    (tmp_path / "m/config.json").mkdir(parents=True)
    for overwrite in (False, True):
        with pytest.raises(ModelFileError, match=r"config\.json is a folder"):
            export_model(tmp_path / "m", *model, overwrite=overwrite)


KILLED = """
import os, signal, sys
from pathlib import Path
from bertjax import unfinished
folder = Path(sys.argv[1])
aside = unfinished.new_name(folder)
(aside / "new").mkdir(parents=True)
if sys.argv[2] == "between":
    folder.replace(aside / unfinished.REPLACED)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["before", "between"])
def test_what_a_killed_export_left_is_cleared_and_nothing_else(moment, model, tmp_path):
    folder = tmp_path / "m"
    export_model(folder, *model)
    (folder / "README.md").write_text(OWN)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    left = [child.name for child in tmp_path.iterdir() if unfinished.is_unfinished(child.name)]
    assert len(left) == 1 and folder.exists() == (moment == "before")
    for name in (".m.backup", ".m.bertjax-notes", ".other.bertjax-x-1-00000000", ".m.a1b2c3d4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text(OWN)
    export_model(folder, *model)
    assert (folder / "README.md").read_text() == OWN  # what was moved away for a moment came back first
    names = sorted(child.name for child in tmp_path.iterdir())
    assert names == [".m.a1b2c3d4", ".m.backup", ".m.bertjax-notes", ".other.bertjax-x-1-00000000", "m"]


@pytest.mark.parametrize(("most", "file"), [(0, "config.json"), (2000, "model.safetensors")])
def test_a_disk_that_takes_no_more_is_one_line(most, file, model, tmp_path):
    """``file`` is the first that does not fit into so many bytes."""
    config, params, _ = model
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(ModelFileError, match=r"model cannot be written: .*[Ff]ile too large"):
            export_model(tmp_path / "model", config, params, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    export_model(tmp_path / "model", config, params, None)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "model").iterdir()}
    assert next(name for name in ("config.json", "model.safetensors") if sizes[name] > most) == file


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002])
def test_modes_follow_the_umask(mask, model, tmp_path):
    before = os.umask(mask)
    try:
        export_model(tmp_path / "m", *model)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "m").iterdir()} == {0o666 & ~mask}
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o777 & ~mask
