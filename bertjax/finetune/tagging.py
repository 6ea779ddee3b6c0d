"""A tag for each word: learned and read at the word's first piece, long sentences in windows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax

from bertjax.finetune import objectives
from bertjax.finetune.batching import IGNORED, Rows, joined
from bertjax.finetune.classification import class_weights, labels_of
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import MOST_ERRORS, Decided, Labelled, Outcome, TaskSetup, compared
from bertjax.model.task import TaskConfig
from bertjax.tasks.entities import TagNames, are_entities, why_no_entities
from bertjax.tasks.examples import TaggedExample
from bertjax.tasks.labels import label_ids, unused_labels
from bertjax.tasks.windows import WordRow, word_rows
from bertjax.text.tokenizer import Tokenizer
from bertjax.text.words import encode_words


def tagging_setup(run: FinetuneConfig, data: Labelled) -> TaskSetup:
    """Raises DataError for missing tags, and unknown ones of the training data; ConfigError for class weights that do
    not fit."""
    names = labels_of(run, data.train)
    scored = TagNames.of(names, data.eval)
    task = TaskConfig("tagging", names, run.model.max_length, run.model.classifier_dropout)
    own, held_out = label_ids(data.train, names), label_ids(data.eval, scored)
    train, _ = _rows(data.train, own, data.tokenizer, task.max_length)
    # The loss leaves out words whose tag is unknown: no output stands for it.
    learnable = [np.where(tags < len(names), tags, IGNORED) for tags in held_out]
    evaluation, read = _rows(data.eval, learnable, data.tokenizer, task.max_length)
    weights = class_weights(run, names, np.bincount(np.concatenate(own), minlength=len(names)))

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        logits = [np.zeros((len(tags), len(names)), np.float32) for tags in held_out]
        for (sentence, row), found in zip(read, outputs, strict=True):
            logits[sentence][row.words] = found[row.positions]
        predictions = [one.argmax(axis=1) for one in logits]
        errors = lambda: _errors(data.eval, logits, predictions, held_out, scored)
        return compared("tagging", predictions, held_out, scored, errors)

    notes, windows, odd = [], len(train) - len(data.train), why_no_entities(names, data.train)
    now = are_entities(names)
    if windows:
        longer = f"sentences longer than config.model.max_length = {task.max_length} tokens"
        notes.append(f"{longer} make {windows:,} further windows")
    if not odd and not now:
        notes.append("the tags do not mark entities, as B-PER, I-PER and O do: words are scored, by accuracy")
    # Runs that chose their best checkpoint by words, as all but these tags were scored, do not go on by entities.
    of_before = "O" in names and all(name == "O" or name[:2] in ("B-", "I-", "E-", "S-") for name in names)
    return TaskSetup(
        task,
        objectives.classes(weights),
        ("accuracy",),
        train,
        evaluation,
        outcome,
        notes,
        decided={} if now == of_before else {"scores": Decided("of entities" if now else "of words")},
        cautions=[*unused_labels(data.train, names), *([odd] if odd else []), *scored.lines(data.eval)],
    )


def _rows(
    examples: Sequence[TaggedExample], tags: Sequence[np.ndarray], tokenizer: Tokenizer, max_length: int
) -> tuple[Rows, list[tuple[int, WordRow]]]:
    """(rows with their labels, the same rows as (number of the sentence, words that are read there))."""
    pieces = iter(encode_words(tokenizer, [word for example in examples for word in example.words]))
    read: list[tuple[int, WordRow]] = []
    labels: list[np.ndarray] = []
    for number, example in enumerate(examples):
        own = [next(pieces) for _ in example.words]
        for row in word_rows(own, tokenizer.cls_id, tokenizer.sep_id, max_length):
            label = np.full(len(row.input_ids), IGNORED, np.int32)
            label[row.positions] = tags[number][row.words]
            read.append((number, row))
            labels.append(label)
    rows = joined([(row.input_ids, [0] * len(row.input_ids)) for _, row in read])
    return replace(rows, token_labels={"labels": np.concatenate(labels)}), read


def _errors(
    examples: Sequence[TaggedExample],
    logits: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """The sentences with the surest wrong tag: the word in brackets, its tag, the predicted one, its probability."""
    found = []
    for example, own, ours, theirs in zip(examples, logits, predictions, labels, strict=True):
        wrong = np.where(ours != theirs, softmax(own.astype(np.float64), axis=-1).max(axis=1), 0.0)
        word = int(wrong.argmax())
        if wrong[word] > 0:
            shown = [f"[{w}]" if i == word else w for i, w in enumerate(example.words)]
            said = {"label": names[int(theirs[word])], "predicted": names[int(ours[word])]}
            found.append({"text": " ".join(shown)} | said | {"probability": float(wrong[word])})
    return sorted(found, key=lambda error: -error["probability"])[:MOST_ERRORS]
