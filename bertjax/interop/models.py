"""Models from and to folders."""

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.errors import ConfigError, ModelFileError
from bertjax.interop.huggingface import ModelFolder, check_entries, export_model, folder_path, open_folder
from bertjax.interop.weights import OPTIONAL_PARTS, entries
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.model.heads import HEADS, part_title
from bertjax.text.tokenizer import Tokenizer, check_is_tokenizer, has_tokenizer, load_tokenizer

# A small made-up batch shows whether two models compute the same.
_SAMPLE_ROWS, _SAMPLE_LENGTH = 2, 24
# Vocabularies are padded to a multiple of one of these, for fast products; any other surplus is a mistake.
_MULTIPLES = (1, 64, 128, 256, 512, 1024)


def load_model(path: str | Path, *, for_pretraining: bool = True, seed: int = 0) -> Bert:
    """The model of a Hugging Face BERT folder or of a finished run's workdir, in float32.

    The folder holds config.json and model.safetensors (or several with an index) in float32, float16 or bfloat16.
    Missing heads get new weights from ``seed``, with a warning; ``for_pretraining=False`` omits the pretraining heads.
    Embedding rows that only pad the vocabulary, beyond the entries of the folder's tokenizer, are dropped, so that they
    are never predicted. Raises ModelFileError (a ValueError) for anything else that is missing, unexpected or of the
    wrong shape, and for pickled weights. Nothing is ever downloaded.
    """
    folder = open_folder(model_folder(path))
    with contextlib.suppress(ModelFileError):  # a model may be used without its tokenizer
        folder = fitted(folder, tokenizer_of(folder.path))
    omitted = () if for_pretraining else tuple(HEADS)
    params = folder.read(skip=omitted)
    missing = [part for part in folder.missing_heads if part not in omitted]
    if missing:
        names = ", ".join(map(part_title, missing))
        message = f"{folder.path} has no {names}: new weights, which must be trained before they mean anything"
        warnings.warn(message, stacklevel=2)
        params |= new_parts(folder.config, tuple(missing), seed)
    return _model(folder.config, params)


def save_model(model: Bert, path: str | Path, tokenizer: Tokenizer | None = None, *, overwrite: bool = False) -> None:
    """Writes a folder that ``transformers.AutoModel``, ``AutoModelForPreTraining`` and, with a tokenizer,
    ``AutoTokenizer`` load as it is.

    The folder appears once it has been read back and computes the same as ``model``. It replaces an unchanged export of
    bertjax (without ``tokenizer``, the tokenizer's files stay). Any other folder is refused; with ``overwrite`` its
    model files are replaced and all others stay. The tokenizer must have ``model.config.vocab_size`` entries. Raises
    ModelFileError.
    """
    if tokenizer is not None:
        check_is_tokenizer(tokenizer)
    check_entries(tokenizer, model.config)
    export_params(path, model.config, split_params(model)[1], tokenizer, overwrite=overwrite)


