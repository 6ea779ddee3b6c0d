"""``blimp``: which of two sentences that differ in one thing is more probable, the acceptable one?

BLiMP, Warstadt et al. 2020. The score of a sentence is its pseudo-log-likelihood; a pair is right if the good sentence
scores strictly higher, as in the paper. A tie is wrong, since half a point for it would reward tokenizers that lose the
difference. Ties are counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cli.paths import given_path
from bertjax.cli.progress import ReportProgress
from bertjax.data.corpus.files import ending
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.pseudo_likelihood import SPECIAL_TOKENS, pseudo_log_likelihoods
from bertjax.evaluation.suite import Examples, Options, Result, Suite, check_fits, measured, origin_of
from bertjax.inference.batches import ONE_DEVICE, Placement
from bertjax.interop.models import load_pair
from bertjax.model.bert import Bert
from bertjax.tasks.examples import check_text
from bertjax.tasks.records import json_objects
from bertjax.text.coverage import unknown_warning
from bertjax.text.tokenizer import Tokenizer

SENTENCES = ("sentence_good", "sentence_bad")
GROUPS = ("field", "linguistics_term", "UID")  # coarse to fine; ``limit`` counts in the last, the phenomenon


@dataclass(frozen=True)
class MinimalPair:
    """good, bad: token ids without special tokens. groups: those of ``GROUPS`` that the data has, in that order."""

    good: list[int]
    bad: list[int]
    groups: dict[str, str]


def read_pairs(data: Any, tokenizer: Tokenizer, model: Bert, options: Options) -> Examples:
    """``MinimalPair`` s from a file or folder, or a list of mappings or of (good, bad); ``limit`` of each phenomenon.

    Raises DataError that names file and line.
    """
    check_fits(model, tokenizer, masked_lm=True)
    kept: list[tuple[str, Mapping[str, Any]]] = []
    seen: Counter[str] = Counter()
    groups: list[str] | None = None
    for where, record in _records(data):
        if groups is None:
            groups = [name for name in GROUPS if name in record]
        for name in (*SENTENCES, *groups):
            if name not in record:
                raise DataError(f"{where}: no field {name!r}; a pair has {', '.join((*SENTENCES, *groups))}")
            check_text(record[name], where, f"{name!r}")
        phenomenon = record.get(GROUPS[-1], "")
        seen[phenomenon] += 1
        if options.limit is None or seen[phenomenon] <= options.limit:
            kept.append((where, record))
    if not kept:
        raise DataError(f"{origin_of(data)}: it holds no pairs of sentences")
    _, line = unknown_warning(tokenizer, (record[name] for _, record in kept for name in SENTENCES), "the sentences")
    ids = tokenizer.encode_batch([record[name] for _, record in kept for name in SENTENCES])
    pairs = []
    for index, (where, record) in enumerate(kept):
        good, bad = ids[2 * index : 2 * index + 2]
        for name, tokens in zip(SENTENCES, (good, bad), strict=True):
            if not tokens:
                raise DataError(f"{where}: {name!r} has no tokens")
            length, longest = len(tokens) + SPECIAL_TOKENS, model.config.max_position_embeddings
            if length > longest:
                raise DataError(
                    f"{where}: {name!r} has {length} tokens with [CLS] and [SEP]; the model takes {longest}"
                )
        pairs.append(MinimalPair(good, bad, {name: record[name] for name in groups or ()}))
    return Examples(pairs, [] if line is None else [line])


def score_pairs(
    model: Bert,
    tokenizer: Tokenizer,
    pairs: list[MinimalPair],
    options: Options,
    show: ReportProgress,
    placement: Placement = ONE_DEVICE,
) -> Result:
    """Accuracy on all pairs, and in every group."""
    sentences = [sentence for pair in pairs for sentence in (pair.good, pair.bad)]
    settings: dict[str, Any] = {"batch_tokens": options.tokens_at_once, "show": show, "placement": placement}
    scores = pseudo_log_likelihoods(model, tokenizer, sentences, **settings)
    good, bad = scores[::2], scores[1::2]
    right = (good > bad).astype(np.float64)
    accuracy = lambda chosen: measured(lambda right: {"accuracy": right.mean()}, [right[chosen]], options.seed)
    groups = {}
    for heading in pairs[0].groups:
        names = np.array([pair.groups[heading] for pair in pairs])
        groups[heading] = {str(name): accuracy(names == name)["accuracy"] for name in np.unique(names)}
    facts = {"pairs": len(pairs), "ties": int((good == bad).sum()), "masked_rows": sum(map(len, sentences))}
    return Result(accuracy(slice(None)), groups, facts)


def _records(data: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(data, str | Path):
        for path in _files(given_path(data, "data", DataError)):
            yield from ((f"{path}:{number}", record) for number, record in json_objects(path))
        return
    if not isinstance(data, Iterable):
        raise ConfigError(f"data must be a path or a list of pairs, not {type(data).__name__}")
    for index, pair in enumerate(data):
        if isinstance(pair, tuple | list) and len(pair) == 2:
            pair = dict(zip(SENTENCES, pair, strict=True))
        if not isinstance(pair, Mapping):
            raise DataError(f"data[{index}]: a pair is (good, bad) or a mapping with {' and '.join(SENTENCES)}")
        yield f"data[{index}]", pair


def _files(path: Path) -> list[Path]:
    """The file itself, or those of a folder: BLiMP is released with a file for each phenomenon."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if ending(file) == ".jsonl")
    if not files:
        raise DataError(f"{path} holds no .jsonl file")
    return files


SUITE = Suite(
    load=partial(load_pair, for_pretraining=True, required=("mlm_head",)),
    read=read_pairs,
    score=score_pairs,
    options=("limit", "batch_tokens", "seed"),
    formats={"accuracy": ".2%"},
)
