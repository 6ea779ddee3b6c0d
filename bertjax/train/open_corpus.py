"""The corpus and tokenizer of a run: opened or prepared, checked against the config, and announced."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.cli.progress import Display
from bertjax.cluster.processes import Processes
from bertjax.config import RunConfig, with_values
from bertjax.data.corpus import prepared as corpora
from bertjax.data.corpus.arrays import PreparedCorpus
from bertjax.data.corpus.files import hash_file
from bertjax.data.corpus.manifest import FILE
from bertjax.data.corpus.sources import open_sources
from bertjax.data.corpus.text_warnings import TextCounts, check_known, cleaning_line, text_line
from bertjax.errors import ConfigError, DataError
from bertjax.objectives.pair_cautions import check_corpus
from bertjax.objectives.registry import find_objective
from bertjax.text.tokenizer import check_tokenizer, load_tokenizer
from bertjax.workdir.config_json import (
    SameContent,
    check_same_corpus,
    fingerprints,
    origin_fingerprint,
    place_of,
    with_recorded_identity,
)


def open_corpus(
    run: RunConfig, recorded: dict[str, Any] | None, display: Display, workdir: Path | None = None
) -> PreparedCorpus:
    """The prepared corpus of the run, made first where it is not there yet.

    A run that has begun keeps its corpus: it is found by the fingerprint on record, so that a source that has
    changed since (an upgraded package, say) does not break it. Where it is gone it is made again with the tokenizer
    in ``workdir``: vocabularies are learned by other rules from one version to the next. Raises ConfigError, DataError.
    """
    data = run.data
    corpus = None
    if recorded is not None:
        place, given = recorded["corpus"]["path"], corpora.given_manifest(data.corpus)
        if given is not None:  # the config names a prepared corpus, which may lie elsewhere now
            check_same_corpus(given[1]["fingerprint"], recorded)
            place = str(given[0])
        corpus = corpora.find_prepared(recorded["corpus"]["fingerprint"], place)
    if corpus is None:
        if recorded is None and data.tokenizer not in corpora.TRAINED and "model.vocab_size" not in run.unset:
            # Before the text is read, which may take hours.
            check_tokenizer(load_tokenizer(data.tokenizer, data.lowercase), run.model.vocab_size, trained=False)
        display.say(f"corpus: {', '.join(data.corpus)}")
        corpus = corpora.prepare(data.corpus, None, **(_own_vocabulary(recorded, workdir) or _asked(run, recorded)))
    if recorded is not None:
        check_same_corpus(corpus.fingerprint, recorded)
        run = with_recorded_identity(recorded, run)
        changed = _source_changed(corpus)
        if changed:
            display.say(f"        {changed} has changed since; the run goes on with the text as it was prepared")
    if "model.vocab_size" not in run.unset:
        # A vocabulary that was learned on little text may be smaller than asked for; any other has its exact size.
        asked = corpus.manifest["settings"].get("vocab_size")
        is_learned = asked == run.model.vocab_size or recorded is not None
        check_tokenizer(corpus.tokenizer, run.model.vocab_size, trained=is_learned)
    check_corpus(find_objective(data.objective), corpus.train)
    if recorded is None:  # a run that has begun goes on as it did, with a warning
        check_known(TextCounts.of(corpus), corpus.tokenizer)
    for line in cleaning_line(corpus):
        display.say(f"        {line}")
    counts = corpus.manifest["counts"]
    display.say(
        f"corpus: {', '.join(data.corpus)} - {corpus.train.num_documents:,} documents, "
        f"{corpus.train.num_sentences:,} sentences, {corpus.train.num_tokens:,} tokens to train on; "
        f"{corpus.held_out.num_documents:,} documents held out ({corpus.path})"
    )
    display.say(f"        {text_line(corpus)}")
    if corpus.manifest["held_out"]["kind"] == "copy":
        display.say("        there is too little text to hold any out: what is called held out below is training text")
    if "installed-docs" in data.corpus:
        display.say(
            "        this is the built-in corpus; for your own: --config.data.corpus=PATH (.txt, .jsonl, a glob, ...)"
        )
    if counts.get("replaced_bytes") or counts.get("skipped_lines"):
        display.say(
            f"        {counts.get('replaced_bytes', 0):,} invalid bytes were replaced and "
            f"{counts.get('skipped_lines', 0):,} unreadable lines skipped"
        )
    return corpus


def _asked(run: RunConfig, recorded: dict[str, Any] | None) -> dict[str, Any]:
    """The settings of a corpus that the config sets, or that are on record; None for those that it brings itself."""
    settled = run if recorded is None else with_recorded_identity(recorded, run)
    names = ("tokenizer", "lowercase", "strip_accents", "language", "character_coverage", "sentencepiece_type")
    names += ("held_out_fraction",)
    asked = {name: getattr(settled.data, name) for name in names if f"data.{name}" not in settled.unset}
    if "data.tokenizer" not in run.unset:
        asked["tokenizer"] = run.data.tokenizer  # where it is now
    return asked | ({"vocab_size": settled.model.vocab_size} if "model.vocab_size" not in settled.unset else {})


def _own_vocabulary(recorded: dict[str, Any] | None, workdir: Path | None) -> dict[str, Any]:
    """The settings with which a run's corpus is made again, where its vocabulary was learned and lies in its workdir;
    {} where not."""
    if recorded is None or workdir is None or recorded["identity"].get("data.tokenizer") not in corpora.TRAINED:
        return {}
    try:
        is_own = load_tokenizer(workdir / "tokenizer").has_fingerprint(_recorded_tokenizer(recorded, workdir))
    except ConfigError:
        return {}
    held_out = recorded["identity"].get("data.held_out_fraction")
    return {"tokenizer": workdir / "tokenizer", "held_out_fraction": held_out} if is_own else {}


def settled(run: RunConfig, recorded: dict[str, Any] | None, corpus: PreparedCorpus) -> RunConfig:
    """The run with what its opened corpus brings in the place of keys that are not set, or as on record."""
    if recorded is not None:
        return with_recorded_identity(recorded, run)
    brings = corpora.own_values(corpus.path, corpus.manifest)
    if corpora.given_manifest(run.data.corpus) is None:
        # Of text that is prepared here, only a tokenizer that is not learned says anything that the config does not.
        is_learned = "vocab_size" in corpus.manifest["settings"]
        decided = {"data.strip_accents": corpus.tokenizer.strip_accents}
        brings = decided if is_learned else {"model.vocab_size": corpus.tokenizer.vocab_size}
    return with_values(run, {name: value for name, value in brings.items() if name in run.unset})


def _source_changed(corpus: PreparedCorpus) -> str | None:
    """The first source file of a corpus that exists but has changed since it was prepared, else None."""
    prepared_at = (corpus.path / FILE).stat().st_mtime

    def changed(path: Path, source: dict[str, Any]) -> bool:
        status = path.stat()
        touched = status.st_size != source["size"] or status.st_mtime > prepared_at
        return touched and hash_file(path)[0] != source["sha256"]

    names = ((Path(source["name"]), source) for source in corpus.manifest["sources"])
    return next((str(path) for path, source in names if path.is_file() and changed(path, source)), None)


def open_corpus_together(
    run: RunConfig, recorded: dict[str, Any] | None, display: Display, processes: Processes, workdir: Path
) -> PreparedCorpus:
    """The corpus of the run in every process: process 0 prepares it, the others wait and open what it made. Raises
    ConfigError, DataError; the latter if a process does not see the folder."""
    place, corpus = None, None
    if processes.first:
        corpus = open_corpus(run, recorded, display, workdir)
        place = [corpus.fingerprint, str(corpus.path.resolve())]
    fingerprint, path = processes.share("corpus", place)
    corpus = corpus or corpora.find_prepared(fingerprint, path)
    if corpus is None:
        raise DataError(
            f"the corpus that process 0 has in {path} is not there; put it where all machines see it "
            f"(BERTJAX_CACHE, or a folder that bertjax.prepare made), or copy it to the same place"
        )
    # All of it, in every process, which may have its own copy: a flipped bit would be trained on in silence.
    corpora.check_files(corpus)
    return corpus


# --- Whether a key still leads to what a run began with, for ``check_same_run`` ---------------------------------------


def _same_corpus(recorded: Mapping[str, Any], run: RunConfig, workdir: Path) -> bool:
    """Whether a run's corpus is the recorded one, written differently; what is not known yet is found out when
    the corpus is opened."""
    old, new = recorded["identity"]["data.corpus"], run.data.corpus
    if not isinstance(old, list):
        return False
    if [place_of(str(spec)) for spec in old] == [place_of(spec) for spec in new]:
        return True
    fingerprint, path = recorded["corpus"]["fingerprint"], recorded["corpus"]["path"]
    try:
        given = corpora.given_manifest(new)
        if given is not None:
            return given[1]["fingerprint"] == fingerprint
        described = [source.describe() for source in open_sources(new)]
    except DataError:
        return False
    manifest = corpora.recorded_manifest(fingerprint, path)
    content = lambda sources: [(source["kind"], source["sha256"]) for source in sources]
    return manifest is None or content(described) == content(manifest["sources"])


def _same_tokenizer(recorded: Mapping[str, Any], run: RunConfig, workdir: Path) -> bool:
    """Whether a given tokenizer, read as the config says, gives the ids of the recorded one."""
    old, new = recorded["identity"], run.data
    tokenizer = old["data.tokenizer"] if "data.tokenizer" in run.unset else new.tokenizer
    now = {
        name: old.get(f"data.{name}") if f"data.{name}" in run.unset else getattr(new, name)
        for name in ("lowercase", "strip_accents", "language")
    }
    if tokenizer in corpora.TRAINED:
        return False
    try:
        return load_tokenizer(tokenizer, **now).has_fingerprint(_recorded_tokenizer(recorded, workdir))
    except ConfigError:
        same = all(value == old.get(f"data.{name}") for name, value in now.items())
        return tokenizer == old["data.tokenizer"] and same


def _recorded_tokenizer(recorded: Mapping[str, Any], workdir: Path) -> str | None:
    """The fingerprint of the run's tokenizer; runs that began before it was kept have it in their workdir."""
    known = fingerprints(recorded).get("tokenizer")
    return known or load_tokenizer(workdir / "tokenizer", recorded["identity"]["data.lowercase"]).fingerprint


def _same_origin(recorded: Mapping[str, Any], run: RunConfig, workdir: Path) -> bool:
    old, new = recorded["identity"]["init_from"], run.init_from
    if old is None or new is None:
        return False
    if place_of(str(old)) == place_of(new):
        return True
    found = origin_fingerprint(new)
    return found is not None and found == (fingerprints(recorded).get("init_from") or origin_fingerprint(str(old)))


BY_CONTENT: dict[str, SameContent] = {
    "precision": lambda recorded, run, workdir: run.precision == "auto",  # as decided when the run began
    "data.corpus": _same_corpus,
    "data.tokenizer": _same_tokenizer,
    "data.lowercase": _same_tokenizer,
    "init_from": _same_origin,
}
