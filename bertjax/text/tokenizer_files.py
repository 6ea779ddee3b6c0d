"""The files beside a vocabulary that tell ``transformers`` how to use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.config import ConfigError

if TYPE_CHECKING:
    from bertjax.text.tokenizer import Tokenizer


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON in UTF-8."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def write_transformers_config(directory: Path, tokenizer: Tokenizer, **settings: Any) -> None:
    """Writes ``tokenizer_config.json`` and ``special_tokens_map.json``; ``settings`` are those of the class."""
    names_by_role = tokenizer.special_tokens()
    names = {f"{role}_token": piece for role, piece in names_by_role.items()}
    write_json(directory / "special_tokens_map.json", names)
    added = {
        str(getattr(tokenizer, f"{role}_id")): {
            "content": names[f"{role}_token"],
            "lstrip": role == "mask" and tokenizer.kind == "sentencepiece",
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for role in names_by_role
    }
    config = {
        "added_tokens_decoder": dict(sorted(added.items(), key=lambda item: int(item[0]))),
        "clean_up_tokenization_spaces": tokenizer.kind == "wordpiece",
        **names,
        **settings,
    }
    write_json(directory / "tokenizer_config.json", config)


def folder_lowercase(folder: Path, default: bool) -> bool:
    """``do_lower_case`` of a tokenizer folder, ``default`` where it does not say. Raises ConfigError."""
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return default
    try:
        return bool(json.loads(config.read_text(encoding="utf-8")).get("do_lower_case", default))
    except (ValueError, AttributeError):
        raise ConfigError(f"{config} is not a JSON object") from None
