"""No folder that is given to a command makes it import a module, unpickle anything or run any code.

What the commands say of such folders is for other tests; here they may refuse them or use what is whole of them.
"""

import copy
import json
import os
import pickle
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import bertjax.describe
import bertjax.evaluate
import bertjax.export
import bertjax.finetune.__main__
import bertjax.predict
import bertjax.prepare
import bertjax.train.__main__
from bertjax.data.corpus.prepared import prepare
from bertjax.data.corpus.sources import TextList

# In the name of the folders too, so that code in one of their files betrays itself.
HOSTILE = "hostile_5f3a"
_EVENTS = {
    "import",
    "exec",
    "compile",
    "pickle.find_class",
    "ctypes.dlopen",
    "subprocess.Popen",
    "os.system",
    "os.exec",
}
# Keys by which libraries of this field name classes and modules.
_KEYS = (
    *("auto_map", "tokenizer_class", "processor_class", "architectures", "class_name", "cls", "module", "module_name"),
    *("moduleName", "pythonClassName", "python_class_name", "type", "typestr", "handler_typestr", "handler"),
    *("value_type", "__class__", "py/object", "_target_"),
)
_CLASS = f"{HOSTILE}.Evil"

seen: list[str] | None = None  # what the hook below has seen; None: nobody asks
_installed: list[bool] = []


def _hook(event, arguments):
    if seen is not None and event in _EVENTS:
        said = " ".join(getattr(a, "co_filename", None) or repr(a)[:2000] for a in arguments[:2])
        # Where modules are looked for does not matter, only which.
        said = repr(arguments[0]) if event == "import" else said
        if HOSTILE in said:
            seen.append(f"{event}: {said[:300]}")


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A list of what happens that must not: hostile code exists as a module that everybody could import."""
    if not _installed:  # a hook cannot be taken out again
        sys.addaudithook(_hook)
        _installed.append(True)
    (tmp_path / "modules").mkdir()
    (tmp_path / f"modules/{HOSTILE}.py").write_text("class Evil:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "seen", found := [])
    yield found
    sys.modules.pop(HOSTILE, None)


class Evil:
    def __reduce__(self):
        return (exec, (f"raise SystemExit('{HOSTILE}')",))


def plant(folder):
    """Puts beside the files of a folder what some program, somewhere, runs."""
    code = f"raise SystemExit('{HOSTILE}')\n"
    names = ["__init__.py", "conftest.py", "sitecustomize.py", "modeling_bert.py", "tokenization_bert.py", "config.py"]
    for inside in [folder, *(p for p in folder.rglob("*") if p.is_dir() and "state" not in p.parts)]:
        for name in names:
            (inside / name).write_text(code)
        for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
            (inside / name).write_bytes(pickle.dumps(Evil()))


def pickled_arrays(folder):
    """Makes every array a pickled one."""
    for path in folder.rglob("*.npy"):
        np.save(path, np.array([Evil()], object), allow_pickle=True)


def named(folder):
    """Adds every key that may name a class to every object of every JSON file."""
    _rewrite(folder, lambda value: _with_keys(value, 0))


def strings(folder):
    """Makes every string of every JSON file the name of a class."""
    _rewrite(folder, lambda value: _leaves(value, lambda leaf: _CLASS if isinstance(leaf, str) else leaf))


def one_string(seed):
    """Makes some strings of every JSON file the name of a class."""
    draw = random.Random(seed)

    def some(folder):
        choose = lambda leaf: _CLASS if isinstance(leaf, str) and draw.random() < 0.2 else leaf
        _rewrite(folder, lambda value: _leaves(value, choose))

    return some


def features(folder):
    """Names a class as a feature of every TFDS data set."""
    for path in list(folder.rglob("features.json")):
        described = json.loads(path.read_text())
        for feature in described["featuresDict"]["features"].values():
            feature["pythonClassName"] = _CLASS
        path.write_text(json.dumps(described))


def described_features(folder):
    """The same in the description of the data set itself."""
    for path in list(folder.rglob("dataset_info.json")):
        described = json.loads(path.read_text())
        text = {"pythonClassName": _CLASS, "text": {}}
        path.write_text(json.dumps(described | {"features": text, "moduleName": HOSTILE}))


def _rewrite(folder, change):
    for path in sorted(folder.rglob("*")):
        if path.suffix != ".json" and path.name not in ("_METADATA", "_CHECKPOINT_METADATA"):
            continue
        if "metrics" not in path.name:
            path.write_text(json.dumps(change(json.loads(path.read_text()))))


def _leaves(value, change):
    if isinstance(value, dict):
        return {key: _leaves(part, change) for key, part in value.items()}
    return [_leaves(part, change) for part in value] if isinstance(value, list) else change(value)


def _with_keys(value, depth):
    if isinstance(value, dict) and depth < 4:
        return {k: _with_keys(v, depth + 1) for k, v in value.items()} | {
            key: _CLASS for key in _KEYS if key not in value
        }
    return copy.copy(value)


CHANGES = {
    "planted": plant,
    "arrays": pickled_arrays,
    "named": named,
    "strings": strings,
    "some": one_string(1),
    "others": one_string(2),
    "features": features,
    "description": described_features,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    texts = [f"Document {i} is here. It says {i * 7} things." for i in range(40)]
    folder = prepare([TextList(texts)], tmp_path_factory.mktemp("prepared") / "c", vocab_size=300).path
    data_set(folder, texts)
    return folder


def data_set(folder, texts):
    """Writes ``folder/texts/1.0.0``."""
    import tensorflow_datasets as tfds

    class Texts(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate({"text": text} for text in texts)

    Texts(data_dir=folder, file_format="array_record").download_and_prepare()


CONFIG = """
import json
from pathlib import Path
from bertjax.config import default_config

