"""Tags for the words of a text, and the entities that they mark."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from bertjax.inference.batches import check_task, task_logits
from bertjax.inference.encoding import Encoded, check_text
from bertjax.model.task import TaskModel
from bertjax.tasks.entities import scheme_of
from bertjax.tasks.windows import word_rows
from bertjax.text.offsets import Offsets
from bertjax.text.tokenizer import Tokenizer
from bertjax.text.words import encode_words, split_words


@dataclass(frozen=True)
class TaggedWord:
    """A word, text[start:end] of the given text, with its most probable tag."""

    text: str
    start: int
    end: int
    tag: str
    probability: float


@dataclass(frozen=True)
class TaggedEntity:
    """text[start:end] of the given text: the words ``first_word`` .. ``last_word``, from 0. probability: the lowest of
    its words."""

    text: str
    start: int
    end: int
    type: str
    probability: float
    first_word: int
    last_word: int


@dataclass(frozen=True)
class Tagged:
    """entities: if the model's tags mark entities ("O", "B-x", "I-x" ...), else none; of type "_" without types ("B",
    "I", "O")."""

    words: list[TaggedWord]
    entities: list[TaggedEntity]


def tag(
    model: TaskModel, tokenizer: Tokenizer, texts: str | Sequence[str | Sequence[str]], *, batch_size: int = 32
) -> Any:
    """A ``Tagged`` for one text; a list of them for a list of texts, each a string or a list of its words.

    A string is split into words at white space, punctuation and Chinese characters. Offsets for a list of words count
    in the words joined by single spaces. Every word gets the tag of its first piece: texts longer than
    ``model.task.max_length`` tokens are read in windows. Raises ValueError and TypeError that name the argument.
    """
    if isinstance(texts, str):
        return tag(model, tokenizer, [texts], batch_size=batch_size)[0]
    check_task(model, tokenizer, "tagging")
    plain = [_plain(text, f"texts[{index}]") for index, text in enumerate(texts)]
    words = [text[begin:end] for text, places in plain for begin, end in places]
    pieces = iter(encode_words(tokenizer, words))
    rows = []  # (text, row)
    for number, (_, places) in enumerate(plain):
        own = [next(pieces) for _ in places]
        rows += [(number, r) for r in word_rows(own, tokenizer.cls_id, tokenizer.sep_id, model.task.max_length) if own]
    examples = [Encoded(row.input_ids, [0] * len(row.input_ids)) for _, row in rows]
    logits = [np.zeros((len(places), len(model.task.labels))) for _, places in plain]
    for (number, row), found in zip(rows, task_logits(model, tokenizer, examples, batch_size), strict=True):
        logits[number][row.words] = found[row.positions]
    return [_tagged(text, places, row, model.task.labels) for (text, places), row in zip(plain, logits, strict=True)]


def _plain(text: Any, name: str) -> tuple[str, list[Offsets]]:
    """A text, or the text of a list of words, and the places of its words."""
    if isinstance(text, str):
        check_text(text, name)
        return text, split_words(text)
    if not isinstance(text, list | tuple):
        raise ValueError(f"{name} must be a string or a list of words, not {type(text).__name__}")
    places, begin = [], 0
    for number, word in enumerate(text):
        check_text(word, f"{name}[{number}]")
        places.append((begin, begin + len(word)))
        begin += len(word) + 1
    return " ".join(text), places


def _tagged(text: str, places: list[Offsets], logits: np.ndarray, labels: Sequence[str]) -> Tagged:
    probabilities = softmax(logits, axis=1)
    words = [
        TaggedWord(text[begin:end], begin, end, labels[int(best)], float(row[best]))
        for (begin, end), row, best in zip(places, probabilities, probabilities.argmax(axis=1), strict=True)
    ]
    scheme = scheme_of(labels)
    found = scheme.entities([word.tag for word in words]) if scheme else []
    entities = []
    for kind, first, last in found:
        start, end = words[first].start, words[last].end
        lowest = min(word.probability for word in words[first : last + 1])
        entities.append(TaggedEntity(text[start:end], start, end, kind, lowest, first, last))
    return Tagged(words, entities)
