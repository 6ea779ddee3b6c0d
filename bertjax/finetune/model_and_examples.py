"""What a run starts from: the encoder of a folder or of a run, its tokenizer, and the labelled examples."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.paths import given_path
from bertjax.config import ModelConfig, resolve_model
from bertjax.config_schema import fingerprint, identity_values
from bertjax.data.corpus import docstrings
from bertjax.engine.checkpoint.step_folders import step_number
from bertjax.errors import ConfigError, DataError, ModelFileError
from bertjax.finetune.settings import FinetuneConfig
from bertjax.interop.huggingface import folder_path
from bertjax.interop.models import open_pair
from bertjax.interop.task_models import new_task_model, with_new_head
from bertjax.model.embeddings import padded_rows
from bertjax.model.task import TaskConfig, TaskModel
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.examples import QuestionExample, TaggedExample, TextExample, tagged_examples, text_examples
from bertjax.tasks.squad import question_examples, read_questions
from bertjax.tasks.tables import Columns, read_texts
from bertjax.text.tokenizer import Tokenizer
from bertjax.workdir.stored_run import is_run, open_run

# A file, or examples in memory: inputs, or (inputs, labels).
Source = str | Path | Sequence[Any]
# Called with each warning about the data, a line each.
Warn = Callable[[str], None]
_EXAMPLES: dict[str, type] = {"tagging": TaggedExample, "answering": QuestionExample}

# Labelled text that is on every machine: docstrings, and which library each comes from.
LIBRARY_DOCS = "installed-docs"
# The standard library and direct dependencies with enough text; top folder -> label.
LIBRARIES = ("flax", "jax", "numpy", "optax", "orbax", "python", "rich", "scipy")
_MODULES = 90  # of each library, those that its hash has first
_DOCSTRINGS = 450  # of each library
_SHORTEST = 60  # characters
_HELD_OUT = 6  # one module in so many is for evaluation


@dataclass(frozen=True)
class Start:
    """The encoder that is fine-tuned. make(task, seed): the model for a task, its head new."""

    path: Path
    model: ModelConfig
    tokenizer: Tokenizer
    fingerprint: str
    make: Callable[[TaskConfig, int], TaskModel]


def open_start(path: str | Path, run: FinetuneConfig) -> Start:
    """A model folder, a finished run's workdir, the newest checkpoint of an unfinished one, or the folder of a
    checkpoint, WORKDIR/checkpoints/STEP.

    Raises ModelFileError, and ConfigError if the model does not take rows as long as the config's.
    """
    path, _ = folder_path(path)
    workdir = path.parent.parent
    is_step = step_number(path.name) is not None and path.parent.name == "checkpoints" and is_run(workdir)
    if is_step or (is_run(path) and not (path / "model" / "config.json").is_file()):
        stored = open_run(workdir if is_step else path)
        # At once: a run that is still training may delete the step at any time.
        (step, params), tokenizer = stored.weights(step_number(path.name) if is_step else None), stored.tokenizer()
        rows = min(stored.config.model.vocab_size, tokenizer.vocab_size)  # as an export has them
        config = replace(stored.config.model, vocab_size=rows)
        origin = f"step {step} of the run {fingerprint(stored.recorded['identity'])}"
        words = padded_rows(params["embeddings"]["word_embeddings"][:rows])
        params |= {"embeddings": params["embeddings"] | {"word_embeddings": words}}
        make = lambda task, seed: with_new_head(config, params, task, seed)
    else:
        folder, tokenizer = open_pair(path)
        config = folder.config
        weights = hashlib.sha256()
        for file in sorted(folder.path.glob("*.safetensors")):
            with file.open("rb") as opened:
                weights.update(hashlib.file_digest(opened, "sha256").digest())
        origin = fingerprint(identity_values(config) | {"weights": weights.hexdigest()})
        make = lambda task, seed: new_task_model(folder.path, task, seed)[0]
    if run.model.max_length > config.max_position_embeddings:
        raise ConfigError(
            f"config.model.max_length = {run.model.max_length} is more than the {config.max_position_embeddings} "
            f"positions of the model in {path}"
        )
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention", "scan_layers", "remat")
    given = {name: value for name in names if (value := getattr(run.model, name)) is not None}
    return Start(path, resolve_model(asdict(replace(config, **given)), "config.model."), tokenizer, origin, make)


def read_examples(source: Source, run: FinetuneConfig, held_out: bool, warn: Warn = lambda line: None) -> list[Any]:
    """The examples of a file, or of lists: see ``bertjax.finetune.run``. held_out: which part of the installed
    libraries' docstrings is meant. warn: gets what was passed over or is hardly meant. Raises DataError, ConfigError.
    """
    if source == LIBRARY_DOCS:
        if run.task != "classification":
            raise ConfigError(f"{LIBRARY_DOCS} is for classification, which library a text is of, not {run.task}")
        return library_examples(held_out)
    if isinstance(source, str | Path):
        path = given_path(source, "labelled file", ModelFileError)
        if run.task == "tagging":
            return read_tagged(path, run.data.label, run.data.text, warn)
        if run.task == "answering":
            return read_questions(path, warn)
        columns = Columns(run.data.text, run.data.second, run.data.label, run.data.separator, run.data.no_label)
        return read_texts(path, columns, run.task, warn)
    if source and isinstance(source[0], TextExample | TaggedExample | QuestionExample):
        wanted = _EXAMPLES.get(run.task, TextExample)
        for number, example in enumerate(source):
            if not isinstance(example, wanted):
                raise DataError(f"example {number} is a {type(example).__name__}; {run.task} takes {wanted.__name__}")
        return list(source)
    has_labels = isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], str)
    inputs, labels = source if has_labels else (source, None)
    if run.task == "answering":
        return question_examples(inputs, warn)
    if run.task == "tagging":
        return tagged_examples(inputs, labels)
    return text_examples(inputs, labels, kind=run.task, no_label=run.data.no_label, warn=warn)


def examples_fingerprint(examples: Sequence[Any]) -> str:
    """Hex SHA-256 over what the examples say, wherever they are from."""
    digest = hashlib.sha256()
    for example in examples:
        negatives = getattr(example, "negatives", ())
        said = repr(replace(example, where="")) + (repr(negatives) if negatives else "")
        content = said.encode("utf-8", "backslashreplace")
        digest.update(np.uint64(len(content)).tobytes() + content)
    return digest.hexdigest()


@functools.cache
def library_examples(held_out: bool) -> list[TextExample]:
    """The docstrings to train on, or those of other modules to evaluate on. Raises DataError if there are none."""
    by_library: dict[str, list[str]] = {library: [] for library in LIBRARIES}
    paths = docstrings.modules()
    for name in paths:
        top, *rest = name.split("/")
        library = "python" if top == "python" else rest[0]
        if library in by_library and "array_api_compat" not in rest:  # a copy that several libraries hold
            by_library[library].append(name)
    hashed = lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest()
    found: list[TextExample] = []
    for library, names in by_library.items():
        own: dict[str, TextExample] = {}
        chosen = enumerate(sorted(names, key=hashed)[:_MODULES])
        for name in (name for number, name in chosen if (number % _HELD_OUT == 0) == held_out):
            for text in map(" ".join, docstrings.read_module(paths[name])[0]):
                if len(text) >= _SHORTEST:
                    own.setdefault(text, TextExample(str(paths[name]), text, None, library))
        found += list(own.values())[: _DOCSTRINGS // (_HELD_OUT - 1 if held_out else 1)]
    if not found:
        raise DataError("no installed library has docstrings")
    return found
