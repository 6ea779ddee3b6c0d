"""The files beside a vocabulary by which ``transformers`` knows how to use it: read, with suspicion, and written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.config import ConfigError
from bertjax.text.interface import ROLES, Tokenizer, printable

# The largest tokenizer files of real models (of 260,000 entries) take some 35 MB. What a file of empty lists becomes
# in memory is 20 times as large.
MAX_BYTES = 64 << 20
# Keys of tokenizer_config.json that say how text is cleaned, by the names that the library gives them.
_CLEANING = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
    "dotless_i": "dotless_i",  # bertjax's own; transformers has it in the normalizer of tokenizer.json
}
# Classes that use a tokenizer.json as it stands; all others clean text as tokenizer_config.json says.
_TAKES_THE_JSON = ("PreTrainedTokenizerFast", "TokenizersBackend")


@dataclasses.dataclass(frozen=True)
class FolderSettings:
    """What the files beside a vocabulary say; what they do not say is in neither mapping.

    cleaning: ``lowercase``, ``strip_accents``, ``handle_chinese_chars``, ``dotless_i``; names: of special tokens, by
    role; takes_json: whether a ``tokenizer.json`` counts as it stands, whatever ``cleaning`` says.
    """

    cleaning: Mapping[str, bool | None] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    takes_json: bool = False

    def with_cleaning(self, cleaning: Mapping[str, bool | None]) -> FolderSettings:
        """The same, with ``cleaning`` where these settings do not say."""
        return dataclasses.replace(self, cleaning={**cleaning, **self.cleaning})


def read_file(path: Path) -> bytes:
    """The content of a file of at most ``MAX_BYTES``. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES >> 20} MiB, which no file of a tokenizer has")
    return content


def parse_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ConfigError where there is none."""
    try:
        value = json.loads(read_file(path).decode("utf-8-sig"))
    except ConfigError:
        raise
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not valid JSON: {error.msg} at line {error.lineno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting
        raise ConfigError(f"{path} is not JSON of a tokenizer: nested too deeply, or a number too long") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return value


def folder_settings(folder: Path) -> FolderSettings:
    """What ``tokenizer_config.json`` and ``special_tokens_map.json`` of a folder say. Raises ConfigError."""
    config_file, map_file = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    config = parse_object(config_file) if config_file.is_file() else {}
    names = {**_names(parse_object(map_file), map_file)} if map_file.is_file() else {}
    names.update(_names(config, config_file))
    cleaning: dict[str, bool | None] = {}
    for key, name in _CLEANING.items():
        if config.get(key) is not None:
            cleaning[name] = _truth(config, key, config_file)
    if config.get("keep_accents") is not None:  # of SentencePiece tokenizers
        cleaning["strip_accents"] = not _truth(config, "keep_accents", config_file)
    takes_json = config.get("tokenizer_class") in _TAKES_THE_JSON
    if not takes_json and "strip_accents" in config:  # null is an answer too: where text is lowercased
        cleaning.setdefault("strip_accents", None)
    return FolderSettings(cleaning, names, takes_json)


def _truth(config: dict[str, Any], key: str, path: Path) -> bool:
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
            raise ConfigError(f"{path} has no text as {role}_token: {printable(value)}")
        if value:
            names[role] = value
    return names


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
        # transformers 5 gives no token types otherwise, but where the class is BertTokenizer.
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **names,
        **settings,
    }
    write_json(directory / "tokenizer_config.json", config)
