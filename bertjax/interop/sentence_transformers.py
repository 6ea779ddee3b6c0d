"""What the library sentence-transformers keeps beside a model: how its vectors are pooled, where texts are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertjax.interop import ModelFileError
from bertjax.interop.safetensors_files import read_json

_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def embedding_settings(folder: Path, positions: int) -> dict[str, Any]:
    """``pooling`` and ``max_length`` of a folder, {} where it does not say.

    Raises ModelFileError where vectors are pooled in another way than ``TaskConfig`` has.
    """
    settings: dict[str, Any] = {}
    pooling, cut = folder / "1_Pooling" / "config.json", folder / "sentence_bert_config.json"
    if pooling.is_file():
        modes = {name for name, value in read_json(pooling).items() if name.startswith("pooling_mode_") and value}
        if len(modes) != 1 or not modes <= _POOLINGS.keys():
            raise ModelFileError(f"{pooling} has vectors pooled otherwise than by {' or '.join(_POOLINGS.values())}")
        settings["pooling"] = _POOLINGS[modes.pop()]
    if cut.is_file():
        longest = read_json(cut).get("max_seq_length")
        if type(longest) is int and longest > 0:
            settings["max_length"] = min(longest, positions)
    return settings
