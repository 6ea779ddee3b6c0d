"""What lies in a folder where a run is to live: the run's own, or somebody's, who is told before anything is done."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

import bertjax.train
from bertjax.cluster.secret import FILE as SECRET
from bertjax.errors import ConfigError
from bertjax.train.__main__ import main
from bertjax.workdir.belongings import check_workdir
from bertjax.workdir.config_json import write_beginning
from bertjax.workdir.lock import workdir_lock

OWN = "somebody's own"


def contents(folder):
    """Everything below a folder, empty folders too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def put(folder, name, content=OWN):
    """A file, or with a slash at the end of its name a folder."""
    path = folder / name
    (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
    if not name.endswith("/"):
        path.write_text(content)


FOREIGN = [
    "checkpoints/best_model/weights.bin",
    "checkpoints/checkpoint-500/pytorch_model.bin",
    "checkpoints/500/model.safetensors",
    "tokenizer/vocab.txt",
    "config.json",
    "metrics.jsonl",
    "report.html",
    "summary.json",
    "model/config.json",
    "tensorboard/events.out.tfevents.1.x",
    "runs/seed-1/notes.txt",
    "notes.txt",
    "damaged/",
    "a folder/",
    ".lock",
    ".hidden",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_is_no_run_is_refused_before_anything_is_done(name, config, tmp_path):
    put(tmp_path, name)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"not empty and holds no run of bertjax \(it holds .*--workdir=ANOTHER_DIR"):
        bertjax.train.run(config, tmp_path, say=lambda line: None)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("config_json", ["{}", "[]", "null", '{"identity": {}}', '{"model_type": "bert"}', "\0", "x"])
def test_a_config_of_another_program_makes_no_run(config_json, tmp_path):
    put(tmp_path, "config.json", config_json)
    with pytest.raises(ConfigError, match="holds no run of bertjax"):
        check_workdir(tmp_path)


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    put(tmp_path, "thesis.txt")
    assert main(["--config=configs/tiny.py", f"--workdir={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert "it holds thesis.txt" in err and err.count("\n") == 1
    assert list(contents(tmp_path)) == ["thesis.txt"]


def test_of_several_processes_each_is_refused_before_they_meet(config, tmp_path, monkeypatch):
    monkeypatch.setattr("bertjax.workdir.lock.distributed_run", lambda *rest: pytest.fail("they have met"))
    put(tmp_path, "thesis.txt")
    with pytest.raises(ConfigError, match=r"thesis\.txt"):
        bertjax.train.run(config, tmp_path, cluster=object())
    assert list(contents(tmp_path)) == ["thesis.txt"]


def test_fine_tuning_refuses_alike(tmp_path):
    from bertjax.finetune import run
    from bertjax.finetune.settings import default_config

    put(tmp_path, "thesis.txt")
    with pytest.raises(ConfigError, match=r"holds no run of bertjax \(it holds thesis\.txt"):
        run(default_config("classification"), "model", "train.tsv", "eval.tsv", tmp_path)
    assert list(contents(tmp_path)) == ["thesis.txt"]


# --- Folders that are as good as empty -------------------------------------------------------------------------------


def test_an_empty_folder_is_any_runs(tmp_path):
    check_workdir(tmp_path / "none")
    check_workdir(tmp_path)
    put(tmp_path, "lost+found/")  # the root of a disk
    put(tmp_path, SECRET)  # of several processes, killed while they met
    put(tmp_path, f"{SECRET}.abcd1234")
    check_workdir(tmp_path)
    with workdir_lock(tmp_path):
        check_workdir(tmp_path)  # another job has just begun: told by its lock
    check_workdir(tmp_path)
    put(tmp_path, "thesis.txt")
    with pytest.raises(ConfigError):
        check_workdir(tmp_path)


def half_begun(workdir):
    """What a run killed before its first checkpoint has left."""
    record = {"config": {}, "identity": {}, "identity_fingerprint": "x", "corpus": {}, "versions": {}}
    with workdir_lock(workdir):
        write_beginning(workdir, record, lambda folder: put(folder, "vocab.txt", "[PAD]"))
    (workdir / "metrics.jsonl").write_text('{"kind": "tr')


def test_a_run_that_was_killed_before_its_first_checkpoint_is_known(tmp_path):
    half_begun(tmp_path)
    check_workdir(tmp_path)
    put(tmp_path, "notes.txt")  # from now on it is the run's folder, in which others may keep things
    check_workdir(tmp_path)


def test_a_run_killed_at_any_moment_of_its_beginning_goes_on(config, tmp_path, monkeypatch):
    """Killed before each rename of its first files; the next start finds a folder of its own each time."""

    class Killed(BaseException):
        pass

    honest, moment = Path.replace, 0
    for moment in range(3):
        workdir, done = tmp_path / str(moment), []

        def replace(self, target, done=done, moment=moment):
            done.append(target)
            if len(done) > moment:
                raise Killed
            return honest(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        try:
            half_begun(workdir)
        except Killed:
            check_workdir(workdir)
        monkeypatch.setattr(Path, "replace", honest)
        half_begun(workdir)
        assert (workdir / "tokenizer/vocab.txt").read_text() == "[PAD]"
    assert moment == 2 and len(done) == 2  # the last one was not killed


# --- Somebody's files in a folder of a run ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model/pytorch_model.bin", OWN),
        ("model/notes.txt", OWN),
        ("model/config.json", "{}"),
        ("model", OWN),
        ("tokenizer", OWN),
        ("tensorboard", OWN),
        ("checkpoints", OWN),
        ("metrics.jsonl", OWN),
        ("metrics.jsonl/", None),
        ("summary.json", "{}"),
        ("summary.json", '{"name": 1}'),
        ("report.html", "<html>my report</html>"),
        (".lock", OWN),
    ],
)
def test_somebodys_file_under_a_name_of_the_runs_is_told_at_the_start(name, content, config, tmp_path):
    half_begun(tmp_path)
    there = tmp_path / name.split("/")[0]
    shutil.rmtree(there) if there.is_dir() else there.unlink(missing_ok=True)
    put(tmp_path, name, content)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=rf"holds {there.name}, which is not as bertjax wrote it.*move it away"):
        bertjax.train.run(config, tmp_path, say=lambda line: None)
    assert contents(tmp_path) == before


def test_links_to_somebodys_files_are_not_written_through(tmp_path):
    half_begun(tmp_path / "run")
    put(tmp_path, "rows", '{"kind": "train", "step": 1}\n')
    (tmp_path / "run/metrics.jsonl").unlink()
    (tmp_path / "run/metrics.jsonl").symlink_to(tmp_path / "rows")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl"):
        check_workdir(tmp_path / "run")


def test_a_finished_run_knows_all_of_its_files(finished):
    check_workdir(finished)


def test_the_model_of_a_finished_run_from_before_the_record_is_its_own(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    weights = workdir / "model" / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt"})
    check_workdir(workdir)
    (workdir / "summary.json").unlink()
    with pytest.raises(ConfigError, match="holds model, which is not as bertjax wrote it"):
        check_workdir(workdir)


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 5000, "[]", "\ufeff{}"])
def test_a_config_that_is_no_config_is_one_line(content, config, tmp_path):
    put(tmp_path, "config.json", content)
    put(tmp_path, "checkpoints/10/_CHECKPOINT_METADATA", "{}")
    with pytest.raises(ConfigError, match=r"config\.json of the run in .* cannot be read"):
        bertjax.train.run(config, tmp_path, say=lambda line: None)


