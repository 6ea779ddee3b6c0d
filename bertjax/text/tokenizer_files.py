"""The files of a tokenizer's folder: read with suspicion, and written so that ``transformers`` can use them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.cli.json_text import parse_stored, read_limited
from bertjax.errors import ConfigError
from bertjax.text.interface import ROLES, Tokenizer, printable

# The largest tokenizer files of real models (260,000 entries) take about 35 MB. A file of empty lists takes 20 times
# its size in memory.
MAX_BYTES = 64 << 20
# Keys of tokenizer_config.json that say how text is cleaned -> the library's names for them.
_CLEANING = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
    "dotless_i": "dotless_i",  # bertjax's own; transformers reads it from the normalizer of tokenizer.json
}
# Classes that run tokenizer.json as it is; all others clean text as tokenizer_config.json says.
_RUNS_THE_JSON = ("PreTrainedTokenizerFast", "TokenizersBackend")


@dataclasses.dataclass(frozen=True)
class FolderSettings:
    """What the files beside a vocabulary say; a setting that they do not mention is in neither mapping. cleaning:
    ``lowercase``, ``strip_accents``, ``handle_chinese_chars``, ``dotless_i``. names: special tokens by role. runs_json:
    whether ``tokenizer.json`` overrides ``cleaning``."""

    cleaning: Mapping[str, bool | None] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    runs_json: bool = False


def read_file(path: Path) -> bytes:
    """The content of a file of at most ``MAX_BYTES``. Raises ConfigError."""
    return read_limited(path, MAX_BYTES, ConfigError)


def parse_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ConfigError if the file holds anything else."""
    return parse_stored(read_file(path), path, ConfigError)


def folder_settings(folder: Path) -> FolderSettings:
    config_file, map_file = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    config, special = (parse_object(path) if path.is_file() else {} for path in (config_file, map_file))
    names = _names(special, map_file) | _names(config, config_file)
    cleaning: dict[str, bool | None] = {
        name: _checked_bool(config, key, config_file) for key, name in _CLEANING.items() if config.get(key) is not None
    }
    if config.get("keep_accents") is not None:  # SentencePiece tokenizers
        cleaning["strip_accents"] = not _checked_bool(config, "keep_accents", config_file)
    runs_json = config.get("tokenizer_class") in _RUNS_THE_JSON
    if not runs_json and "strip_accents" in config:  # null says: as lowercasing
        cleaning.setdefault("strip_accents", None)
    return FolderSettings(cleaning, names, runs_json)


def _checked_bool(config: dict[str, Any], key: str, path: Path) -> bool:
    value = config[key]
    if not isinstance(value, bool):
        raise ConfigError(f"{path} has {key} = {printable(value)}; it should be true or false")
    return value


def _names(values: dict[str, Any], path: Path) -> dict[str, str]:
    names = {}
    for role in ROLES:
        value = values.get(f"{role}_token")
        value = value.get("content") if isinstance(value, dict) else value
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{path} has {role}_token = {printable(value)}, which is not text")
        if value:
            names[role] = value
    return names


def in_order(vocab: Mapping[str, Any], origin: str) -> list[str]:
    """The pieces of piece -> id in the order of their ids. Raises ConfigError unless the ids are 0, 1, 2 ..."""
    tokens: list[str | None] = [None] * len(vocab)
    for token, number in vocab.items():
        if type(number) is not int or not 0 <= number < len(tokens) or tokens[number] is not None:
            raise ConfigError(
                f"{origin} gives {printable(token)!r} the id {printable(number)}; "
                f"its {len(tokens)} pieces need the ids 0 to {len(tokens) - 1}, each once"
            )
        tokens[number] = token
    return [token for token in tokens if token is not None]


def write_files(directory: str | Path, tokenizer: Tokenizer, definition: Mapping[str, Any], **settings: Any) -> None:
    """Writes ``definition`` as ``tokenizer.json``, and ``tokenizer_config.json`` and ``special_tokens_map.json``
    beside it; ``settings``: keys of ``tokenizer_config.json`` that depend on the kind."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    pieces = tokenizer.special_tokens()
    names = {f"{role}_token": piece for role, piece in pieces.items()}
    added, usual = {}, {"normalized": False, "rstrip": False, "single_word": False, "special": True}
    for role, piece in pieces.items():
        takes_space = role == "mask" and tokenizer.kind == "sentencepiece"
        added[getattr(tokenizer, f"{role}_id")] = {"content": piece, "lstrip": takes_space, **usual}
    config = {
        "added_tokens_decoder": {str(i): added[i] for i in sorted(added)},
        "clean_up_tokenization_spaces": tokenizer.kind == "wordpiece",
        # Without this, transformers 5 returns token types for the class BertTokenizer only.
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **names,
        **settings,
    }
    files = {"tokenizer.json": definition, "special_tokens_map.json": names, "tokenizer_config.json": config}
    for name, value in files.items():
        content = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
        Path(directory, name).write_text(content, encoding="utf-8", newline="\n")
