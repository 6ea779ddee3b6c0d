"""A config.json whose parts are of the wrong type: one line, whoever reads it."""

import copy
import json
import shutil

import pytest

import bertjax.describe
import bertjax.train
from bertjax.errors import CheckpointError, ConfigError, DataError, ModelFileError
from bertjax.reporting import write_report
from bertjax.workdir.stored_run import open_run

ODD = (None, True, -1, 1.5, "x", "", [], ["x"], {}, {"x": None})


class Reached(Exception):
    """The config was taken for what it is."""


@pytest.fixture
def workdir(finished, tmp_path, monkeypatch):
    """A copy of the finished run without its arrays, on which nothing is computed."""

    def reached(*arguments, **settings):
        raise Reached

    monkeypatch.setattr("bertjax.train.pretraining.make_mesh", reached)
    no_arrays = shutil.ignore_patterns("d", "ocdbt.process_0")
    return shutil.copytree(finished, tmp_path / "run", ignore=no_arrays)


def places(value, path=()):
    """The path of every part of a JSON object, itself first; of many keys a few."""
    yield path
    if isinstance(value, dict):
        for key in list(value)[:4] if path else value:
            yield from places(value[key], (*path, key))


def odd_ones(recorded):
    """(what was done, text) of a config.json in which a part is of another type."""
    for number, path in enumerate(places(recorded)):
        # Of what a run starts with, every type; of the many others, one each.
        for odd in ODD if path[:1] == ("corpus",) or not path else ODD[number % len(ODD) :][:1]:
            changed = copy.deepcopy(recorded)
            node = changed
            for key in path[:-1]:
                node = node[key]
            if path:
                node[path[-1]] = odd
            yield f"{'.'.join(path)} = {odd!r}", json.dumps(changed if path else odd)


def test_every_part_of_another_type_is_one_line(workdir, config, capsys):
    text = (workdir / "config.json").read_text()
    wrong, tried = [], 0
    for done, changed in odd_ones(json.loads(text)):
        (workdir / "config.json").write_text(changed)
        tried += 1
        for what, read, fine in (
            (
                "train",
                lambda: bertjax.train.run(config, workdir, say=print),
                (ConfigError, DataError, CheckpointError, Reached),
            ),
            ("open", lambda: open_run(workdir), (ModelFileError,)),
            ("describe", lambda: bertjax.describe.main([str(workdir)]), ()),
            ("report", lambda: write_report(workdir), ()),
        ):
            try:
                read()
            except fine as error:
                if "\n" in str(error):
                    wrong.append(f"{what}: {done}: {error}")
            except Exception as error:
                wrong.append(f"{what}: {done}: {type(error).__name__}: {error}")
    capsys.readouterr()
    assert tried > 50 and wrong == [], "\n".join(wrong)


def test_an_unknown_optimizer_is_refused_before_the_corpus_is_opened(config, tmp_path, monkeypatch):
    monkeypatch.setattr("bertjax.train.pretraining.open_corpus_together", lambda *_: pytest.fail("opened"))
    config.optimizer.name = "sgd"
    with pytest.raises(ConfigError, match=r"optimizer\.name = 'sgd'; allowed: .*muon"):
        bertjax.train.run(config, tmp_path, say=lambda line: None)
