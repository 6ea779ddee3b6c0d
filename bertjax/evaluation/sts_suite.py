"""``sts``: do similar texts have similar embeddings? Cosines against human scores.

Rank correlation (Spearman) and linear correlation (Pearson), both times 100, as papers on the STS benchmark report
them; nothing is trained.
"""

import contextlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.paths import given_path
from bertjax.cli.progress import ReportProgress
from bertjax.config import nearest
from bertjax.data.corpus.files import ending
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.suite import Options, Read, Result, Score, check_fits, column_names, scored
from bertjax.inference.batches import ONE_DEVICE, Placement
from bertjax.inference.embed import embed
from bertjax.interop.models import load_pair, model_folder
from bertjax.interop.sentence_transformers import embedding_settings
from bertjax.model.bert import Bert
from bertjax.model.task import POOLINGS
from bertjax.tasks.examples import TextExample, Warn, text_examples
from bertjax.tasks.records import DELIMITED
from bertjax.tasks.scores import undefined_scores
from bertjax.tasks.tables import Columns, read_texts
from bertjax.text.coverage import unknown_warning
from bertjax.text.tokenizer import Tokenizer

OPTIONS = ("limit", "max_length", "pooling", "columns", "batch_tokens", "seed")
FORMATS = {"spearman": ".2f", "pearson": ".2f"}
_LEAST_LENGTH = 5  # of embed
_TEXT_LENGTH = 32  # tokens of a batch for each text, about
_TEXTS_AT_ONCE = 512  # between two updates of the progress


def read(data: Any, tokenizer: Tokenizer, model: Bert, options: Options) -> Read:
    """``TextExample``s: the first ``limit`` pairs of a .csv, .tsv or .jsonl file, or of a list of (text, text, score).

    Columns are found by their usual names; a file without a header holds text, text, score unless ``options.columns``
    says otherwise. Raises DataError that names file and line.
    """
    check_fits(model, tokenizer, masked_lm=False)
    if options.pooling not in POOLINGS:
        raise ConfigError(f"pooling = {options.pooling!r}; {nearest(str(options.pooling), POOLINGS)}")
    if options.max_length is not None and options.max_length < _LEAST_LENGTH:
        raise ConfigError(f"max_length = {options.max_length} is too small; the least is {_LEAST_LENGTH}")
    warnings: list[str] = []
    if isinstance(data, str | Path):
        path = given_path(data, "data", DataError)
        examples = read_texts(path, _columns(path, options.columns), "regression", warnings.append)
    else:
        examples = _in_memory(data, warnings.append)
    if single := next((example for example in examples if example.second is None), None):
        raise DataError(f"{single.where}: one text; a pair has two and a score")
    pairs = examples[: options.limit]
    if len({pair.label for pair in pairs}) < 2:
        raise DataError(f"{pairs[0].where}: all scores are the same, so nothing can correlate with them")
    _, line = unknown_warning(
        tokenizer, [*(pair.text for pair in pairs), *(pair.second for pair in pairs)], "the texts"
    )
    return pairs, warnings + ([line] if line else [])


def score(
    model: Bert,
    tokenizer: Tokenizer,
    pairs: list[TextExample],
    options: Options,
    show: ReportProgress,
    placement: Placement = ONE_DEVICE,
) -> Result:
    """spearman and pearson correlation of cosines and human scores, times 100."""
    sides: Any = [pair.text for pair in pairs], [pair.second for pair in pairs]
    texts = list(dict.fromkeys(itertools.chain(*sides)))
    place = {text: index for index, text in enumerate(texts)}
    vectors = []
    size = placement.rows(options.tokens_at_once // _TEXT_LENGTH)
    settings = {"batch_size": size, "pooling": options.pooling, "max_length": options.max_length, "normalize": True}
    settings["placement"] = placement
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        vectors.append(embed(model, tokenizer, texts[begin : begin + _TEXTS_AT_ONCE], **settings))
        show("embedding texts", min(begin + _TEXTS_AT_ONCE, len(texts)), len(texts))
    rows = np.concatenate(vectors).astype(np.float64)
    one, other = (rows[[place[text] for text in side]] for side in sides)
    cosines, scores = (one * other).sum(axis=1), np.array([pair.label for pair in pairs], np.float64)
    found = scored("embedding", cosines, scores, (), options.seed)
    none = undefined_scores("embedding", cosines, scores)
    times_100 = {n: Score(100 * s.value, 100 * s.low, 100 * s.high, s.count) for n, s in found.items() if n not in none}
    return Result(times_100, facts={"texts": len(texts)}, undefined=none)


def _columns(path: Path, given: str | None) -> Columns:
    """The given columns, or numbers for a file without a header; else none, to be found by their usual names."""
    names = column_names(given, (3,), "three names or numbers: text,text,score")
    if names or ending(path) not in DELIMITED:
        return Columns(*names)
    _, cells = next(DELIMITED[ending(path)](path), (1, []))
    with contextlib.suppress(ValueError):
        float(cells[2] if len(cells) == 3 else "")
        return Columns("0", "1", "2")
    return Columns()


def _in_memory(data: Any, warn: Warn) -> list[TextExample]:
    if not isinstance(data, Iterable):
        raise ConfigError(f"data must be a path or a list of (text, text, score), not {type(data).__name__}")
    rows = list(data)
    for index, row in enumerate(rows):
        if not isinstance(row, tuple | list) or len(row) != 3:
            raise DataError(f"data[{index}]: must be (text, text, score)")
    return text_examples([row[:2] for row in rows], [row[2] for row in rows], kind="regression", warn=warn)


def load(path: str | Path) -> tuple[Bert, Tokenizer]:
    embedding_settings(model_folder(path), 1)  # refuses modules that compute other vectors
    return load_pair(path, for_pretraining=False)
