"""BERTs of transformers with random weights, and the same weights as bertjax's parameters."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.errors import ModelFileError
from bertjax.interop.huggingface import from_config, open_folder
from bertjax.interop.models import save_model
from bertjax.interop.safetensors_files import INDEX
from bertjax.interop.weights import from_tensors
from bertjax.model.create import create_model

SMALL = {
    "vocab_size": 131,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
    # Five times the usual spread: with .02 every output is near its mean and mistakes hide in the tolerance.
    "initializer_range": 0.1,
}

TINY = {
    "vocab_size": 9,
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 5,
}


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def transformers(torch):
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def new_peer(torch, transformers):
    """``new_peer(kind, attn_implementation=..., **fields of BertConfig)``: a model of transformers, in eval mode.

    Biases and norms are moved away from the zeros and ones they start as, so that a mix-up of two shows.
    """

    def make(kind="BertForPreTraining", arguments=None, attn_implementation="sdpa", **dimensions):
        torch.manual_seed(7)
        config = transformers.BertConfig(**(SMALL | dimensions))
        config._attn_implementation = attn_implementation
        model = getattr(transformers, kind)(config, **(arguments or {}))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model.eval()

    return make


@pytest.fixture(scope="session")
def translated():
    """``translated(peer)``: (ModelConfig, nested parameters) of a BertForPreTraining."""

    def translate(peer):
        config = from_config(peer.config.to_dict() | {"model_type": "bert"}, "peer")
        tensors = {name: tensor.detach().numpy() for name, tensor in peer.state_dict().items()}
        return config, from_tensors(tensors.__getitem__, set(tensors), config, (), "peer")

    return translate


@pytest.fixture
def random():
    return np.random.default_rng(3)


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory):
    """A whole model folder of a few kilobytes: name of the file -> bytes."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model(create_model(**TINY), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def tiny_sharded_files(tiny_files, tmp_path_factory):
    """The same model with its tensors in two files and an index."""
    place = tmp_path_factory.mktemp("tiny")
    (place / "all").write_bytes(tiny_files["model.safetensors"])
    tensors = sorted(load_file(place / "all").items())
    files, weight_map = {"config.json": tiny_files["config.json"]}, {}
    for name, part in {"model-1.safetensors": tensors[:9], "model-2.safetensors": tensors[9:]}.items():
        save_file(dict(part), place / name)
        files[name] = (place / name).read_bytes()
        weight_map |= dict.fromkeys(dict(part), name)
    files[INDEX] = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()
    return files


@pytest.fixture(scope="session")
def write_folder():
    """``write_folder(folder, files)`` makes it and returns it."""

    def write(folder, files):
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    return write


@pytest.fixture
def folder(write_folder, tiny_files, tmp_path):
    """A whole model folder, to be damaged."""
    return write_folder(tmp_path / "model", tiny_files)


@pytest.fixture
def sharded(write_folder, tiny_sharded_files, tmp_path):
    """The same with an index."""
    return write_folder(tmp_path / "model", tiny_sharded_files)


@pytest.fixture(scope="session")
def assert_one_line():
    """``assert_one_line(error)``: its message can stand on a terminal."""

    def check(error):
        assert str(error).isprintable(), repr(str(error))
        assert 0 < len(str(error)) < 600

    return check


@pytest.fixture(scope="session")
def refused(assert_one_line):
    """``refused(folder, *words)``: it is refused in a second of work, in a line that holds all the words."""

    def check(folder, *words):
        began = time.process_time()
        with pytest.raises(ModelFileError) as error:
            open_folder(folder).read()
        assert time.process_time() - began < 1
        assert_one_line(error.value)
        for word in words:
            assert word in str(error.value)

    return check
