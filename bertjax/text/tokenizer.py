"""Loads a tokenizer of any kind from its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.cli.paths import given_path
from bertjax.errors import ConfigError
from bertjax.text.interface import Tokenizer, printable
from bertjax.text.json_tokenizer import tokenizer_from_json
from bertjax.text.languages import DOTLESS_I_LANGUAGES, primary
from bertjax.text.sentencepiece_tokenizer import SentencePieceTokenizer, json_cleaning
from bertjax.text.tokenizer_files import FolderSettings, folder_settings, parse_object, read_file
from bertjax.text.wordpiece import WordPieceRules, WordPieceTokenizer

_NAMES = ("spiece.model", "tokenizer.json", "vocab.txt", "tokenizer.model")  # the first that a folder has is read
_OTHER_IDS = "sentencepiece.bpe.model"


def load_tokenizer(
    path: str | Path, lowercase: bool = True, strip_accents: bool | None = None, language: str | None = None
) -> Tokenizer:
    """The tokenizer of a ``vocab.txt``, a ``tokenizer.json``, a SentencePiece ``.model``, or a folder with one of them
    (also the workdir of a run, or a prepared corpus).

    The files decide casing, accents and the names of special tokens (``tokenizer_config.json`` and
    ``special_tokens_map.json`` of a folder, the normalizer of ``tokenizer.json``); ``lowercase``, ``strip_accents``
    (None: as lowercasing, which null in a file also means) and ``language`` (a code, such as tr, for which I is
    lowercased to ı) are for files that do not say. Truncation and padding in a ``tokenizer.json`` are ignored. Raises
    ConfigError if there is no tokenizer, its special tokens are missing, or a file is damaged.
    """
    folder, file = FolderSettings(), given_path(path, "tokenizer")
    try:
        if file.is_dir():
            file = _choose(file)
            folder = folder_settings(file.parent)
        exists = file.is_file()
    except OSError as error:
        raise ConfigError(f"tokenizer {printable(path)} cannot be read: {printable(error)}") from None
    if not exists:
        raise ConfigError(f"tokenizer {printable(path)} does not exist; give 'wordpiece', 'sentencepiece' or a path")
    if file.suffix == ".json":
        return tokenizer_from_json(parse_object(file), folder, str(file))
    dotless_i = language is not None and primary(language) in DOTLESS_I_LANGUAGES
    cleaning = {"lowercase": bool(lowercase), "strip_accents": strip_accents, "dotless_i": dotless_i}
    if file.suffix == ".model" and "lowercase" not in folder.cleaning and file.with_name("tokenizer.json").is_file():
        cleaning |= json_cleaning(parse_object(file.with_name("tokenizer.json")))
    read = _read_sentencepiece if file.suffix == ".model" else _read_vocabulary
    return read(file, {**cleaning, **folder.cleaning}, folder.names)


def has_tokenizer(folder: Path) -> bool:
    names = (*_NAMES, "tokenizer_config.json", _OTHER_IDS)
    return any((folder / name).exists() for name in names) or any(folder.glob("*.model"))


def _choose(folder: Path) -> Path:
    """The file to read, in ``folder``, or in its ``tokenizer`` if it is a workdir or prepared corpus."""
    has_own = any((folder / name).is_file() for name in _NAMES)
    folder = folder / "tokenizer" if not has_own and (folder / "tokenizer").is_dir() else folder
    usual = [folder / name for name in _NAMES if (folder / name).is_file()]
    others = sorted(folder.glob("*.model"), key=lambda path: (path.name == _OTHER_IDS, path))
    if not usual and not others:
        raise ConfigError(f"tokenizer folder {folder} holds neither spiece.model, tokenizer.json nor vocab.txt")
    return [*usual, *others][0]


def _read_sentencepiece(file: Path, cleaning: dict[str, Any], names: Mapping[str, str]) -> Tokenizer:
    if file.name == _OTHER_IDS:
        raise ConfigError(
            f"{file} numbers its pieces otherwise than the models that come with it (XLM-RoBERTa, CamemBERT); "
            f"a tokenizer.json beside it would say how: save the folder with transformers"
        )
    own = {name: cleaning[name] for name in ("lowercase", "strip_accents", "dotless_i")}
    return SentencePieceTokenizer(read_file(file), origin=str(file), names=names, **own)


def _read_vocabulary(file: Path, cleaning: dict[str, Any], names: Mapping[str, str]) -> Tokenizer:
    try:
        text = read_file(file).decode("utf-8-sig")  # Windows editors put a mark before the first line
    except UnicodeDecodeError:
        raise ConfigError(f"tokenizer {file} is neither a vocabulary in UTF-8 nor a .model file") from None
    space = "\r\n\t "
    tokens = [line.strip(space) for line in text.rstrip(space).split("\n")]
    lowercase = cleaning.pop("lowercase")
    return WordPieceTokenizer(tokens, lowercase, str(file), WordPieceRules(**cleaning), names)


def check_is_tokenizer(tokenizer: object) -> None:
    """Raises TypeError, naming the argument, for anything but a tokenizer of bertjax."""
    if not isinstance(tokenizer, Tokenizer):
        raise TypeError(f"tokenizer must come from bertjax.load_tokenizer(path), not be a {type(tokenizer).__name__}")


def check_tokenizer(tokenizer: Tokenizer, vocab_size: int, trained: bool) -> None:
    """Raises ConfigError if a tokenizer does not fit ``config.model.vocab_size``. It must have exactly that size; one
    that bertjax ``trained`` on a small corpus may be smaller."""
    size = tokenizer.vocab_size
    if size > vocab_size or (size < vocab_size and not trained):
        raise ConfigError(
            f"the tokenizer has {size} entries, but config.model.vocab_size = {vocab_size}; "
            f"use --config.model.vocab_size={size}"
        )
