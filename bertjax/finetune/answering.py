"""Answers as spans of a context: windows with a stride, no answer at [CLS]."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.errors import DataError
from bertjax.finetune import objectives
from bertjax.finetune.batching import Rows, joined
from bertjax.finetune.settings import FinetuneConfig
from bertjax.finetune.task_setup import MOST_ERRORS, Decided, Labelled, Outcome, TaskSetup
from bertjax.model.task import TaskConfig
from bertjax.tasks import squad_metrics
from bertjax.tasks.examples import QuestionExample, named
from bertjax.tasks.scores import SCORES
from bertjax.tasks.windows import QuestionRow, QuestionWindows, RankedAnswers, all_answers, question_windows
from bertjax.text.tokenizer import Tokenizer


def answering_setup(run: FinetuneConfig, data: Labelled) -> TaskSetup:
    """Raises DataError where the answers of a question are not known."""
    keys = ("max_length", "classifier_dropout", "stride", "max_answer")
    task = TaskConfig("answering", **{key: getattr(run.model, key) for key in keys})
    train, learned = _rows(data.train, data.tokenizer, task)
    evaluation, asked = _rows(data.eval, data.tokenizer, task)
    with_none = squad_metrics.has_unanswerable(data.train) or squad_metrics.has_unanswerable(data.eval)
    # SQuAD 2.0's f1 is that of no answer where its score is the highest; one chosen by these questions is best_f1's.
    threshold = 0.0 if with_none else None

    def outcome(outputs: list[np.ndarray]) -> Outcome:
        found = all_answers(asked, outputs, task.max_answer, with_none)
        texts = lambda above: {q.id: one.best(above).text for q, one in zip(data.eval, found, strict=True)}
        scores = SCORES["answering"](texts(threshold), data.eval)
        if squad_metrics.has_unanswerable(data.eval):
            # With the best thresholds for these questions, as the official evaluation.
            exact, f1 = squad_metrics.question_scores(texts(None), data.eval)
            margins = squad_metrics.null_margins([one.null_margin for one in found])
            scores |= squad_metrics.best_scores(exact, f1, squad_metrics.has_answer(data.eval), margins)
        details = lambda: {"labels": [], "errors": _errors(data.eval, found, threshold)}
        return Outcome(scores, details, {"null_threshold": threshold})

    windows = len(train) - len(data.train)
    notes = []
    if windows:
        notes.append(
            f"contexts come in windows of {task.max_length} tokens: {windows:,} further ones of the training data"
        )
    by_character = squad_metrics.counted_in_characters(question.context for question in data.eval)
    if by_character:
        notes.append(
            f"answers are compared by characters, not by words, in {by_character:,} of the {len(data.eval):,} "
            f"evaluation questions, whose contexts are in Chinese, Japanese or another script without spaces"
        )
    # Runs that chose their best checkpoint by other scores do not go on: none of theirs could be compared.
    ways = [*["no answer above 0"] * with_none, *["by characters"] * bool(by_character)]
    return TaskSetup(
        task,
        objectives.answering(),
        ("accuracy",),
        train,
        evaluation,
        outcome,
        notes,
        cautions=_cautions(data.train, learned, train.labels["labels"], task),
        decided={"scores": Decided(", ".join(ways))} if ways else {},
    )


def _cautions(
    examples: Sequence[QuestionExample], asked: Sequence[QuestionWindows], labels: np.ndarray, task: TaskConfig
) -> list[str]:
    """Lines on answers that are not learned, or never given: none, or too long. labels: [rows, 2]."""
    answered = [bool(example.answers) for example in examples]
    if not any(answered):
        return [
            f"{examples[0].where}: none of the {len(examples):,} training questions has an answer: that there is none "
            f"is all that is learned; an answer is an object in the list 'answers', with 'text' and 'answer_start'"
        ]
    places = np.split(labels, np.cumsum([len(one.rows) for one in asked])[:-1])
    lengths = [int((own[:, 1] - own[:, 0]).max()) + 1 if own[:, 1].any() else 0 for own in places]
    lost = [n for n, there in enumerate(answered) if there and not lengths[n]]
    longer = [n for n, there in enumerate(answered) if there and lengths[n] > task.max_answer]
    lines = []
    if lost:
        first = examples[lost[0]]
        lines.append(
            f"{first.where}: no row of config.model.max_length = {task.max_length} tokens holds the whole answer of "
            f"question {named(first.id)}; {len(lost):,} of {sum(answered):,} answers are not learned for this reason, "
            f"and fewer are where config.model.max_length or config.model.stride is higher"
        )
    if longer:
        first = examples[longer[0]]
        lines.append(
            f"{first.where}: the answer of question {named(first.id)} has {lengths[longer[0]]} tokens; "
            f"{len(longer):,} of {sum(answered):,} have more than config.model.max_answer = {task.max_answer}, and the "
            f"model gives none that long"
        )
    return lines


def _rows(
    examples: Sequence[QuestionExample], tokenizer: Tokenizer, task: TaskConfig
) -> tuple[Rows, list[QuestionWindows]]:
    questions, contexts = [example.question for example in examples], [example.context for example in examples]
    settings = {"max_length": task.max_length, "stride": task.stride, "max_question": task.max_question}
    asked = question_windows(tokenizer, questions, contexts, **settings)
    labels = [_label(example, one, row) for example, one in zip(examples, asked, strict=True) for row in one.rows]
    rows = joined(
        [(row.input_ids, row.token_type_ids) for one in asked for row in one.rows], labels=np.array(labels, np.int32)
    )
    return rows, asked


def _label(example: QuestionExample, asked: QuestionWindows, row: QuestionRow) -> tuple[int, int]:
    """Places in the row of the first and the last token of the first answer; of [CLS] where the row has none of it,
    or not all."""
    if example.answers is None:
        raise DataError(f"{example.where}: question {example.id} has no answers to learn from")
    if not example.answers:
        return 0, 0
    begin, end = example.answers[0].start, example.answers[0].start + len(example.answers[0].text)
    tokens = [number for number, (b, e) in enumerate(asked.spans) if e > begin and b < end]
    if not tokens or tokens[0] < row.window.begin or tokens[-1] >= row.window.end:
        return 0, 0
    first = row.first - row.window.begin
    return tokens[0] + first, tokens[-1] + first


def _errors(
    examples: Sequence[QuestionExample], found: Sequence[RankedAnswers], threshold: float | None
) -> list[dict[str, Any]]:
    """The surest answers that have no word of a right one."""
    wrong = []
    for question, one in zip(examples, found, strict=True):
        best, golds = one.best(threshold), [answer.text for answer in question.answers or ()]
        words = squad_metrics.answer_tokenizer(question.context)
        is_right = any(squad_metrics.token_f1(best.text, gold, words) > 0 for gold in golds) if golds else not best.text
        if not is_right:
            said = {"label": golds[0] if golds else "", "predicted": best.text, "probability": best.probability}
            wrong.append({"text": question.question, "second": question.context} | said)
    return sorted(wrong, key=lambda error: -error["probability"])[:MOST_ERRORS]
