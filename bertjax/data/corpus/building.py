"""Makes a prepared corpus in a folder: read, learn the vocabulary, tokenise, split, write."""

import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.progress import ReportProgress
from bertjax.data.corpus import manifest as manifests
from bertjax.data.corpus.arrays import Corpus, token_counts, write_arrays
from bertjax.data.corpus.files import Report
from bertjax.data.corpus.sources import Source
from bertjax.data.corpus.staging import read_sentences, read_spool, split, spooled, tokenize
from bertjax.data.corpus.text_warnings import TextCounts, check_known
from bertjax.errors import DataError
from bertjax.text.accents import Accents, decide
from bertjax.text.sentences import split_sentences
from bertjax.text.tokenizer import Tokenizer
from bertjax.text.vocabulary import SAMPLE_CHARACTERS, TextSample, train_tokenizer

_OF_TOKENIZER = ("kind", "vocab_size", "lowercase", "strip_accents", "dotless_i")


def build(
    folder: Path, sources: list[Source], tokenizer: Tokenizer | None, manifest: dict[str, Any], show: ReportProgress
) -> None:
    """Makes the whole corpus in ``folder``. tokenizer: None learns one. manifest: what is known beforehand, its
    sources and settings."""
    report, settings = Report(), manifest["settings"]
    total = sum(source["size"] for source in manifest["sources"])
    work = folder / "work"
    work.mkdir()
    read = lambda: min(report.bytes_read, total)
    documents = _shown(read_sentences(sources, report), "reading", read, total, show)
    trained = tokenizer is None
    if tokenizer is None:
        sample = TextSample(SAMPLE_CHARACTERS[settings["tokenizer"]])
        for document in spooled(documents, work / "spool"):
            sample.add(document)
        _check_not_empty(report.documents, sources)
        show("learning the vocabulary", 0, 0)
        tokenizer, accents = _learned(sample.sentences(), settings)
        manifest["cleaning"] = dataclasses.asdict(accents)
        del sample
        done = itertools.count(1).__next__
        documents = _shown(read_spool(work / "spool"), "tokenising", done, report.documents, show)
    staged = tokenize(documents, tokenizer, work)
    _check_not_empty(len(staged.document_hashes), sources)
    used = token_counts(staged.tokens, tokenizer.vocab_size)
    text = TextCounts.counted(staged.known, used, tokenizer, settings.get("vocab_size"))
    check_known(text, tokenizer)
    tokenizer.save(folder / "tokenizer")
    show("writing", 0, 0)
    split_kind, train, held_out = split(staged, settings["held_out_fraction"])
    splits = {"train": train, "held_out": held_out}
    write_arrays(folder, staged, splits, tokenizer.vocab_size, work)
    counts = {
        "documents": len(staged.document_hashes),
        "sentences": len(staged.sentence_lengths),
        "tokens": len(staged.tokens),
        "replaced_bytes": report.replaced_bytes,
        "skipped_lines": report.skipped_lines,
        "damaged": report.damaged,
        **{name: ranges.counts() for name, ranges in splits.items()},
        "text": text.recorded(),
    }
    del staged
    shutil.rmtree(work)
    show("checking", 0, 0)
    files = manifests.describe_files(folder, (path for path in folder.rglob("*") if path.is_file()))
    manifest |= {
        "fingerprint": manifests.fingerprint_of(files, tokenizer.fingerprint),
        "tokenizer": {name: getattr(tokenizer, name) for name in _OF_TOKENIZER}
        | {"trained": trained, "fingerprint": tokenizer.fingerprint},
        "counts": counts,
        "held_out": {"kind": split_kind},
        "versions": manifests.versions(),
        "files": files,
    }
    manifests.write(folder, manifest)


def corpus_of(texts: Iterable[str], tokenizer: Tokenizer) -> Corpus:
    """The texts as a corpus in memory, one document each, without those that have no tokens."""
    return corpus_of_documents(filter(None, map(split_sentences, texts)), tokenizer)


def corpus_of_documents(documents: Iterable[list[str]], tokenizer: Tokenizer) -> Corpus:
    """Documents given as lists of sentences, tokenised, in memory; without those that have no tokens."""
    with tempfile.TemporaryDirectory() as folder:
        staged = tokenize(documents, tokenizer, Path(folder))
        names = ("tokens", "sentence_lengths", "document_sentences", "document_tokens")
        words = None if staged.word_starts is None else np.packbits(staged.word_starts, bitorder="little")
        arrays = (np.array(getattr(staged, name)) for name in names)
        return Corpus(*arrays, fingerprint="in memory", word_starts=words)


def _learned(sentences: list[str], settings: dict[str, Any]) -> tuple[Tokenizer, Accents]:
    """The vocabulary of ``sentences``, and what was decided about the marks on letters."""
    model_type = settings.get("sentencepiece_type", "unigram")
    names = ("tokenizer", "vocab_size", "lowercase", "language", "character_coverage")
    kind, size, lowercase, language, coverage = (settings[name] for name in names)
    accents = decide(sentences, lowercase, settings["strip_accents"], language)
    return train_tokenizer(kind, sentences, size, lowercase, model_type, accents.strip, language, coverage), accents


def _check_not_empty(documents: int, sources: list[Source]) -> None:
    if documents == 0:
        names = ", ".join(source.name for source in sources[:3]) + (", ..." if len(sources) > 3 else "")
        raise DataError(f"the corpus is empty: there is no text in {names}")


def _shown(
    documents: Iterable[list[str]], what: str, done: Callable[[], int], total: int, show: ReportProgress
) -> Iterator[list[str]]:
    """Passes documents on and shows after each how much is done."""
    show(what, 0, total)
    for document in documents:
        yield document
        show(what, done(), total)
    show(what, total, total)
