"""What a person should know about labelled data before training: its labels with their counts, and likely mistakes."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bertjax.cli.showing import listed
from bertjax.errors import DataError
from bertjax.tasks.examples import QuestionExample, TaggedExample, written_list
from bertjax.tasks.labels import count_labels, value_of
from bertjax.text.coverage import REFUSE_ABOVE, unknown_warning
from bertjax.text.tokenizer import Tokenizer

_MOST_LISTED = 40  # labels
_MAJORITY = 0.9  # of the examples
_SHARED = 0.1  # of the evaluation texts
_MANY = 20  # labels
# How files spell "no label"; those of `datasets` use -1.
_NONE = ("-", "?", "n/a", "#n/a", "na", "nan", "null", "<na>")


def label_counts(labels: Sequence[str], train: Sequence[Any], evaluation: Sequence[Any]) -> str:
    """The labels in their order, each with the number of its training and evaluation examples (words of a tag)."""
    there, held_out = count_labels(train), count_labels(evaluation)
    counts = [f"{name} {there[name]:,} + {held_out[name]:,}" for name in labels]
    return f"{len(labels):,} labels, with their training + evaluation examples: {listed(counts, _MOST_LISTED)}"


def label_warnings(
    kind: str, labels: Sequence[str], train: Sequence[Any], evaluation: Sequence[Any], separator: str
) -> list[str]:
    """A line for each likely mistake in the labels of a kind of task, with the way out."""
    if kind not in ("classification", "multi_label", "tagging"):
        return []
    there, held_out = count_labels(train), count_labels(evaluation)
    if kind == "tagging":
        line = (
            f"there are {len(labels):,} tags for {there.total():,} training words: is config.data.label the column of "
            f"the tags, and are there tabs or blanks between the columns?"
        )
        return [line] if len(labels) > max(_MANY, there.total() / 2) else []
    found = list(_doubtful_names(labels, there, len(train)))
    if kind == "classification":
        return [*found, *_majority(there, held_out), *_not_classes(labels, there, len(train))]
    return [*found, *(_undivided(labels, separator) or _one_each(labels, train))]


def data_warnings(train: Sequence[Any], evaluation: Sequence[Any]) -> Iterator[str]:
    """A line if evaluation examples are also training examples, or if only one of the two has pairs of texts."""
    known = {_content(example) for example in train}
    shared = sum(_content(example) in known for example in evaluation)
    if shared > _SHARED * len(evaluation):
        yield (
            f"{shared:,} of {len(evaluation):,} evaluation examples are also training examples: their scores show what "
            f"the model has memorised, not how it does on other texts; take them out of one of the two"
        )
    pairs = [sum(getattr(example, "second", None) is not None for example in part) for part in (train, evaluation)]
    if bool(pairs[0]) != bool(pairs[1]):
        one, other = ("pairs of texts", "single texts") if pairs[0] else ("single texts", "pairs of texts")
        yield f"the training examples are {one}, the evaluation examples {other}: are their columns the same?"


def majority(there: Counter[str]) -> tuple[str, float]:
    name, count = max(there.items(), key=lambda item: (item[1], item[0]))
    return name, count / there.total()


def _content(example: Any) -> tuple[str, ...]:
    if isinstance(example, QuestionExample):
        return example.question, example.context
    if isinstance(example, TaggedExample):
        return example.words
    return (example.text,) if example.second is None else (example.text, example.second)


def _doubtful_names(labels: Sequence[str], there: Counter[str], total: int) -> Iterator[str]:
    """A line on labels that may be misspelled, and on each that may mean that there is none."""
    alone = [repr(name) for name in labels if there[name] == 1]
    if alone and len(labels) > 2:
        yield f"labels with a single training example: {listed(alone, 5)}; a misspelled label is a label of its own"
    signs = [name for name in labels if name.lower() in _NONE and len(labels) > 2]
    others = [value_of(name) for name in labels if name != "-1"]
    if "-1" in labels and len(others) > 2 and others == list(range(len(others))):
        signs.append("-1")
    for name in signs:
        yield (
            f"the label {name!r} ({there[name]:,} of {total:,} training examples) is learned as a class; if it "
            f"means that there is no label, leave its examples out with --config.data.no_label={name}"
        )


def _majority(there: Counter[str], held_out: Counter[str]) -> Iterator[str]:
    for counts, which in ((there, "training"), (held_out, "evaluation")):
        name, share = majority(counts)
        if share > _MAJORITY:
            yield (
                f"{share:.1%} of the {which} examples have the label {name!r}: always predicting it has "
                f"an accuracy of {share:.3f}; look at f1_macro and mcc"
            )


def _not_classes(labels: Sequence[str], there: Counter[str], total: int) -> Iterator[str]:
    lists = next((name for name in labels if len(written_list(name) or ()) > 1), None)
    if lists is not None:
        yield (
            f"the label {lists!r} is a list, and is learned as one class; to learn several labels of a text, use "
            f"--config.task=multi_label"
        )
    values = [value_of(name) for name in labels]
    if None not in values and any(value != int(value) for value in values if value is not None):
        yield (
            f"the {len(labels):,} labels are numbers with fractions, and each is learned as a class of its own; to "
            f"learn them as numbers, use --config.task=regression"
        )
    elif len(labels) > max(_MANY, total / 2):
        yield (
            f"there are {len(labels):,} labels in {total:,} training examples: is config.data.label the column of the "
            f"label?"
        )


def _undivided(labels: Sequence[str], separator: str) -> list[str]:
    found = {sign: [name for name in labels if sign in name] for sign in ";|" if sign != separator}
    line = "the label {!r} contains {!r}; if that separates labels, use --config.data.separator='{}'"
    return [line.format(names[0], sign, sign) for sign, names in found.items() if names]


def _one_each(labels: Sequence[str], train: Sequence[Any]) -> list[str]:
    counts = {len(example.label) for example in train}
    if counts == {1}:
        spaced = next((name for name in labels if len(name.split()) > 1), None)
        advice = f"; if blanks separate labels, as in {spaced!r}, use --config.data.separator=' '" * bool(spaced)
        return [f"no training text has more than one label; for such data use --config.task=classification{advice}"]
    always = [repr(name) for name in labels if all(name in example.label for example in train)]
    return [f"every training text has the label {listed(always, 5)}: nothing is learned about it"] if always else []


def unknown_text_warnings(tokenizer: Tokenizer, examples: Sequence[Any], what: str, refuse: bool) -> list[str]:
    """A line if more than 1 % of the characters are unknown. Raises DataError for more than 20 % with ``refuse``: a
    model cannot learn from the rest what the data says."""
    contents = map(_content, examples)
    if isinstance(examples[0], TaggedExample):
        contents = ((" ".join(words),) for words in contents)
    share, line = unknown_warning(tokenizer, itertools.chain.from_iterable(contents), what)
    if refuse and line is not None and share > REFUSE_ABOVE:
        raise DataError(line)
    return [] if line is None else [line]
