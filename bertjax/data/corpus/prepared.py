"""The prepared corpus: text tokenised once, kept on disk, opened in no time.

A prepared corpus is a folder:

    index/              flat .npy arrays, memory-mapped in training
    tokenizer/          its tokenizer
    manifest.json       sources, counts, settings, versions, and the hash of every file

Earlier versions kept a second copy in ArrayRecord shards in ``corpus/1.0.0``; it is neither read nor checked.
"""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.paths import given_path, utf8_path
from bertjax.cli.progress import ReportProgress, progress_bar
from bertjax.config import DataConfig, ModelConfig
from bertjax.data.corpus import manifest as manifests
from bertjax.data.corpus.arrays import FOLDER, SPLITS, TOKEN_COUNTS, WORD_STARTS, PreparedCorpus, file_of, open_arrays
from bertjax.data.corpus.building import build
from bertjax.data.corpus.files import reading
from bertjax.data.corpus.placing import building, cache_folder, cached, put_aside
from bertjax.data.corpus.sources import Source, open_sources
from bertjax.errors import ConfigError, DataError
from bertjax.text.languages import DOTLESS_I_LANGUAGES, primary
from bertjax.text.tokenizer import Tokenizer, load_tokenizer
from bertjax.text.vocabulary import check_size

TRAINED = ("wordpiece", "sentencepiece")
_RECORDED = ("language", "character_coverage", "sentencepiece_type", "held_out_fraction")
_AGAIN = "; prepare it again"


def prepare(
    specs: Sequence[str | Path | Source],
    output: str | Path | None = None,
    *,
    tokenizer: str | Path | None = None,
    vocab_size: int | None = None,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    language: str | None = None,
    character_coverage: float | None = None,
    sentencepiece_type: str | None = None,
    held_out_fraction: float | None = None,
    progress: ReportProgress | None = None,
) -> PreparedCorpus:
    """Tokenises the documents of ``specs``, or opens what an earlier call with the same content and settings made.

    ``output`` is the folder to make; None keeps the corpus in the cache (``$BERTJAX_CACHE``). ``tokenizer`` is
    ``wordpiece`` or ``sentencepiece`` (trained on the text, ``vocab_size`` entries at most) or a path. None means what
    it means in a config: wordpiece of 30522 entries, lowercase, accents as decided from the text, unigram, 0.02. A
    single SPEC that is a prepared corpus is opened as it is; what is not None must be what it was made with. Raises
    DataError and ConfigError, one line each.
    """
    specs = [specs] if isinstance(specs, str | Path | Source) else list(specs)
    output = None if output is None else given_path(output, "output")
    asked: dict[str, Any] = {
        "tokenizer": tokenizer,
        "lowercase": lowercase,
        "strip_accents": strip_accents,
        "language": None if language is None else primary(language),
        "character_coverage": character_coverage,
        "sentencepiece_type": sentencepiece_type,
        "held_out_fraction": held_out_fraction,
        "vocab_size": vocab_size,
    }
    if any(not isinstance(spec, Source) and is_prepared_spec(spec) for spec in specs):
        if len(specs) > 1:
            raise DataError("a prepared corpus cannot be joined with other sources; prepare all of them together")
        if output is not None:
            raise DataError(f"{specs[0]} is prepared already; use it as it is")
        corpus = open_prepared(str(specs[0]))
        check_agrees(corpus.path, corpus.manifest, asked)
        return corpus
    defaults = vars(DataConfig()) | {"vocab_size": ModelConfig().vocab_size}
    settings = {name: defaults[name] if value is None else value for name, value in asked.items()}
    sources = open_sources(specs)
    settings, given = _settle(settings)
    described = [source.describe() for source in sources]
    key = manifests.key_of(described, settings)
    final = cache_folder() / f"corpus-{key[:24]}" if output is None else Path(output)
    found = _reuse(final, key, is_output=output is not None)
    if found is not None:
        return found
    utf8_path(final, "cache folder" if output is None else "output")
    with contextlib.ExitStack() as stack:
        show = progress or stack.enter_context(progress_bar())
        folder = stack.enter_context(building(final, is_cached=output is None))
        manifest = {"format_version": manifests.FORMAT_VERSION, "key": key, "sources": described, "settings": settings}
        build(folder, sources, given, manifest, show)
    # If another process was faster, what it made is what we would have made.
    found = _reuse(final, key, is_output=output is not None)
    if found is None:
        raise DataError(f"{final} cannot be written: another process created it in the meantime")
    return found


