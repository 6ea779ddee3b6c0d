"""The tasks of ``python -m bertjax.predict``: what each reads, computes and prints."""

import argparse
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bertjax.cli.showing import plain, plain_text, say
from bertjax.errors import ConfigError, ModelFileError
from bertjax.inference.answer import answer
from bertjax.inference.classify import classify
from bertjax.inference.embed import embed, similarity
from bertjax.inference.encoding import mask_pattern
from bertjax.inference.fill_mask import fill_mask
from bertjax.inference.json_lines import Read, Work
from bertjax.inference.tag import tag
from bertjax.interop.models import load_pair
from bertjax.interop.task_models import is_task_model, load_task_model
from bertjax.model.task import POOLED
from bertjax.tasks.entities import are_entities
from bertjax.text.coverage import unknown_warning
from bertjax.text.tokenizer import Tokenizer

_MOST_LABELS = 5  # shown for a text


@dataclasses.dataclass(frozen=True)
class PredictionTask:
    """load: path -> (model, tokenizer). read: see ``json_lines``. predict: model, tokenizer, items and ``settings``,
    which are options of the command, -> a JSON object for each item. show: prints one for a person."""

    load: Callable[[str], tuple[Any, Any]]
    read: Read
    predict: Callable[..., list[dict[str, Any]]]
    settings: tuple[str, ...]
    show: Callable[[dict[str, Any]], None] | None = None

    def open(self, options: argparse.Namespace, warn: Callable[[str], None]) -> Work:
        """The task with the model of ``options``. Raises ConfigError for options that do not fit the model."""
        model, tokenizer = self.load(options.model)
        settings = {name: getattr(options, name) for name in ("batch_size", *self.settings)}
        if (top_k := settings.get("top_k", 1)) > tokenizer.vocab_size:
            raise ConfigError(f"--top_k={top_k} is more than the {tokenizer.vocab_size} entries of the vocabulary")
        if settings.get("max_length") is not None and settings["max_length"] < 5:
            raise ConfigError(f"--max_length={settings['max_length']} is too small; the least is 5")
        return warning_of_unknown(partial(self.predict, model, tokenizer, **settings), tokenizer, warn)


def warning_of_unknown(work: Work, tokenizer: Tokenizer, warn: Callable[[str], None]) -> Work:
    """``work`` that warns once, for the first batch of texts with more than 1 % of unknown characters."""
    masks, has_warned = mask_pattern(tokenizer), False

    def warning(items: list[Any]) -> list[dict[str, Any]]:
        nonlocal has_warned
        if not has_warned:
            _, line = unknown_warning(tokenizer, [masks.sub(" ", text) for text in _strings(items)], "the texts")
            if line is not None:
                has_warned = True
                warn(line)
        return work(items)

    return warning


def _strings(items: Any) -> Iterator[str]:
    """The strings in texts, pairs of texts and lists of words, without half surrogate pairs."""
    if isinstance(items, str):
        yield items.encode(errors="ignore").decode()
    elif isinstance(items, list | tuple):
        for item in items:
            yield from _strings(item)


def _load_pretrained(path: str) -> tuple[Any, Any]:
    with warnings.catch_warnings(action="ignore"):  # of heads that the task does not use
        return load_pair(path, for_pretraining=True, required=("mlm_head",))


def _load(path: str, *kinds: str, encoders: bool = False) -> tuple[Any, Any]:
    """A model for one of these kinds of tasks, for any without them; ``encoders``: or one without a task."""
    if encoders and not is_task_model(path):
        with warnings.catch_warnings(action="ignore"):
            return load_pair(path, for_pretraining=False)
    model, tokenizer = load_task_model(path)
    if kinds and model.task.kind not in kinds:
        raise ModelFileError(f"{path} is a model for {model.task.kind}; this needs one for {' or '.join(kinds)}")
    return model, tokenizer


def _fields(*names: str, error: str) -> Read:
    """Reads objects with these strings; a string that is not in an object is the only one, a list of strings is all of
    them."""

    def read(value: Any) -> tuple[dict[str, Any], Any]:
        if isinstance(value, str) and len(names) == 1:
            value = {names[0]: value}
        if isinstance(value, list) and len(value) == len(names) == 2 and "text" in names:
            value = dict(zip(names, value, strict=True))
        if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in names):
            raise ValueError(f"must be {error}")
        return value, value[names[0]] if len(names) == 1 else tuple(value[name] for name in names)

    return read


read_text = _fields("text", error='an object with a string "text", or a string')
read_pair = _fields("text", "second", error='an object with the strings "text" and "second", or a list of two strings')
read_question = _fields("question", "context", error='an object with the strings "question" and "context"')


def read_text_or_pair(value: Any) -> tuple[dict[str, Any], Any]:
    """What ``read_text`` or ``read_pair`` takes."""
    is_pair = isinstance(value, list) or (isinstance(value, dict) and value.get("second") is not None)
    return (read_pair if is_pair else read_text)(value)


