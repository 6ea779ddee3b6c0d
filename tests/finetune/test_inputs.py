"""What a run is given, where it does not fit its task."""

import runpy
from pathlib import Path

import pytest

import bertjax
import bertjax.finetune
from bertjax.errors import ConfigError, DataError, ModelFileError
from bertjax.finetune.classification import text_setup
from bertjax.finetune.model_and_examples import open_start, read_examples
from bertjax.finetune.settings import resolve
from bertjax.finetune.task_setup import Labelled
from bertjax.tasks.examples import TextExample, tagged_examples, text_examples


def test_libraries_are_classes():
    with pytest.raises(ConfigError, match="installed-docs is for classification"):
        read_examples("installed-docs", resolve({"task": "tagging"}), held_out=False)


def test_the_demo_bears_docstrings_of_any_length(model_folder, monkeypatch):
    """What is installed decides how long they are."""
    source = Path(__file__).parents[2] / "configs/finetune/demo.py"
    run = resolve(runpy.run_path(str(source))["get_config"]())
    examples = [TextExample(f"{name}.py", "good film " * 60, None, name) for name in ("flax", "jax")]
    monkeypatch.setattr("bertjax.finetune.model_and_examples.library_examples", lambda held_out: examples)
    found = [read_examples(part, run, held_out=False) for part in (run.data.train, run.data.eval)]
    setup = text_setup(run, Labelled(*found, bertjax.load_tokenizer(model_folder), positions=64))
    assert setup.train.lengths.tolist() == [64, 64]


def test_examples_are_those_of_the_task():
    texts = text_examples(["a film"], ["good"], kind="classification")
    tagged = tagged_examples([["a", "film"]], [["O", "O"]])
    run = resolve({"task": "classification"})
    assert read_examples(texts, run, held_out=False) == texts
    with pytest.raises(DataError, match="example 1 is a TaggedExample; classification takes TextExample"):
        read_examples([*texts, *tagged], run, held_out=False)
    with pytest.raises(DataError, match="example 0 is a TextExample; tagging takes TaggedExample"):
        read_examples(texts, resolve({"task": "tagging"}), held_out=False)


def test_a_home_that_nobody_has():
    with pytest.raises(ModelFileError, match="not a path"):
        read_examples("~nobody-of-this-name/x.tsv", resolve({}), held_out=False)


def test_another_config_of_the_same_weights_is_another_start(model_folder, tmp_path):
    config = (model_folder / "config.json").read_text()
    run = resolve({"model": {"max_length": 16}})
    for name in ("same", "other"):
        (tmp_path / name).mkdir()
        for file in model_folder.iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "other" / "config.json").write_text(
        config.replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-05')
    )
    here, same, other = (
        open_start(folder, run).fingerprint for folder in (model_folder, *sorted(tmp_path.iterdir())[::-1])
    )
    assert here == same != other


def test_two_texts_need_a_model_that_tells_them_apart(model_folder, small_config, tmp_path):
    tokenizer = bertjax.load_tokenizer(model_folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}
    model = bertjax.create_model(vocab_size=tokenizer.vocab_size, type_vocab_size=1, **sizes)
    bertjax.save_model(model, tmp_path / "model", tokenizer=tokenizer)
    pairs = [("a film", "a book"), ("a plot", "a song")], ["yes", "no"]
    with pytest.raises(ConfigError, match="has type_vocab_size 1; text pairs need 2"):
        bertjax.finetune.run(small_config("classification"), tmp_path / "model", pairs, pairs, tmp_path / "run")
