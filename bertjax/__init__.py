"""bertjax: pretraining of BERT-family encoders in JAX, from raw text to use.

model = bertjax.create_model("bert-base", vocab_size=30522)
model, tokenizer = bertjax.load_model(path), bertjax.load_tokenizer(path)
output = model(**bertjax.encode(tokenizer, ["A text.", "Another, longer text."]))
bertjax.fill_mask(model, tokenizer, "Paris is the [MASK] of France.")
bertjax.embed(model, tokenizer, texts)
model, tokenizer = bertjax.load_task_model(path)
bertjax.classify(model, tokenizer, texts), bertjax.tag(...), bertjax.answer(...), bertjax.similarity(...)
bertjax.save_model(model, path, tokenizer=tokenizer)
bertjax.train.run(config, workdir)
bertjax.finetune.run(config, model, (texts, labels), (texts, labels), workdir)
bertjax.evaluate.run(model, "blimp", data, tokenizer=tokenizer)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertjax import evaluate as evaluate
    from bertjax import finetune as finetune
    from bertjax import train as train
    from bertjax.inference.answer import answer as answer
    from bertjax.inference.classify import classify as classify
    from bertjax.inference.embed import embed as embed
    from bertjax.inference.embed import similarity as similarity
    from bertjax.inference.encoding import encode as encode
    from bertjax.inference.fill_mask import fill_mask as fill_mask
    from bertjax.inference.tag import tag as tag
    from bertjax.interop.models import load_model as load_model
    from bertjax.interop.models import save_model as save_model
    from bertjax.interop.task_models import load_task_model as load_task_model
    from bertjax.interop.task_models import save_task_model as save_task_model
    from bertjax.model.create import create_model as create_model
    from bertjax.model.dropout import DropoutSeed as DropoutSeed
    from bertjax.objectives.losses import pretraining_loss as pretraining_loss
    from bertjax.objectives.masked_batches import masked_batches as masked_batches
    from bertjax.text.tokenizer import load_tokenizer as load_tokenizer

__version__ = "0.1.0"

# Public name -> its module, imported when first asked for: a command can answer before jax is imported.
_HOMES = {
    "DropoutSeed": "bertjax.model.dropout",
    "answer": "bertjax.inference.answer",
    "classify": "bertjax.inference.classify",
    "create_model": "bertjax.model.create",
    "embed": "bertjax.inference.embed",
    "encode": "bertjax.inference.encoding",
    "fill_mask": "bertjax.inference.fill_mask",
    "load_model": "bertjax.interop.models",
    "load_task_model": "bertjax.interop.task_models",
    "load_tokenizer": "bertjax.text.tokenizer",
    "masked_batches": "bertjax.objectives.masked_batches",
    "pretraining_loss": "bertjax.objectives.losses",
    "save_model": "bertjax.interop.models",
    "save_task_model": "bertjax.interop.task_models",
    "similarity": "bertjax.inference.embed",
    "tag": "bertjax.inference.tag",
}

# Old names, until the next release.
_ALIASES = {"Noise": "DropoutSeed"}
# Modules with a ``run``.
_JOBS = ("evaluate", "finetune", "train")

__all__ = sorted([*_HOMES, *_JOBS])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    name = _ALIASES.get(name, name)
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _JOBS:
        return importlib.import_module(f"bertjax.{name}")
    raise AttributeError(f"module 'bertjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