def read_words(value: Any) -> tuple[dict[str, Any], Any]:
    """What ``read_text`` takes, or {"words": ["...", ...]} or ["...", ...]."""
    record = {"words": value} if isinstance(value, list) else value
    if not isinstance(record, dict) or "words" not in record:
        return read_text(value)
    words = record["words"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError('"words" must be a list of strings')
    return record, words


def _rounded(value: Any) -> Any:
    """A JSON value, or the fields of a result, with numbers of six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _rounded(dataclasses.asdict(value))
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _fill_mask(model: Any, tokenizer: Any, texts: list[Any], **settings: Any) -> list[dict[str, Any]]:
    filled = fill_mask(model, tokenizer, texts, **settings)
    return [{"fillings": _rounded(masks if isinstance(masks[0], list) else [masks])} for masks in filled]


def _embed(model: Any, tokenizer: Any, texts: list[Any], **settings: Any) -> list[dict[str, Any]]:
    # Nine digits hold a float32 to its last bit.
    digits = lambda vector: [float(f"{x:.9g}") for x in vector]
    return [{"embedding": digits(vector)} for vector in embed(model, tokenizer, texts, **settings)]


def _tag(model: Any, tokenizer: Any, texts: list[Any], **settings: Any) -> list[dict[str, Any]]:
    kept = ("words", "entities") if are_entities(model.task.labels) else ("words",)
    return [{name: found[name] for name in kept} for found in _rounded(tag(model, tokenizer, texts, **settings))]


def _answer(model: Any, tokenizer: Any, items: list[Any], **settings: Any) -> list[dict[str, Any]]:
    questions, contexts = zip(*items, strict=True)
    found = _rounded(answer(model, tokenizer, questions, contexts, **settings))
    return [{"answer": one.pop("text"), **one} for one in found]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_fillings(answer: dict[str, Any]) -> None:
    print(plain_text(answer["text"]))
    for number, mask in enumerate(answer["fillings"], start=1):
        if len(answer["fillings"]) > 1:
            say(f"  mask {number}")
        width = max(len(plain(filling["token"])) for filling in mask)
        for filling in mask:
            print(plain_text(f"  {filling['score']:6.1%}  {plain(filling['token']):<{width}}  {filling['text']}"))


def _show_labels(answer: dict[str, Any]) -> None:
    print(plain_text(" | ".join(answer[name] for name in ("text", "second") if name in answer)))
    if "score" in answer:
        say(f"  {answer['score']:.4g}")
        return
    given = answer.get("labels", list(answer["probabilities"]))
    for label in sorted(given, key=lambda label: -answer["probabilities"][label])[:_MOST_LABELS]:
        say(f"  {answer['probabilities'][label]:6.1%}  {label}")
    if not given:
        say("  (no label)")


def _show_tags(answer: dict[str, Any]) -> None:
    """The entities of a text, or every word with its tag where tags do not make entities."""
    print(plain_text(answer["text"]))
    found = answer.get("entities", answer["words"])
    named = ((plain(one.get("type") or one["tag"]), plain(_one_line(one["text"]))) for one in found)
    rows = [(*names, f"[{one['start']}:{one['end']}]") for names, one in zip(named, found, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for one, row in zip(found, rows, strict=True):
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        say(f"  {one['probability']:6.1%}  {cells}")
    if not rows:
        say("  (none)")


def _show_answers(answer: dict[str, Any]) -> None:
    print(plain_text(answer["question"]))
    for one in answer["n_best"]:
        place = "(no answer)" if one["start"] is None else f"{_one_line(one['text'])}  [{one['start']}:{one['end']}]"
        say(f"  {one['probability']:6.1%}  {place}")


PREDICTION_TASKS = {
    "fill-mask": PredictionTask(_load_pretrained, read_text, _fill_mask, ("top_k",), _show_fillings),
    "embed": PredictionTask(partial(_load, encoders=True), read_text, _embed, ("pooling", "normalize", "max_length")),
    "classify": PredictionTask(
        lambda path: _load(path, *POOLED),
        read_text_or_pair,
        lambda *data, **settings: _rounded(classify(*data, **settings)),
        ("threshold",),
        _show_labels,
    ),
    "tag": PredictionTask(lambda path: _load(path, "tagging"), read_words, _tag, (), _show_tags),
    "answer": PredictionTask(lambda path: _load(path, "answering"), read_question, _answer, ("n_best",), _show_answers),
    "similarity": PredictionTask(
        lambda path: _load(path, "embedding", "regression", encoders=True),
        read_pair,
        lambda *data, **settings: [{"similarity": _rounded(float(score))} for score in similarity(*data, **settings)],
        (),
        lambda one: say(f"{one['similarity']:7.4f}  {_one_line(one['text'])} | {_one_line(one['second'])}"),
    ),
}