def export_params(
    path: str | Path,
    config: ModelConfig,
    params: dict[str, Any],
    tokenizer: Tokenizer | None,
    *,
    without: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """``save_model`` for the nested parameters of a run. without: heads that are not written.

    A vocabulary learned on little text may have fewer entries than the model has rows; the other rows are stripped,
    like the padding of the vocabulary.
    """
    if tokenizer is not None:
        config = replace(config, vocab_size=min(config.vocab_size, tokenizer.vocab_size))
    params = jax.tree.map(np.asarray, params)
    named = {path.split("/")[0] for path in entries(config)}
    written = {part: values for part, values in params.items() if part in named - set(without)}

    def verify(folder: Path) -> None:
        opened = open_folder(folder)
        if set(opened.missing_heads) != set(OPTIONAL_PARTS) - set(written):
            raise ModelFileError(f"{folder} does not hold the heads that were written")
        read = params | opened.read()
        check_computes_same(folder, _model(opened.config, read), _model(config, params))

    export_model(path, config, written, tokenizer, verify, overwrite=overwrite)


def why_not_exportable(config: ModelConfig) -> str:
    """What keeps a model of this config from being written as a folder, in one line; "" if nothing does."""
    try:
        entries(config)
    except ModelFileError as error:
        return str(error)
    return ""


def model_folder(path: str | Path) -> Path:
    """``path`` itself, or the folder ``model`` in the workdir of a run or a search."""
    path, _ = folder_path(path)
    has_model = (path / "model" / "config.json").is_file()
    if has_model and (path / "runs").is_dir() and not (path / "model.safetensors").is_file():
        return path / "model"
    if (path / "checkpoints").is_dir():
        if not has_model and (path / "summary.json").is_file():
            raise ModelFileError(f"the run in {path} made no model folder: its encoder has no Hugging Face layout")
        if not has_model:
            raise ModelFileError(
                f"the run in {path} has not finished; python -m bertjax.export --workdir={path} --output=DIR makes a "
                f"model folder of its newest checkpoint"
            )
        return path / "model"
    return path


def tokenizer_of(folder: Path) -> Tokenizer | None:
    """The tokenizer of a model folder, or None. Raises ModelFileError for a damaged one."""
    if not has_tokenizer(folder):
        return None
    try:
        return load_tokenizer(folder)
    except ConfigError as error:
        raise ModelFileError(str(error)) from None


def load_pair(path: str | Path, *, for_pretraining: bool, required: tuple[str, ...] = ()) -> tuple[Bert, Tokenizer]:
    """Model and tokenizer of a folder, checked to belong together, with the ``required`` heads ("mlm_head", ...).
    Raises ModelFileError."""
    folder, tokenizer = open_pair(path)
    for part in folder.missing_heads:
        if part in required:
            raise ModelFileError(f"{folder.path} has no weights of a {part_title(part)}, which this needs")
    return load_model(folder.path, for_pretraining=for_pretraining), tokenizer


def open_pair(path: str | Path) -> tuple[ModelFolder, Tokenizer]:
    """An opened model folder or finished run, without padding of its vocabulary, and its tokenizer. Raises
    ModelFileError for a missing tokenizer or that of another model."""
    folder = open_folder(model_folder(path))
    tokenizer = tokenizer_of(folder.path)
    if tokenizer is None:
        raise ModelFileError(f"{folder.path} holds no tokenizer: neither spiece.model, tokenizer.json nor vocab.txt")
    return fitted(folder, tokenizer), tokenizer


def fitted(folder: ModelFolder, tokenizer: Tokenizer | None) -> ModelFolder:
    """The folder with as many embedding rows as its tokenizer, which may be None, has entries. Raises ModelFileError if
    there are fewer, or more than padding explains: the tokenizer is another model's."""
    rows, entries = folder.config.vocab_size, folder.config.vocab_size if tokenizer is None else tokenizer.vocab_size
    if all(rows != -(-entries // multiple) * multiple for multiple in _MULTIPLES):
        more = " more than rounding up to a multiple of 64 or 128 explains" if rows > entries else " too few"
        raise ModelFileError(
            f"{folder.path}: the tokenizer has {entries} entries, the model's embeddings have {rows}:{more}; "
            f"put the tokenizer there that the model was trained with"
        )
    return replace(folder, config=replace(folder.config, vocab_size=entries))


def with_params(make: Callable[[], Any], params: dict[str, Any]) -> Any:
    """The model that ``make`` makes, with these parameters."""
    return merge_params(nnx.graphdef(nnx.eval_shape(make)), jax.tree.map(jax.numpy.asarray, params))


def _model(config: ModelConfig, params: dict[str, Any]) -> Bert:
    return with_params(lambda: Bert(config, nnx.Rngs(0), heads=[name for name in HEADS if name in params]), params)


def new_parts(config: ModelConfig, parts: tuple[str, ...], seed: int) -> dict[str, Any]:
    """New weights for parts of the model ("mlm_head", ...), as nested dicts."""
    # Under jit nothing else is computed.
    make = lambda: {part: split_params(Bert(config, nnx.Rngs(seed), heads=tuple(HEADS)))[1][part] for part in parts}
    return jax.jit(make)()


def check_computes_same(folder: Path, written: Any, given: Any) -> None:
    """Raises ModelFileError where the outputs of the model read from ``folder`` are not those of the given one."""
    length = min(_SAMPLE_LENGTH, given.config.max_position_embeddings)
    ids = np.arange(_SAMPLE_ROWS * length).reshape(_SAMPLE_ROWS, length) * 7919 % written.config.vocab_size
    outputs, expected = (jax.tree_util.tree_leaves_with_path(model(ids)) for model in (written, given))
    for (path, value), (_, wanted) in zip(outputs, expected, strict=True):
        # Not to the bit: the stripped rows of the vocabulary were part of the products.
        if not np.allclose(value, wanted[..., : value.shape[-1]], rtol=1e-5, atol=1e-5):
            name = jax.tree_util.keystr(path[-1:], simple=True)
            raise ModelFileError(f"{folder}: the written model's {name} differ from the model's own")