def _settle(settings: dict[str, Any]) -> tuple[dict[str, Any], Tokenizer | None]:
    """The settings that a corpus depends on, and the tokenizer if one is given. Raises ConfigError."""
    kind, lowercase, strip_accents = settings["tokenizer"], settings["lowercase"], settings["strip_accents"]
    held_out = {"held_out_fraction": settings["held_out_fraction"]}
    if str(kind) not in TRAINED:
        given = load_tokenizer(kind, lowercase, strip_accents, settings["language"])
        check_given(str(kind), given, strip_accents, settings["language"])
        return held_out | {"tokenizer": given.fingerprint}, given
    check_size(str(kind), settings["vocab_size"])
    names = ("vocab_size", "lowercase", "strip_accents", "language", "character_coverage")
    names += ("sentencepiece_type",) * (str(kind) == "sentencepiece")
    return held_out | {"tokenizer": str(kind)} | {name: settings[name] for name in names}, None


def open_prepared(path: str | Path) -> PreparedCorpus:
    """Opens a prepared corpus. Raises Damaged if the sizes of its files are not what was prepared, DataError if
    anything else keeps it from being opened."""
    path = given_path(path, "corpus", DataError)
    manifest = manifests.read(path)
    try:
        manifests.check_sizes(path, manifest)
        tokenizer = load_tokenizer(path / "tokenizer", manifest["tokenizer"]["lowercase"])
        if not tokenizer.has_fingerprint(manifest["tokenizer"]["fingerprint"]):
            raise manifests.Damaged(f"prepared corpus {path} is damaged: its tokenizer has changed{_AGAIN}")
        words = file_of(SPLITS[0], WORD_STARTS) in manifest["files"]
        train, held_out = (open_arrays(path, split, manifest["fingerprint"], words) for split in SPLITS)
        counts = np.load(path / FOLDER / TOKEN_COUNTS)
        if counts.dtype != np.int64 or counts.shape != (tokenizer.vocab_size,):
            raise ValueError(f"{path / FOLDER / TOKEN_COUNTS} does not count {tokenizer.vocab_size} entries")
        return PreparedCorpus(path, manifest, tokenizer, train, held_out, counts)
    except (ConfigError, OSError, ValueError, MemoryError) as error:
        if not isinstance(error, manifests.Damaged):
            manifests.check_hashes(path, manifest)  # is it the files? Whatever cannot be read may pass
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"prepared corpus {path} cannot be opened: {reason}") from None


def check_files(corpus: PreparedCorpus) -> None:
    """Reads every file of a corpus. Raises DataError if one is not what was prepared. A corpus in the cache is then put
    aside: the next start would find it again, and only reading all of it tells."""
    try:
        manifests.check_hashes(corpus.path, corpus.manifest)
    except manifests.Damaged as error:
        if corpus.path not in cached():
            raise
        raise manifests.Damaged(f"{_aside(corpus.path, error)}, and the next start prepares another") from None


def _aside(folder: Path, error: manifests.Damaged) -> str:
    """Puts a damaged corpus aside; what is wrong with it, and its new name."""
    return f"{str(error).removesuffix(_AGAIN)}; it is kept as {put_aside(folder).name}"


