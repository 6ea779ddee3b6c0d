"""Makes a prepared corpus in a folder: read, learn the vocabulary, tokenise, split, write."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.progress_bar import ReportProgress
from bertjax.data.corpus import manifest as manifests
from bertjax.data.corpus.files import Report
from bertjax.data.corpus.held_out import Part, Split, split
from bertjax.data.corpus.index import write_index, write_token_counts
from bertjax.data.corpus.shards import SPLITS, Example, write_shards
from bertjax.data.corpus.sources import Source
from bertjax.data.corpus.staging import Spool, Staged, read_sentences, tokenize
from bertjax.data.corpus.text_cautions import TextCounts, check_known, counts_of_text
from bertjax.errors import DataError
from bertjax.text.accents import Accents, decide
from bertjax.text.tokenizer import Tokenizer
from bertjax.text.vocabulary import SAMPLE_CHARACTERS, TextSample, train_tokenizer


def build(
    folder: Path,
    sources: list[Source],
    tokenizer: Tokenizer | None,
    settings: dict[str, Any],
    manifest: dict[str, Any],
    total: int,
    show: ReportProgress,
) -> None:
    """Makes the whole corpus in ``folder``."""
    report = Report()
    work = folder / "work"
    work.mkdir()
    documents = _with_progress(read_sentences(sources, report), report, total, show)
    trained = tokenizer is None
    if tokenizer is None:
        kind = settings["tokenizer"]
        sample, spool = TextSample(SAMPLE_CHARACTERS[kind]), Spool(work / "spool")
        for document in spool.keep(documents):
            sample.add(document)
        _check_not_empty(report, sources)
        show("learning the vocabulary", 0, 0)
        tokenizer, accents = _learned(sample.sentences(), settings)
        manifest["cleaning"] = dataclasses.asdict(accents)
        del sample
        documents = _counted(spool.read(), report.documents, show)
    staged = tokenize(documents, tokenizer, work)
    _check_not_empty(report, sources, staged)
    text = counts_of_text(staged.known, staged.entries_used(tokenizer.vocab_size), tokenizer, trained)
    check_known(TextCounts.from_counts(text, tokenizer, settings.get("vocab_size")), tokenizer)
    tokenizer.save(folder / "tokenizer")
    chosen = split(staged, settings["held_out_fraction"])
    _write(folder, staged, chosen, tokenizer, show)
    counts = _counts(staged, chosen, report) | {"text": text}
    del staged
    shutil.rmtree(work)
    show("checking", 0, 0)
    files = manifests.describe_files(folder, (path for path in folder.rglob("*") if path.is_file()))
    manifest |= {
        "fingerprint": manifests.fingerprint_of(files, tokenizer.fingerprint),
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "lowercase": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents,
            "dotless_i": tokenizer.dotless_i,
            "trained": trained,
            "fingerprint": tokenizer.fingerprint,
        },
        "counts": counts,
        "held_out": {"kind": chosen.kind},
        "versions": manifests.versions(),
        "files": files,
    }
    manifests.write(folder, manifest)


def _learned(sentences: list[str], settings: dict[str, Any]) -> tuple[Tokenizer, Accents]:
    """The vocabulary of ``sentences``, and what was decided about the marks of its letters."""
    lowercase, language = settings["lowercase"], settings["language"]
    accents = decide(sentences, lowercase, settings["strip_accents"], language)
    model_type = settings.get("sentencepiece_type", "unigram")
    kind, size = settings["tokenizer"], settings["vocab_size"]
    coverage = settings["character_coverage"]
    tokenizer = train_tokenizer(kind, sentences, size, lowercase, model_type, accents.strip, language, coverage)
    return tokenizer, accents


def _write(folder: Path, staged: Staged, chosen: Split, tokenizer: Tokenizer, show: ReportProgress) -> None:
    """Shards and index from the staged files."""
    parts: dict[str, list[Part]] = {"train": chosen.train, "held_out": chosen.held_out}
    done, total = 0, sum(map(len, parts.values()))

    def examples(name: str) -> Iterator[Example]:
        return _examples(staged, parts[name])

    def on_document() -> None:
        nonlocal done
        done += 1
        if done % 100 == 0:
            show("writing", done, total)

    words = staged.word_starts is not None
    write_shards(folder, staged.tokens.dtype, examples, on_document, words)
    index = folder / "index"
    index.mkdir()
    for name in SPLITS:
        write_index(index, name, examples(name), staged.tokens.dtype, *_totals(parts[name]), words)
    write_token_counts(index, tokenizer.vocab_size)


def _examples(staged: Staged, parts: list[Part]) -> Iterator[Example]:
    for part in parts:
        example = {
            "tokens": np.asarray(staged.tokens[part.first_token : part.last_token]),
            "sentence_lengths": np.asarray(staged.sentence_lengths[part.first_sentence : part.last_sentence]),
        }
        if staged.word_starts is not None:
            bits = staged.word_starts[part.first_token : part.last_token]
            example["word_starts"] = np.packbits(bits, bitorder="little")
        yield example


def _totals(parts: list[Part]) -> tuple[int, int]:
    tokens = sum(part.last_token - part.first_token for part in parts)
    return tokens, sum(part.last_sentence - part.first_sentence for part in parts)


def _counts(staged: Staged, chosen: Split, report: Report) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "documents": staged.num_documents,
        "sentences": len(staged.sentence_lengths),
        "tokens": len(staged.tokens),
        "replaced_bytes": report.replaced_bytes,
        "skipped_lines": report.skipped_lines,
        "damaged": report.damaged,
    }
    for name, parts in (("train", chosen.train), ("held_out", chosen.held_out)):
        tokens, sentences = _totals(parts)
        counts[name] = {"documents": len(parts), "sentences": sentences, "tokens": tokens}
    return counts


def _check_not_empty(report: Report, sources: list[Source], staged: Staged | None = None) -> None:
    if report.documents == 0 or (staged is not None and staged.num_documents == 0):
        names = ", ".join(source.name for source in sources[:3]) + (", ..." if len(sources) > 3 else "")
        raise DataError(f"the corpus is empty: there is no text in {names}")


def _with_progress(
    documents: Iterable[list[str]], report: Report, total: int, show: ReportProgress
) -> Iterator[list[str]]:
    show("reading", 0, total)
    for document in documents:
        yield document
        show("reading", min(report.bytes_read, total), total)
    show("reading", total, total)


def _counted(documents: Iterable[list[str]], total: int, show: ReportProgress) -> Iterator[list[str]]:
    for done, document in enumerate(documents):
        yield document
        show("tokenising", done + 1, total)
