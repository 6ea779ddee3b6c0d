"""The tasks of ``python -m bertjax.predict``: their options, what they read, do and show.

jax and the models are imported when a task begins its work, so that the command answers mistakes at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

from bertjax.config import ConfigError
from bertjax.digits import whole_number
from bertjax.inference import json_lines, show
from bertjax.interop import ModelFileError


@dataclasses.dataclass(frozen=True)
class Task:
    """lines: the fields of a JSON line. arguments: adds the task's options. load: a folder's model and tokenizer.

    values: the TEXT arguments as parsed JSON lines. read, make_work: see ``json_lines``. show: prints an answer for
    a person; None: always as JSON.
    """

    help: str
    lines: str
    arguments: Callable[[argparse.ArgumentParser], None]
    load: Callable[[str], tuple[Any, Any]]
    values: Callable[[argparse.Namespace], list[Any]]
    read: json_lines.Read
    make_work: Callable[[Any, Any, argparse.Namespace], json_lines.Work]
    show: Callable[[dict[str, Any]], None] | None


def positive(text: str) -> int:
    """The type of options that count."""
    number = whole_number(text)
    if not number:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text[:40]!r}")
    return number


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")
    return value


def _rounded(value: Any) -> Any:
    """Scores to six digits, everywhere in a JSON value."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _plain(result: Any) -> dict[str, Any]:
    return _rounded(dataclasses.asdict(result))


def _consecutive(texts: list[str], option: str) -> list[list[str]]:
    if len(texts) % 2:
        raise ConfigError(f"{option} takes the texts two by two; {len(texts)} were given")
    return [texts[begin : begin + 2] for begin in range(0, len(texts), 2)]


def refuse_beside_lines(options: argparse.Namespace) -> None:
    """Raises ConfigError for options that say what the TEXTs are, where JSON lines are read."""
    if getattr(options, "pairs", False):
        raise ConfigError('--pairs is about TEXTs; a JSON line says itself that it is a pair, by "second"')
    if getattr(options, "context", None) is not None:
        raise ConfigError('--context is about TEXTs; a JSON line holds its own "context"')


# Which models a task uses.


def _load_pretrained(path: str) -> tuple[Any, Any]:
    from bertjax.interop.models import load_pair

    with warnings.catch_warnings(action="ignore"):  # of heads that the task does not look at
        return load_pair(path, for_pretraining=True, required=("mlm_head",))


def _load_encoder(path: str) -> tuple[Any, Any]:
    from bertjax.interop.models import load_pair
    from bertjax.interop.task_models import is_task_model, load_task_model

    if is_task_model(path):
        return load_task_model(path)
    with warnings.catch_warnings(action="ignore"):
        return load_pair(path, for_pretraining=False)


def _load_for(*kinds: str) -> Callable[[str], tuple[Any, Any]]:
    def load(path: str) -> tuple[Any, Any]:
        from bertjax.interop.task_models import load_task_model

        model, tokenizer = load_task_model(path)
        if model.task.kind not in kinds:
            raise ModelFileError(f"{path} is a model for {model.task.kind}; this needs one for {' or '.join(kinds)}")
        return model, tokenizer

    return load


def _load_comparing(path: str) -> tuple[Any, Any]:
    from bertjax.model.task import TaskModel

    model, tokenizer = _load_encoder(path)
    if isinstance(model, TaskModel) and model.task.kind not in ("embedding", "regression"):
        raise ModelFileError(f"{path} is a model for {model.task.kind}; this needs one for embedding or regression")
    return model, tokenizer


# fill-mask


def _fill_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top_k", type=positive, default=5, metavar="K", help="tokens for each mask (default 5)")


def _fill_mask(model: Any, tokenizer: Any, options: argparse.Namespace) -> json_lines.Work:
    from bertjax.inference.fill_mask import fill_mask

    if options.top_k > tokenizer.vocab_size:
        raise ConfigError(f"--top_k={options.top_k} is more than the {tokenizer.vocab_size} entries of the vocabulary")

    def work(texts: list[Any]) -> list[dict[str, Any]]:
        answers = []
        for filled in fill_mask(model, tokenizer, texts, top_k=options.top_k, batch_size=options.batch_size):
            masks: Any = filled if isinstance(filled[0], list) else [filled]
            answers.append({"fillings": [[_plain(filling) for filling in mask] for mask in masks]})
        return answers

    return work


# embed


def _embed_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pooling", choices=("mean", "cls"), help="default: the model's own, else mean")
    parser.add_argument(
        "--normalize",
        action="store_true",
        default=None,
        help="to length 1, so that products are cosines; default as the model was made, else not",
    )
    parser.add_argument("--max_length", type=positive, metavar="N", help="tokens of a text that are looked at")


