"""Names in the Hugging Face layout that no parameter declares: heads, buffers, copies, old spellings."""

from __future__ import annotations

import re

# Parts that a folder may lack, by the first part of their parameters' paths.
HEADS = {"pooler": "pooler", "mlm_head": "masked-LM head", "nsp_head": "next-sentence head"}
# Stored by old versions of transformers; not parameters.
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
# Copies that a folder may hold: the output matrix is the word embeddings, its bias is the head's.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

_LAYER = re.compile(r"^bert\.encoder\.layer\.(\d{1,6})\.")


def canonical(name: str) -> str:
    """A tensor's name in its newest form: with the prefix ``bert.``, ``weight`` and ``bias`` for gamma and beta."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        name = name.removesuffix(old) + new if name.endswith(f"LayerNorm{old}") else name
    without_prefix = name.startswith(("embeddings.", "encoder.", "pooler."))
    return f"bert.{name}" if without_prefix else name


def layers_in(names: set[str]) -> set[int]:
    """Numbers of the encoder layers that tensors with these (canonical) names belong to."""
    return {int(match[1]) for name in names if (match := _LAYER.match(name))}
