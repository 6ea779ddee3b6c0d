"""``mlm``: how well a model predicts masked tokens of held-out text, beside the unigram baseline on the same positions.

The masks are those of pretraining, a pure function of the seed and of an example's place in the text; they depend on
the tokenizer and the row length, not on the batch size or the model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bertjax.cli.paths import given_path
from bertjax.cli.progress import ReportProgress
from bertjax.data.corpus import prepared as corpora
from bertjax.data.corpus.arrays import Corpus
from bertjax.data.corpus.building import corpus_of_documents
from bertjax.data.corpus.files import Report
from bertjax.data.corpus.sources import TextList, open_sources
from bertjax.data.corpus.staging import read_sentences
from bertjax.data.corpus.text_warnings import TextCounts, check_known, unknown_line
from bertjax.data.stream.pipeline import EVALUATION_SEED, evaluation_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import ConfigError, DataError, ModelFileError
from bertjax.evaluation.suite import Options, Read, Result, check_fits, measured, origin_of
from bertjax.inference.batches import ONE_DEVICE, Placement
from bertjax.interop.models import load_pair
from bertjax.model.bert import Bert, merge_params, split_params
from bertjax.objectives import mlm
from bertjax.objectives.losses import weighted_cross_entropy
from bertjax.objectives.objective import unigram_log_probs
from bertjax.text.coverage import REFUSE_ABOVE, WARN_ABOVE, unknown_warning
from bertjax.text.tokenizer import Tokenizer
from bertjax.workdir.config_json import recorded_config

OPTIONS = ("limit", "max_length", "batch_tokens", "seed")
FORMATS = {"loss": ".4f", "perplexity": ".2f", "accuracy": ".2%", "unigram_loss": ".4f", "gain": ".4f"}
load = partial(load_pair, for_pretraining=True, required=("mlm_head",))
_ROW_LENGTH = 128  # that of the first phase of pretraining: every model has seen it
_MASKED = 0.15
_SAMPLE_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class HeldOut:
    """Text to predict. unigram: log probabilities float64 [V] of the baseline. facts: for the result."""

    corpus: Corpus
    settings: ExampleSettings
    unigram: np.ndarray
    facts: dict[str, Any]


def read(data: Any, tokenizer: Tokenizer, model: Bert, options: Options) -> Read:
    """The held-out split of a prepared corpus, or all text of a corpus SPEC or a list of texts, as ``HeldOut``.

    The baseline counts the training split of a prepared corpus. For other text it counts the text itself: no unigram
    model can do better there. Raises DataError, ConfigError.
    """
    check_fits(model, tokenizer, masked_lm=True)
    longest = model.config.max_position_embeddings
    length = options.max_length or min(_ROW_LENGTH, longest)
    if length > longest:
        raise ConfigError(f"max_length = {length} is longer than the model, which takes {longest} tokens")
    settings = ExampleSettings(
        mlm.OBJECTIVE.maker, length, max_predictions=round(length * _MASKED + 0.5), max_examples_per_row=16
    )
    if isinstance(data, str | Path) and corpora.is_prepared_spec(data):
        prepared = corpora.open_prepared(data)
        if prepared.tokenizer.fingerprint != tokenizer.fingerprint:
            raise DataError(f"prepared corpus {data} was made with another tokenizer than the model's; give the text")
        text = TextCounts.of(prepared)
        check_known(text, tokenizer)
        warnings = [unknown_line(text, tokenizer)] if text.known.share > WARN_ABOVE else []
        corpus, unigram = prepared.held_out, unigram_log_probs(prepared.token_counts)
        # How the text came to be held out; "copy" is training text.
        facts = {"held_out_kind": prepared.manifest["held_out"]["kind"]}
    elif isinstance(data, str | Path | Iterable):
        report = Report()
        sources = open_sources([data]) if isinstance(data, str | Path) else [TextList(list(data))]
        sample: list[str] = []
        corpus = corpus_of_documents(_kept(read_sentences(sources, report), sample), tokenizer)
        share, line = unknown_warning(tokenizer, sample, "the text")
        if line is not None and share > REFUSE_ABOVE:
            raise DataError(line)  # the score would be that of predicting [UNK]
        if not corpus.num_tokens:
            raise DataError(f"{origin_of(data)}: there is no text in it")
        counts = np.bincount(corpus.tokens, minlength=tokenizer.vocab_size)
        unigram = np.log(np.maximum(counts, 1) / counts.sum())
        facts = {"held_out_kind": "given", "replaced_bytes": report.replaced_bytes}
        facts |= {"skipped_lines": report.skipped_lines}
        warnings = [*report.damaged, *([line] if line else [])]
    else:
        raise ConfigError(f"data must be a corpus SPEC or a list of texts, not {type(data).__name__}")
    facts = {"documents": corpus.num_documents, "tokens": corpus.num_tokens} | facts
    return HeldOut(corpus, settings, unigram, facts), warnings


def _kept(documents: Iterable[list[str]], sample: list[str]) -> Iterator[list[str]]:
    """The documents; about the first million characters of them are kept in ``sample``."""
    size = 0
    for document in documents:
        if size < _SAMPLE_CHARACTERS:
            sample += document
            size += sum(map(len, document))
        yield document


def score(
    model: Bert,
    tokenizer: Tokenizer,
    text: HeldOut,
    options: Options,
    show: ReportProgress,
    placement: Placement = ONE_DEVICE,
) -> Result:
    """loss (nats), perplexity, accuracy, unigram_loss and gain = unigram_loss - loss; ``limit`` counts rows. Intervals:
    rows are drawn."""
    length = text.settings.sequence_length
    size, most = placement.rows(options.tokens_at_once // length), options.limit or 2**62
    graphdef, params = split_params(model)
    columns: list[list[np.ndarray]] = []
    expected = min(most, -(-text.corpus.num_tokens // length))  # about: rows hold special tokens as well
    batches = evaluation_batches(text.corpus, tokenizer, text.settings, size, most, EVALUATION_SEED + options.seed)
    results = placement.results(partial(_row_sums, graphdef, params), ((batch, batch) for batch in batches))
    for number, (batch, (losses, hits)) in enumerate(results, start=1):
        weights = batch["masked_lm_weights"]
        baseline = -(text.unigram[batch["masked_lm_ids"]] * weights).sum(axis=1)
        used = weights.any(axis=1)
        columns.append([values[used].astype(np.float64) for values in (losses, hits, baseline, weights.sum(axis=1))])
        show("predicting masked tokens", min(number * size, expected), expected)
    losses, hits, baseline, masked = (np.concatenate(column) for column in zip(*columns, strict=True))
    if not len(masked):
        raise DataError("the text is too short: it has no token to mask")
    scores = measured(_means, [losses, hits, baseline, masked], options.seed)
    return Result(scores, facts=text.facts | {"rows": len(masked), "masked_tokens": int(masked.sum())})


def _means(losses: np.ndarray, hits: np.ndarray, baseline: np.ndarray, masked: np.ndarray) -> dict[str, float]:
    loss, unigram = losses.sum() / masked.sum(), baseline.sum() / masked.sum()
    return {
        "loss": loss,
        "perplexity": np.exp(loss),
        "accuracy": hits.sum() / masked.sum(),
        "unigram_loss": unigram,
        "gain": unigram - loss,
    }


@partial(jax.jit, static_argnums=0)
def _row_sums(graphdef: Any, params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    """Sums over the masked tokens of each row: losses in nats and hits, float32 [B]."""
    logits: Any = merge_params(graphdef, params).on_batch(batch).mlm_logits
    return jax.vmap(weighted_cross_entropy)(logits, batch["masked_lm_ids"], batch["masked_lm_weights"])


def data_of(path: str | Path) -> Path | None:
    """The prepared corpus that the run in a workdir was trained on, if it still exists."""
    recorded = recorded_config(given_path(path, "model", ModelFileError), needed=("identity",))
    if recorded is None or "corpus" not in recorded:  # no run, or one of fine-tuning
        return None
    found = corpora.find_prepared(recorded["corpus"]["fingerprint"], recorded["corpus"]["path"])
    return None if found is None else found.path
