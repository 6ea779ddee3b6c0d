"""Tokenises a corpus once, into a folder that any number of runs can train on.

SPEC is one of
  installed-docs          the built-in corpus: English prose from the docstrings of installed packages
  PATH or 'GLOB'          .txt (a blank line ends a document), .jsonl (field "text"), both also .gz .xz .zst;
                          .parquet (column "text")
  tfds:NAME, tfds:DIR     a TFDS data set stored as ArrayRecord (feature "text"); TensorFlow is not needed

Invalid UTF-8 and NUL bytes are replaced and counted; a file with more than 2 % of them is refused, and so is text if
more than a fifth of it is unknown to the tokenizer. About --held_out_fraction of the documents, chosen by a hash of
their text, are kept for evaluation. The same content and settings are prepared only once.

  python -m bertjax.prepare --input='wiki/*.jsonl.zst' --input=novels.txt --output=corpora/mine --vocab_size=30522
  python -m bertjax.train --config=configs/base.py --config.data.corpus=corpora/mine

Exit codes: 0 done; 2 usage; 3 the data cannot be used."""

import argparse

from bertjax.cli.command import ArgumentParser, guarded, integer, number_in
from bertjax.cli.showing import note, say


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.prepare", __doc__)
    add, boolean = parser.add_argument, {"type": _boolean, "nargs": "?", "const": True, "metavar": "BOOL"}
    add("--input", action="append", required=True, metavar="SPEC", help="a corpus; can be repeated")
    add("--output", required=True, metavar="DIR", help="the folder to make")
    add(
        "--tokenizer",
        default="wordpiece",
        metavar="KIND",
        help="wordpiece or sentencepiece (learned from the text), or the path of a vocab.txt, .model or folder",
    )
    add("--vocab_size", type=integer, default=30522, metavar="N", help="entries to learn (default 30522)")
    add("--lowercase", **boolean, help="lowercase the text (default true)")
    add(
        "--strip_accents",
        **boolean,
        help="take the marks off letters; by default decided from the text: if it is lowercased and Latin or Greek",
    )
    add(
        "--language",
        metavar="CODE",
        help="of the text, such as tr or de: whether marked letters are letters, and whether I is lowercased to ı",
    )
    add(
        "--character_coverage",
        type=number_in(0.9, 1.0),
        metavar="F",
        help="the share of characters in the vocabulary (default 1, but 0.9995 of an alphabet of over 300)",
    )
    add("--sentencepiece_type", choices=("unigram", "bpe"), default="unigram")
    add("--held_out_fraction", type=number_in(0.0, 0.5), default=0.02, metavar="F", help="default 0.02")
    return parser.run(argv, lambda options: guarded(lambda: _run(options)))


def _boolean(text: str) -> bool:
    words = dict.fromkeys(("true", "1", "yes"), True) | dict.fromkeys(("false", "0", "no"), False)
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"must be true or false, not {text!r}")
    return words[text.lower()]


def _run(options: argparse.Namespace) -> None:
    from bertjax.data.corpus.prepared import prepare
    from bertjax.data.corpus.text_warnings import cleaning_line, text_line, text_warnings
    from bertjax.data.stream.settings import ExampleSettings
    from bertjax.objectives.mlm_nsp import OBJECTIVE
    from bertjax.objectives.pair_cautions import facts_line, pair_lines, phase_pairs

    settings = {name: value for name, value in vars(options).items() if name not in ("input", "output")}
    corpus = prepare(options.input, options.output, **settings)
    counts = corpus.manifest["counts"]
    say(f"{corpus.path}: {corpus.tokenizer.kind} tokenizer of {corpus.tokenizer.vocab_size:,} entries")
    for line in [*cleaning_line(corpus), text_line(corpus)]:
        say(f"  {line}")
    for name, what in (("train", "to train on"), ("held_out", "held out")):
        part = counts[name]
        sizes = f"{part['documents']:,} documents, {part['sentences']:,} sentences, {part['tokens']:,} tokens"
        say(f"  {what}: {sizes}")
    if corpus.manifest["held_out"]["kind"] == "copy":
        say("  nothing could be held out: the held-out text is part of the text to train on")
    if counts["replaced_bytes"] or counts["skipped_lines"]:
        say(
            f"  {counts['replaced_bytes']:,} invalid bytes were replaced, "
            f"{counts['skipped_lines']:,} unreadable lines were skipped"
        )
    settings = ExampleSettings(OBJECTIVE.maker)
    pairs = phase_pairs(OBJECTIVE, corpus.train, {f"data.objective={OBJECTIVE.name}": settings})
    for facts in pairs.values():
        say(f"  in rows of {settings.sequence_length} tokens: {facts_line(OBJECTIVE, facts)}")
    for line in [*text_warnings(corpus, bool(options.lowercase)), *pair_lines(OBJECTIVE, corpus.train, pairs)]:
        note(f"warning: {line}")


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("prepare")
