"""The settings that a prepared corpus brings with it (tokenizer, case, split, vocabulary size); conflicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.errors import ConfigError
from bertjax.text.languages import has_dotless_i
from bertjax.text.tokenizer import Tokenizer, load_tokenizer

TRAINED = ("wordpiece", "sentencepiece")
_RECORDED = ("language", "character_coverage", "sentencepiece_type", "held_out_fraction")


def _key(setting: str) -> str:
    """The key of the config."""
    return f"model.{setting}" if setting == "vocab_size" else f"data.{setting}"


def own_values(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Config key -> value of the prepared corpus in ``path``; without those that its manifest does not record.

    A tokenizer of a kind that bertjax does not train is named by its folder in the corpus.
    """
    tokenizer, settings = manifest["tokenizer"], manifest["settings"]
    # Earlier versions did not record it: accents were stripped when text was lowercased.
    accents = tokenizer["lowercase"] if "vocab_size" in settings else None
    own = {
        "tokenizer": tokenizer["kind"] if tokenizer["kind"] in TRAINED else str(path / "tokenizer"),
        "lowercase": tokenizer["lowercase"],
        "strip_accents": tokenizer.get("strip_accents", accents),
        "vocab_size": tokenizer["vocab_size"],
    } | {name: settings.get(name) for name in _RECORDED}
    return {_key(name): value for name, value in own.items() if value is not None}


def check_agrees(path: Path, manifest: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises ConfigError if the corpus was not prepared with what was ``asked``: setting -> value, None: anything."""
    brings = {"data.language": None, "data.character_coverage": None} | own_values(path, manifest)
    own = {name: brings[_key(name)] for name in asked if _key(name) in brings}
    given = {name: value for name, value in asked.items() if name in own and value is not None}
    wrong = {name: value for name, value in given.items() if not _agrees(name, value, own[name], manifest)}
    if wrong:
        parts = [_difference(name, own[name], value, manifest) for name, value in wrong.items()]
        use = " ".join(f"--config.{_key(name)}={own[name]}" for name in wrong if own[name] is not None)
        them = "them" if len(wrong) > 1 else "it"
        way = f"use {use}, or leave" if use else "leave"
        raise ConfigError(
            f"the corpus {path} was prepared with {' and '.join(parts)}; {way} {them} out: "
            f"a prepared corpus brings its own"
        )


def check_given(path: str, tokenizer: Tokenizer, strip_accents: bool | None, language: str | None) -> None:
    """Raises ConfigError if what was asked for contradicts the files of a given tokenizer, which decide.

    ``language``: from ``languages.primary``. None: nothing was asked.
    """
    if strip_accents not in (None, tokenizer.strip_accents):
        does = {None: "has its own rules for cleaning text", True: "strips accents", False: "keeps accents"}
        what, setting = does[tokenizer.strip_accents], f"strip_accents = {strip_accents}"
    elif tokenizer.lowercase and has_dotless_i(language) and not tokenizer.dotless_i:
        what, setting = "lowercases I to i", f"language = {language!r}"
    else:
        return
    raise ConfigError(
        f"the tokenizer {path} {what}, which config.data.{setting} cannot change; leave that out, or learn a "
        f"vocabulary with --config.data.tokenizer=wordpiece"
    )


def _agrees(name: str, value: Any, own: Any, manifest: Mapping[str, Any]) -> bool:
    tokenizer = manifest["tokenizer"]
    if name == "tokenizer" and str(value) not in TRAINED:
        return load_tokenizer(value, bool(tokenizer["lowercase"])).has_fingerprint(tokenizer["fingerprint"])
    if name == "language" and own is None and "vocab_size" not in manifest["settings"]:  # of a given tokenizer
        return has_dotless_i(value) == tokenizer.get("dotless_i", False)
    if name == "vocab_size":  # a small corpus yields fewer pieces than were asked for
        return value in (own, manifest["settings"].get("vocab_size"))
    return value == own


def _difference(name: str, own: Any, value: Any, manifest: Mapping[str, Any]) -> str:
    if name != "tokenizer":
        return f"{name} = {own!r}, not {value!r}"
    is_kind = str(value) in TRAINED
    return f"a {manifest['tokenizer']['kind']} tokenizer, not {value}" if is_kind else f"another tokenizer than {value}"