def without_none(value):
    return {k: without_none(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value

def get_config():
    config = default_config()
    config.update(without_none(json.loads(Path("config.json").read_text())))
    config.init_from = Path("init_from").read_text() if Path("init_from").exists() else None
    return config
"""
# What would be trained on as if nothing was: that takes long and says nothing more.
_HARMLESS = ("planted", "named", "arrays", "features", "description")
_ON_MODEL = ["--config=finetune.py", "--train=rows.jsonl", "--eval=rows.jsonl", "--workdir=new"]
_ON_TEXT = ["--config=config.py", "--workdir=new", "--config.data.corpus=text.txt"]
# (module, arguments with places for the folders it is given, changes that are left out) of each command.
COMMANDS = {
    "describe a run": (bertjax.describe, ["{run}"], ()),
    "describe a model": (bertjax.describe, ["{run}/model"], ()),
    "describe a checkpoint": (bertjax.describe, ["{run}/checkpoints/10"], ()),
    "export": (bertjax.export, ["--workdir={run}", "--output=out"], ()),
    "predict": (bertjax.predict, ["fill-mask", "--model={run}/model", "A [MASK]."], ()),
    "predict by a run": (bertjax.predict, ["embed", "--model={run}", "A text."], ()),
    "evaluate": (bertjax.evaluate, ["--model={run}/model", "--suite=mlm", "--data={corpus}", "--limit=1"], ()),
    "prepare from a data set": (bertjax.prepare, ["--input=tfds:{corpus}/texts", "--output=out"], ()),
    "prepare from a corpus": (bertjax.prepare, ["--input={corpus}", "--output=out"], ()),
    "prepare into a corpus": (bertjax.prepare, ["--input=text.txt", "--output={corpus}"], ()),
    "prepare with a tokenizer": (
        bertjax.prepare,
        ["--input=text.txt", "--output=out", "--tokenizer={run}/tokenizer"],
        (),
    ),
    "resume": (bertjax.train.__main__, ["--config=config.py", "--workdir={run}"], _HARMLESS),
    "train on a corpus": (
        bertjax.train.__main__,
        ["--config=config.py", "--workdir=new", "--config.data.corpus={corpus}"],
        ("planted",),
    ),
    "train from a run": (bertjax.train.__main__, _ON_TEXT, _HARMLESS),
    "finetune": (bertjax.finetune.__main__, [*_ON_MODEL, "--model={run}/model"], _HARMLESS),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_folder_runs_code(command, finished, corpus, config, tmp_path, monkeypatch, watched, capsys):
    values = json.dumps(config.to_dict())
    text = (
        f"import json; from ml_collections import ConfigDict\nget_config = lambda: ConfigDict(json.loads({values!r}))"
    )
    (tmp_path / "config.py").write_text(text)
    shutil.copy(Path(__file__).parents[2] / "configs/finetune/classification.py", tmp_path / "finetune.py")
    (tmp_path / "text.txt").write_text("\n\n".join(f"Document {i} is here. It has text." for i in range(30)))
    rows = [{"text": f"A text {i}", "label": "ab"[i % 2]} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    program, arguments, left_out = COMMANDS[command]
    for name, change in CHANGES.items():
        if name in left_out:
            continue
        folder = tmp_path / f"{HOSTILE}_{name}"
        shutil.copytree(finished, folder / "run")
        shutil.copytree(corpus, folder / "corpus")
        change(folder)
        if command == "train from a run":
            (tmp_path / "init_from").write_text(str(folder / "run"))
        try:
            program.main([argument.format(run=folder / "run", corpus=folder / "corpus") for argument in arguments])
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}")
        except SystemExit as error:  # what the planted code raises
            watched.append(f"ended by {error}")
        assert not watched, (name, capsys.readouterr())
        for made in ("out", "new"):
            shutil.rmtree(tmp_path / made, ignore_errors=True)


def test_the_watch_sees_what_it_is_for(corpus, tmp_path, watched):
    import tensorflow_datasets as tfds

    shutil.copytree(corpus, tmp_path / "c")
    features(tmp_path)
    with pytest.raises(Exception, match="Unrecognized FeatureConnector"):
        tfds.builder_from_directory(tmp_path / "c/texts/1.0.0")
    assert watched and HOSTILE in watched[0] and HOSTILE in sys.modules
    watched.clear()
    (tmp_path / HOSTILE).mkdir()
    plant(tmp_path / HOSTILE)
    with pytest.raises(SystemExit):
        pickle.loads((tmp_path / HOSTILE / "pytorch_model.bin").read_bytes())
    assert watched
    watched.clear()
    with pytest.raises(SystemExit):
        exec(
            compile(
                (tmp_path / HOSTILE / "conftest.py").read_text(), os.fspath(tmp_path / HOSTILE / "conftest.py"), "exec"
            )
        )
    assert watched
