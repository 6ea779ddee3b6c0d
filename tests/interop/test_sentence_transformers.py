"""Folders of sentence-transformers: which modules make the vectors, and what an export says of them."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from bertjax.errors import ModelFileError
from bertjax.evaluation import sts_suite
from bertjax.inference.embed import embed
from bertjax.interop.models import save_model
from bertjax.interop.task_models import is_task_model, load_task_model, new_task_model, save_task_model
from bertjax.model.create import create_model
from bertjax.model.task import TaskConfig, TaskModel
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer

TOKENIZER = WordPieceTokenizer([*WORDPIECE_SPECIALS, "wa", "wb", "wc"])
TASK = TaskConfig("embedding", max_length=20, pooling="cls")
MODULES = [("", "Transformer"), ("1_Pooling", "Pooling")]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> TaskModel:
    folder = tmp_path_factory.mktemp("encoder") / "model"
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    save_model(create_model(vocab_size=8, max_position_embeddings=32, **small), folder, TOKENIZER)
    return new_task_model(folder, TASK, 0)[0]


@pytest.fixture
def folder(model, tmp_path):
    """A folder as sentence-transformers writes one; ``bertjax`` is not in its config.json."""
    path = tmp_path / "model"
    save_task_model(model, path, TOKENIZER)
    edit(path / "config.json", bertjax=None)
    return path


def edit(path, **changes):
    values = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({name: value for name, value in (values | changes).items() if value is not None}))


def set_modules(folder, modules, package="sentence_transformers.models."):
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": package + kind} for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))


def refused(folder, *words):
    with pytest.raises(ModelFileError) as caught:
        load_task_model(folder)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize("kind", ["Dense", "LayerNorm", "WeightedLayerPooling", "LSTM", "Router", "Dropout"])
def test_a_module_that_is_not_computed_is_refused_by_name(kind, folder):
    set_modules(folder, [*MODULES, (f"2_{kind}", kind)])
    refused(folder, f"2_{kind}", f"sentence_transformers.models.{kind}")
    with pytest.raises(ModelFileError, match=f"2_{kind}"):
        sts_suite.load(folder)


@pytest.mark.parametrize(
    "package", ["sentence_transformers.models.", "sentence_transformers.base.modules.transformer."]
)
def test_the_modules_that_are_computed(package, folder):
    set_modules(folder, MODULES, package)
    assert load_task_model(folder)[0].task == TASK
    set_modules(folder, [*MODULES, ("2_Normalize", "Normalize")], package)
    assert load_task_model(folder)[0].task == replace(TASK, normalize=True)


def test_what_is_no_list_of_modules_in_their_order(folder):
    set_modules(folder, MODULES, package="own.")
    refused(folder, "own.Transformer")
    for modules in ([], MODULES[:1], MODULES[::-1], [*MODULES, MODULES[1]], [("0_BERT", "Transformer"), MODULES[1]]):
        set_modules(folder, modules)
        refused(folder, "modules.json has the modules")
    set_modules(folder, [MODULES[0], ("../1_Pooling", "Pooling")])
    refused(folder, "must be a list of modules")
    for text in ("{}", "[3]", "[{}]", '[{"path": 3, "type": "a"}]', "["):
        (folder / "modules.json").write_text(text)
        refused(folder, "modules.json")


def test_normalize_of_something_else(folder):
    set_modules(folder, [*MODULES, ("2_Normalize", "Normalize")])
    edit(folder / "2_Normalize/config.json", module_input_name="sentence_embedding", module_output_name="x")
    refused(folder, "2_Normalize", "normalises something else")
    edit(folder / "2_Normalize/config.json", module_output_name="sentence_embedding")
    assert load_task_model(folder)[0].task.normalize


POOLED = {
    "cls": {"pooling_mode": "cls", "embedding_dimension": 8, "include_prompt": True},
    "mean": {"pooling_mode": ["mean"]},
    "mean by default": {"embedding_dimension": 8},
    "cls of before": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    "mean of before": {
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_lasttoken": False,
    },
}
OTHERWISE = {
    **{mode: {"pooling_mode": mode} for mode in ("max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens", "odd")},
    "cls and mean": {"pooling_mode": ["cls", "mean"]},
    "lasttoken of before": {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False},
    "nothing": {"pooling_mode_mean_tokens": False},
}


@pytest.mark.parametrize("values", POOLED.values(), ids=POOLED)
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
def test_both_spellings_of_the_pooling(values, listed, folder, request):
    (folder / "1_Pooling/config.json").write_text(json.dumps(values))
    (folder / "modules.json").unlink() if not listed else None
    wanted = "mean" if "mean" in request.node.callspec.id else "cls"
    assert load_task_model(folder)[0].task.pooling == wanted


@pytest.mark.parametrize("values", OTHERWISE.values(), ids=OTHERWISE)
def test_other_poolings_are_refused_by_name(values, folder, request):
    (folder / "1_Pooling/config.json").write_text(json.dumps(values))
    refused(folder, "otherwise than by mean or cls: by " + request.node.callspec.id.removesuffix(" of before"))


def test_the_pooling_lies_where_its_module_says(folder):
    (folder / "1_Pooling").rename(folder / "pooled")
    set_modules(folder, [("", "Transformer"), ("pooled", "Pooling")])
    assert load_task_model(folder)[0].task.pooling == "cls"


def test_where_texts_are_truncated(folder):
    assert load_task_model(folder)[0].task.max_length == 20
    edit(folder / "sentence_bert_config.json", max_seq_length=12)
    assert load_task_model(folder)[0].task.max_length == 12
    edit(folder / "sentence_bert_config.json", max_seq_length=None)
    edit(folder / "tokenizer_config.json", model_max_length=16)
    assert load_task_model(folder)[0].task.max_length == 16
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    assert load_task_model(folder)[0].task.max_length == 32


def test_a_folder_that_was_trained_on_there(model, tmp_path):
    """It keeps the keys of config.json that it does not know: what its own files say counts."""
    save_task_model(model, tmp_path / "model", TOKENIZER)
    (tmp_path / "model/1_Pooling/config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    assert load_task_model(tmp_path / "model")[0].task.pooling == "mean"
    set_modules(tmp_path / "model", [*MODULES, ("2_Dense", "Dense")])
    refused(tmp_path / "model", "2_Dense")


@pytest.mark.parametrize("name", ["BertForMaskedLM", None])
def test_the_encoder_of_another_architecture(name, folder):
    edit(folder / "config.json", architectures=[name] if name else None)
    assert is_task_model(folder) and load_task_model(folder)[0].task == TASK
    set_modules(folder, [*MODULES, ("2_Dense", "Dense")])
    assert is_task_model(folder)
    refused(folder, "2_Dense")


@pytest.mark.parametrize("normalize", [False, True])
def test_what_is_exported_beside_a_model_that_embeds(normalize, model, tmp_path):
    path = tmp_path / "model"
    model = load(model, normalize)
    save_task_model(model, path, TOKENIZER)
    modules = json.loads((path / "modules.json").read_text())
    kinds = ["Transformer", "Pooling", "Normalize"][: 2 + normalize]
    assert [module["type"] for module in modules] == [f"sentence_transformers.models.{kind}" for kind in kinds]
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"][: 2 + normalize]
    assert [module["idx"] for module in modules] == list(range(len(kinds)))
    pooling = json.loads((path / "1_Pooling/config.json").read_text())
    assert pooling["word_embedding_dimension"] == 8
    assert [name for name, value in pooling.items() if value is True] == ["pooling_mode_cls_token"]
    assert json.loads((path / "sentence_bert_config.json").read_text())["max_seq_length"] == 20
    read, tokenizer = load_task_model(path)
    assert read.task == replace(TASK, normalize=normalize)
    lengths = np.linalg.norm(embed(read, tokenizer, ["wa wb", "wc"]), axis=1)
    assert np.allclose(lengths, 1, atol=1e-6) == normalize
    assert np.allclose(np.linalg.norm(embed(read, tokenizer, ["wa"], normalize=True)), 1, atol=1e-6)
    assert not np.allclose(np.linalg.norm(embed(read, tokenizer, ["wa"], normalize=False)), 1, atol=1e-2)


def load(model, normalize) -> TaskModel:
    from bertjax.model.bert import merge_params, split_params

    with warnings.catch_warnings(action="ignore"):
        graphdef, params = split_params(model)
        copy = merge_params(graphdef, params)
    copy.task = replace(model.task, normalize=normalize)
    return copy


def test_an_export_is_replaced_with_all_its_files(model, tmp_path):
    path = tmp_path / "model"
    save_task_model(model, path, TOKENIZER)
    save_task_model(model, path, TOKENIZER)
    save_model(model.bert, path, TOKENIZER)
    assert not [
        path / name for name in ("modules.json", "1_Pooling", "sentence_bert_config.json") if (path / name).exists()
    ]
    assert not load_task_model(path)[0].task.normalize


@pytest.mark.parametrize("name", ["modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "1_Pooling/x"])
def test_what_somebody_changed_is_not_replaced(name, model, tmp_path):
    path = tmp_path / "model"
    save_task_model(model, path, TOKENIZER)
    (path / name).write_text("{}")
    with pytest.raises(ModelFileError, match=f"holds {name.partition('/')[0]}, which bertjax did not export"):
        save_task_model(model, path, TOKENIZER)
    assert (path / name).read_text() == "{}"
    save_task_model(model, path, TOKENIZER, overwrite=True)
    assert load_task_model(path)[0].task == TASK
