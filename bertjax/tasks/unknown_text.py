"""Labelled data whose text a model's tokenizer does not know."""

from collections.abc import Iterator, Sequence
from typing import Any

from bertjax.errors import DataError
from bertjax.tasks.examples import QuestionExample, TaggedExample
from bertjax.text.coverage import REFUSE_ABOVE, unknown_warning
from bertjax.text.tokenizer import Tokenizer


def unknown_text_warnings(tokenizer: Tokenizer, examples: Sequence[Any], what: str, refuse: bool) -> list[str]:
    """A line if more than 1 % of the characters are unknown. Raises DataError for more than 20 % with ``refuse``: a
    model cannot learn from the rest what the data says."""
    share, line = unknown_warning(tokenizer, _texts(examples), what)
    if refuse and line is not None and share > REFUSE_ABOVE:
        raise DataError(line)
    return [] if line is None else [line]


def _texts(examples: Sequence[Any]) -> Iterator[str]:
    for example in examples:
        if isinstance(example, TaggedExample):
            yield " ".join(example.words)
        elif isinstance(example, QuestionExample):
            yield from (example.question, example.context)
        else:
            yield from (text for text in (example.text, example.second) if text is not None)
