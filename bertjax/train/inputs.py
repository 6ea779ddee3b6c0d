"""The corpus and tokenizer of a run: opened or prepared, checked against the config, and announced."""

from __future__ import annotations

from typing import Any

from bertjax.config import ConfigError, RunConfig
from bertjax.data import corpus as corpora
from bertjax.data.corpus import PreparedCorpus
from bertjax.data.files import DataError
from bertjax.parallel.processes import Processes
from bertjax.text.tokenizer import check_tokenizer
from bertjax.train.display import Display


def open_corpus(run: RunConfig, recorded: dict[str, Any] | None, display: Display) -> PreparedCorpus:
    """The prepared corpus of the run, made first where it is not there yet.

    A run that has begun keeps its corpus: it is found by the fingerprint on record, so that a source that has
    changed since (an upgraded package, say) does not break it. Raises ConfigError, DataError.
    """
    data = run.data
    corpus = None
    if recorded is not None:
        corpus = corpora.find_prepared(recorded["corpus"]["fingerprint"], recorded["corpus"]["path"])
    if corpus is None:
        display.say(f"corpus: {', '.join(data.corpus)}")
        corpus = corpora.prepare(
            data.corpus,
            None,
            tokenizer=data.tokenizer,
            vocab_size=run.model.vocab_size,
            lowercase=data.lowercase,
            sentencepiece_type=data.sentencepiece_type,
            held_out_fraction=data.held_out_fraction,
        )
    if recorded is not None and corpus.fingerprint != recorded["corpus"]["fingerprint"]:
        raise ConfigError(
            f"the corpus has changed since this run began (fingerprint {corpus.fingerprint[:12]}, "
            f"there {recorded['corpus']['fingerprint'][:12]}); bring it back or use --workdir=ANOTHER_DIR"
        )
    # A vocabulary that was learned on little text may be smaller than asked for; any other has its exact size.
    trained = (
        data.tokenizer in corpora.TRAINED and corpus.manifest["settings"].get("vocab_size") == run.model.vocab_size
    )
    check_tokenizer(corpus.tokenizer, run.model.vocab_size, trained)
    corpora.check_objective(corpus.train, data.objective)
    counts = corpus.manifest["counts"]
    display.say(
        f"corpus: {', '.join(data.corpus)} - {corpus.train.num_documents:,} documents, "
        f"{corpus.train.num_sentences:,} sentences, {corpus.train.num_tokens:,} tokens to train on; "
        f"{corpus.held_out.num_documents:,} documents held out ({corpus.path})"
    )
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


def open_corpus_together(
    run: RunConfig, recorded: dict[str, Any] | None, display: Display, processes: Processes
) -> PreparedCorpus:
    """The corpus of the run in every process: process 0 prepares it, the others wait and open what it made.

    Raises ConfigError, DataError; the latter where a process does not see the folder.
    """
    place, corpus = None, None
    if processes.first:
        corpus = open_corpus(run, recorded, display)
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