def _embed(model: Any, tokenizer: Any, options: argparse.Namespace) -> json_lines.Work:
    from bertjax.inference.embed import embed

    if options.max_length is not None and options.max_length < 5:
        raise ConfigError(f"--max_length={options.max_length} is too small; the least is 5")
    settings = {name: getattr(options, name) for name in ("pooling", "normalize", "batch_size", "max_length")}

    def work(texts: list[Any]) -> list[dict[str, Any]]:
        vectors = embed(model, tokenizer, texts, **settings)
        # Nine digits hold a float32 to its last bit.
        return [{"embedding": [float(f"{x:.9g}") for x in vector]} for vector in vectors]

    return work


# classify


def _classify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", action="store_true", help="TEXTs are pairs: first, second, first, second, ...")
    parser.add_argument(
        "--threshold", type=_share, default=0.5, metavar="P", help="probability over which a label of several is given"
    )


def _classify(model: Any, tokenizer: Any, options: argparse.Namespace) -> json_lines.Work:
    from bertjax.inference.classify import classify

    settings = {"threshold": options.threshold, "batch_size": options.batch_size}
    return lambda texts: [_plain(found) for found in classify(model, tokenizer, texts, **settings)]


# tag


def _tag(model: Any, tokenizer: Any, options: argparse.Namespace) -> json_lines.Work:
    from bertjax.inference.tag import tag
    from bertjax.tasks.entities import are_entities

    kept = ("words", "entities") if are_entities(model.task.labels) else ("words",)

    def work(texts: list[Any]) -> list[dict[str, Any]]:
        found = (_plain(one) for one in tag(model, tokenizer, texts, batch_size=options.batch_size))
        return [{name: one[name] for name in kept} for one in found]

    return work


# answer


def _answer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--context", metavar="TEXT", help="the text that holds the answers; each TEXT is a question")
    parser.add_argument("--n_best", type=positive, default=3, metavar="N", help="answers to each question (default 3)")


def _questions(options: argparse.Namespace) -> list[Any]:
    if options.context is None:
        raise ConfigError("--context=TEXT is needed beside questions")
    return [{"question": question, "context": options.context} for question in options.texts]


def _answer(model: Any, tokenizer: Any, options: argparse.Namespace) -> json_lines.Work:
    from bertjax.inference.answer import answer

    settings = {"n_best": options.n_best, "batch_size": options.batch_size}

    def work(items: list[Any]) -> list[dict[str, Any]]:
        questions, contexts = [question for question, _ in items], [context for _, context in items]
        found = (_plain(one) for one in answer(model, tokenizer, questions, contexts, **settings))
        return [{"answer": one.pop("text"), **one} for one in found]

    return work


# similarity


def _similarity(model: Any, tokenizer: Any, options: argparse.Namespace) -> json_lines.Work:
    from bertjax.inference.similarity import similarity

    return lambda pairs: [
        {"similarity": _rounded(float(score))}
        for score in similarity(model, tokenizer, pairs, batch_size=options.batch_size)
    ]


def _texts(options: argparse.Namespace) -> list[Any]:
    return options.texts


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """The shared ones are enough."""


TASKS = {
    "fill-mask": Task(
        "the most probable tokens for [MASK]",
        '{"text": "..."}',
        _fill_arguments,
        _load_pretrained,
        _texts,
        json_lines.read_text,
        _fill_mask,
        show.fillings,
    ),
    "embed": Task(
        "a vector for each text, as JSON lines",
        '{"text": "..."}',
        _embed_arguments,
        _load_encoder,
        _texts,
        json_lines.read_text,
        _embed,
        None,
    ),
    "classify": Task(
        "a label, several labels, or a number for each text or pair",
        '{"text": "..."} or {"text": "...", "second": "..."}',
        _classify_arguments,
        _load_for("classification", "multi_label", "regression"),
        lambda options: _consecutive(options.texts, "--pairs") if options.pairs else options.texts,
        json_lines.read_text_or_pair,
        _classify,
        show.labels,
    ),
    "tag": Task(
        "a tag for each word, and the entities that tags make",
        '{"text": "..."} or {"words": ["...", ...]}',
        _no_arguments,
        _load_for("tagging"),
        _texts,
        json_lines.read_words,
        _tag,
        show.tags,
    ),
    "answer": Task(
        "the answers to questions, as they stand in a context",
        '{"question": "...", "context": "..."}',
        _answer_arguments,
        _load_for("answering"),
        _questions,
        json_lines.read_question,
        _answer,
        show.answers,
    ),
    "similarity": Task(
        "how alike two texts are: a cosine, or the score of a model for pairs",
        '{"text": "...", "second": "..."}',
        _no_arguments,
        _load_comparing,
        lambda options: _consecutive(options.texts, "similarity"),
        json_lines.read_pair,
        _similarity,
        show.similarity,
    ),
}
