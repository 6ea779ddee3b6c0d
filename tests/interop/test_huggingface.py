"""The exported folder: names, bytes, and what ``transformers`` computes with it."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from bertjax.config import ModelConfig
from bertjax.errors import ModelFileError
from bertjax.interop.huggingface import export_model, open_folder
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.text.vocabulary import train_tokenizer

SENTENCES = ["The quick brown fox jumps over the lazy dog.", "A naïve café is open, isn't it?"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", SENTENCES, 130, lowercase=True)


def new_model(tokenizer, **changes):
    """A model whose biases and norms are not what they start as, so that a mix-up of two shows."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=100,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    config = dataclasses.replace(config, **changes)
    graphdef, params = split_params(Bert(config, nnx.Rngs(5)))
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda x: np.asarray(x) + 0.05 * random.normal(size=x.shape).astype(np.float32), params)
    return config, params, merge_params(graphdef, params)


def test_names_shapes_and_equal_bytes(tokenizer, tmp_path):
    config, params, _ = new_model(tokenizer)
    export_model(tmp_path / "one", config, params, tokenizer)
    export_model(tmp_path / "two", config, params, tokenizer)
    export_model(tmp_path / "two", config, params, tokenizer)  # replaces
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o755 & ~_umask()
    tensors = load_file(tmp_path / "one" / "model.safetensors")
    assert tensors["bert.embeddings.word_embeddings.weight"].shape == (tokenizer.vocab_size, 48)
    assert tensors["cls.predictions.bias"].shape == (tokenizer.vocab_size,)
    assert tensors["bert.encoder.layer.2.output.dense.weight"].shape == (48, 100)
    assert len(tensors) == 3 + 2 + 3 * 16 + 2 + 5 + 2
    written = json.loads((tmp_path / "one" / "config.json").read_text())
    assert written["architectures"] == ["BertForPreTraining"]
    assert written["hidden_act"] == "gelu"


@pytest.mark.parametrize("changes", [{}, {"hidden_act": "gelu_new"}, {"position_embedding_type": "sinusoidal"}])
def test_transformers_computes_the_same(changes, tokenizer, tmp_path):
    """float32 on both sides, three layers: what differs is the order of sums."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config, params, model = new_model(tokenizer, **changes)
    export_model(tmp_path / "model", config, params, tokenizer)
    peer = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "model").eval()

    random = np.random.default_rng(0)
    ids, types = random.integers(5, config.vocab_size, (3, 37)), random.integers(0, 2, (3, 37))
    mask = np.ones((3, 37), int)
    mask[1, 20:] = 0
    ours = model(ids, token_type_ids=types, attention_mask=mask)
    with torch.no_grad():
        arguments = {"token_type_ids": torch.tensor(types), "attention_mask": torch.tensor(mask)}
        theirs = peer(torch.tensor(ids), **arguments, output_hidden_states=True)
    np.testing.assert_allclose(
        np.asarray(ours.sequence_output)[mask > 0], theirs.hidden_states[-1].numpy()[mask > 0], atol=2e-5
    )
    np.testing.assert_allclose(
        np.asarray(ours.mlm_logits)[mask > 0], theirs.prediction_logits.numpy()[mask > 0], atol=2e-5
    )
    np.testing.assert_allclose(ours.nsp_logits, theirs.seq_relationship_logits.numpy(), atol=2e-5)


def test_transformers_tokenizes_the_same(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    config, params, _ = new_model(tokenizer)
    export_model(tmp_path / "model", config, params, tokenizer)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in [*SENTENCES[:2], "Unseen: Łódź, 3.14 … emoji 🙂, 中文!", ""]:
        assert peer(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert peer("fox", "dog")["input_ids"] == [
        tokenizer.cls_id,
        *tokenizer.encode("fox"),
        tokenizer.sep_id,
        *tokenizer.encode("dog"),
        tokenizer.sep_id,
    ]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_nothing_beside_the_folder_is_touched(tokenizer, tmp_path):
    config, params, _ = new_model(tokenizer)
    for name in ("model.tmp", "model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    for _ in range(2):
        export_model(tmp_path / "deep/er/model", config, params, tokenizer)
        export_model(str(tmp_path / "model") + "/", config, params, tokenizer)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "model", "model.old", "model.tmp"]
    assert (tmp_path / "model.old/thesis.txt").exists() and (tmp_path / "model.tmp/thesis.txt").exists()
    assert [p.name for p in (tmp_path / "deep/er").iterdir()] == ["model"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_swap_that_fails_half_way_leaves_the_old_folder(error, tokenizer, tmp_path, monkeypatch):
    config, params, _ = new_model(tokenizer)
    export_model(tmp_path / "model", config, params, tokenizer)
    before = (tmp_path / "model/model.safetensors").read_bytes()
    honest = Path.replace

    def replace(self, target):
        if self.name == "new":
            raise error
        return honest(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises((ModelFileError, KeyboardInterrupt)):
        export_model(tmp_path / "model", config, jax.tree.map(np.zeros_like, params), tokenizer)
    assert (tmp_path / "model/model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_else_a_model_folder_holds_stays(tokenizer, tmp_path):
    config, params, _ = new_model(tokenizer)
    tokenizer.save(tmp_path / "model")
    (tmp_path / "model/README.md").write_text("my notes")
    vocabulary = (tmp_path / "model/vocab.txt").read_bytes()
    export_model(tmp_path / "model", config, params, None)
    export_model(tmp_path / "model", config, params, None)
    assert (tmp_path / "model/README.md").read_text() == "my notes"
    assert (tmp_path / "model/vocab.txt").read_bytes() == vocabulary
    (tmp_path / "model/vocab.txt").write_text("another")
    export_model(tmp_path / "model", config, params, tokenizer, overwrite=True)
    assert (tmp_path / "model/vocab.txt").read_bytes() == vocabulary
    assert json.loads((tmp_path / "model/tokenizer_config.json").read_text())["model_max_length"] == 64


def test_a_tokenizer_of_another_size_is_refused(tokenizer, tmp_path):
    config, params, _ = new_model(tokenizer, vocab_size=tokenizer.vocab_size + 3)
    with pytest.raises(ModelFileError, match=f"{tokenizer.vocab_size} entries, the model {tokenizer.vocab_size + 3}"):
        export_model(tmp_path / "model", config, params, tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_folder_as_it_was(tokenizer, tmp_path):
    config, params, _ = new_model(tokenizer)
    export_model(tmp_path / "model", config, params, tokenizer)
    before = (tmp_path / "model/model.safetensors").read_bytes()

    def refuse(folder):
        raise ModelFileError("no")

    with pytest.raises(ModelFileError, match="no"):
        export_model(tmp_path / "model", config, jax.tree.map(np.zeros_like, params), tokenizer, refuse)
    assert (tmp_path / "model/model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "path", [".", "/", "~nobody-of-this-name/x", "x" * 5000, "file", "link", "file/model", "nul\0"]
)
def test_odd_paths_are_one_line(path, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    config, params, _ = new_model(tokenizer)
    with pytest.raises(ModelFileError) as caught:
        export_model(path, config, params, tokenizer)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 6000
    with pytest.raises(ModelFileError):
        open_folder(path)
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "link").is_symlink()