@pytest.mark.parametrize("harm", [lambda text: "another", lambda text: text + "\n"])
def test_somebodys_tokenizer_in_a_run_stays(harm, tmp_path):
    half_begun(tmp_path)
    path, record = tmp_path / "tokenizer/vocab.txt", json.loads((tmp_path / "config.json").read_text())
    path.write_text(harm(path.read_text()))
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"tokenizer is not the tokenizer that bertjax wrote .*vocab\.txt differs"):
        write_beginning(tmp_path, record, lambda folder: put(folder, "vocab.txt", "[PAD]"))
    assert contents(tmp_path) == before


def test_the_tokenizer_of_a_run_that_never_came_to_a_checkpoint_is_replaced(tmp_path):
    half_begun(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    write_beginning(tmp_path, record, lambda folder: put(folder, "vocab.txt", "[UNK]"))
    assert (tmp_path / "tokenizer/vocab.txt").read_text() == "[UNK]"
    put(tmp_path, "tokenizer/notes.txt")
    write_beginning(tmp_path, record, lambda folder: put(folder, "vocab.txt", "[UNK]"))  # nothing to write
    assert (tmp_path / "tokenizer/notes.txt").read_text() == OWN


def test_only_what_bertjax_makes_is_cleared(finished, config, tmp_path):
    """Started again: what else lies in the folder of the run stays as it is."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    names = (
        ".model.backup/x",
        ".model.a1b2c3d4/x",
        "config.json.tmp",
        "metrics.jsonl.tmp",
        "tokenizer.tmp/x",
        "thesis",
    )
    names += ("damaged/9/x", "bad_batches/x", "tensorboard/x", "report.html.tmp", "model/README.md", "tokenizer/x")
    for name in names:
        put(workdir, name)
    left = workdir / ".model.bertjax-elsewhere-12-0a1b2c3d"  # of an export in another container
    put(left, "new/config.json")
    bertjax.train.run(config, workdir, say=lambda line: None)
    assert all((workdir / name).read_text() == OWN for name in names)
    assert not left.exists()