def find_prepared(fingerprint: str, path: str | Path) -> PreparedCorpus | None:
    """The prepared corpus of this fingerprint: at ``path``, else in the cache, else None. Raises DataError if it is
    nowhere else, and what is at ``path`` cannot be read now but may be intact."""
    unread: DataError | None = None
    for folder in [Path(path), *cached()]:
        try:
            if manifests.read(folder)["fingerprint"] == fingerprint:
                return open_prepared(folder)
        except manifests.Damaged:
            continue
        except DataError as error:
            unread = error if folder == Path(path) else unread
    if unread is not None:
        raise unread
    return None


def is_prepared(path: Path) -> bool:
    """Whether a path is the folder of a prepared corpus."""
    return (path / manifests.FILE).is_file()


def is_prepared_spec(spec: str | Path) -> bool:
    """Whether a SPEC is the folder of a prepared corpus. Raises DataError for an impossible path."""
    return not str(spec).startswith("tfds:") and is_prepared(given_path(spec, "corpus", DataError))


def given_manifest(specs: Sequence[str]) -> tuple[Path, dict[str, Any]] | None:
    """(folder, manifest) of the prepared corpus that a single SPEC is, else None. Raises DataError."""
    path = Path(specs[0]).expanduser() if len(specs) == 1 else None
    return None if path is None or not is_prepared(path) else (path, manifests.read(path))


def recorded_manifest(fingerprint: str, path: str | Path) -> dict[str, Any] | None:
    """The manifest of the prepared corpus of this fingerprint: at ``path``, else in the cache, else None."""
    for folder in [Path(path), *cached()]:
        with contextlib.suppress(DataError):
            found = manifests.read(folder)
            if found["fingerprint"] == fingerprint:
                return found
    return None


def _reuse(final: Path, key: str, is_output: bool) -> PreparedCorpus | None:
    """The corpus in ``final``, if it is the one with this key; None if there is nothing. A corpus in the cache that is
    certainly damaged is put aside, to be made again. Raises DataError."""
    with reading(final):
        if not final.exists() or (final.is_dir() and not any(final.iterdir())):
            return None
    if is_output and not is_prepared(final):
        raise DataError(f"{final} exists and is not a prepared corpus; choose another output folder")
    try:
        if manifests.read(final)["key"] == key:
            return open_prepared(final)
    except manifests.Damaged as error:
        if is_output:
            raise
        warnings.warn(f"{_aside(final, error)} and made again", stacklevel=2)
        return None
    raise DataError(f"{final} holds another prepared corpus; choose another output folder")


# --- Settings that a corpus brings with it: tokenizer, case, split, vocabulary size ----------------------------------


def _key(setting: str) -> str:
    """The key of the config."""
    return f"model.{setting}" if setting == "vocab_size" else f"data.{setting}"


def own_values(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Config key -> value of the prepared corpus in ``path``; without those that its manifest does not record. A
    tokenizer of a kind that bertjax does not train is named by its folder in the corpus."""
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
    """Raises ConfigError if what was asked for contradicts the files of a given tokenizer, which decide. ``language``:
    from ``languages.primary``. None: nothing was asked."""
    if strip_accents not in (None, tokenizer.strip_accents):
        does = {None: "has its own rules for cleaning text", True: "strips accents", False: "keeps accents"}
        what, setting = does[tokenizer.strip_accents], f"strip_accents = {strip_accents}"
    elif tokenizer.lowercase and language in DOTLESS_I_LANGUAGES and not tokenizer.dotless_i:
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
        return (value in DOTLESS_I_LANGUAGES) == tokenizer.get("dotless_i", False)
    if name == "vocab_size":  # a small corpus yields fewer pieces than were asked for
        return value in (own, manifest["settings"].get("vocab_size"))
    return value == own


def _difference(name: str, own: Any, value: Any, manifest: Mapping[str, Any]) -> str:
    if name != "tokenizer":
        return f"{name} = {own!r}, not {value!r}"
    is_kind = str(value) in TRAINED
    return f"a {manifest['tokenizer']['kind']} tokenizer, not {value}" if is_kind else f"another tokenizer than {value}"
