"""The peer: a plain transformers + PyTorch loop on the same examples, with the settings of configs/finetune.

python tests/benchmarks/torch_finetune.py --task=classification --model=DIR --train=FILE --eval=FILE
    [--epochs=2] [--learning_rate=5e-5] [--batch_size=32] [--seeds=0,1,2] [--max_length=128] [--batches=bucketed]
    [--precision=bfloat16]

Prints the scores of each seed, then mean and spread. ``--batches``: "longest" pads random batches to their longest
row, as most loops do; "bucketed" sorts a hundred batches by length first, as bertjax does. ``--precision=bfloat16`` is
torch.autocast around the forward pass.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sklearn.metrics import accuracy_score, matthews_corrcoef
from torch.nn.utils.rnn import pad_sequence

sys.path.append(str(Path(__file__).parent.parent.parent))  # bertjax, where it is not installed

from bertjax.tasks.conll import read_tagged
from bertjax.tasks.squad import read_questions
from bertjax.tasks.squad_metrics import question_scores
from bertjax.tasks.tables import Columns, read_texts

IGNORED = -100
PADDING = {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}
WINDOW = 100  # batches that are sorted together


@dataclass(frozen=True)
class Task:
    """Rows as the model takes them (a dict of lists each), how a model is made, and what its outputs score."""

    train: list[dict[str, Any]]
    eval: list[dict[str, Any]]
    make: Callable[[str], Any]
    scores: Callable[[list[Any]], dict[str, float]]


def rows_of(encoded: Any) -> list[dict[str, Any]]:
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in encoded]
    return [{name: encoded[name][i] for name in names} for i in range(len(encoded["input_ids"]))]


# --- Tasks --------------------------------------------------------------------------------------------------------


def classification(tokenizer: Any, options: argparse.Namespace) -> Task:
    columns = Columns(text=options.text, second=options.second, label=options.label)
    examples = [read_texts(path, columns, "classification") for path in (options.train, options.eval)]
    names = sorted({example.label for example in examples[0]})
    parts = []
    for part in examples:
        seconds = [e.second for e in part] if part[0].second is not None else None
        encoded = tokenizer([e.text for e in part], seconds, truncation=True, max_length=options.max_length)
        parts.append([row | {"labels": names.index(e.label)} for row, e in zip(rows_of(encoded), part, strict=True)])

    def scores(outputs: list[Any]) -> dict[str, float]:
        predicted, right = [int(np.argmax(o)) for o in outputs], [row["labels"] for row in parts[1]]
        return {"accuracy": accuracy_score(right, predicted), "mcc": matthews_corrcoef(right, predicted)}

    model = transformers.AutoModelForSequenceClassification
    return Task(*parts, lambda folder: model.from_pretrained(folder, num_labels=len(names)), scores)


def tagging(tokenizer: Any, options: argparse.Namespace) -> Task:
    examples = [read_tagged(path, options.label) for path in (options.train, options.eval)]
    names = sorted({tag for example in examples[0] for tag in example.tags or ()})
    parts = []
    for part, length in zip(examples, (options.max_length, 512), strict=True):
        encoded = tokenizer([list(e.words) for e in part], is_split_into_words=True, truncation=True, max_length=length)
        rows = rows_of(encoded)
        for number, (row, example) in enumerate(zip(rows, part, strict=True)):
            words = encoded.word_ids(number)
            first = [w is not None and w != before for w, before in zip(words, [None, *words], strict=False)]
            tags = example.tags or ()
            row["labels"] = [names.index(tags[w]) if f else IGNORED for w, f in zip(words, first, strict=True)]
        parts.append(rows)

    def scores(outputs: list[Any]) -> dict[str, float]:
        right, predicted = [], []
        for example, row, output in zip(examples[1], parts[1], outputs, strict=True):
            tags = [names[int(np.argmax(o))] for o, label in zip(output, row["labels"], strict=False) if label >= 0]
            right.append(list(example.tags or ()))
            predicted.append(tags + ["O"] * (len(right[-1]) - len(tags)))  # words that were cut off
        flat = [[tag for tags in lists for tag in tags] for lists in (right, predicted)]
        found = {"accuracy": accuracy_score(*flat)}
        if "O" in names:
            from seqeval.metrics import f1_score

            found = {"f1": f1_score(right, predicted)} | found
        return found

    model = transformers.AutoModelForTokenClassification
    return Task(*parts, lambda folder: model.from_pretrained(folder, num_labels=len(names)), scores)


def answering(tokenizer: Any, options: argparse.Namespace) -> Task:
    """Of SQuAD 1.1: every question has an answer."""
    questions = [read_questions(path) for path in (options.train, options.eval)]
    parts, places = [], []
    for part in questions:
        encoded = tokenizer(
            [q.question for q in part],
            [q.context for q in part],
            truncation="only_second",
            max_length=options.max_length,
            stride=options.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        rows, offsets = rows_of(encoded), []
        for number, row in enumerate(rows):
            of, sequence = encoded["overflow_to_sample_mapping"][number], encoded.sequence_ids(number)
            own = [o if s == 1 else None for o, s in zip(encoded["offset_mapping"][number], sequence, strict=True)]
            answer = (part[of].answers or ())[0]
            begin, end = answer.start, answer.start + len(answer.text)
            starts = [i for i, o in enumerate(own) if o and o[0] <= begin < o[1]]
            ends = [i for i, o in enumerate(own) if o and o[0] < end <= o[1]]
            row["start_positions"], row["end_positions"] = (starts[0], ends[0]) if starts and ends else (0, 0)
            offsets.append((of, own))
        parts.append(rows)
        places.append(offsets)

    def scores(outputs: list[Any]) -> dict[str, float]:
        best: dict[int, tuple[float, str]] = {}
        for (of, own), (starts, ends) in zip(places[1], outputs, strict=True):
            for i in np.argsort(starts)[::-1][:20]:
                for j in np.argsort(ends)[::-1][:20]:
                    if max(i, j) < len(own) and own[i] and own[j] and i <= j < i + 30:
                        score = float(starts[i] + ends[j])
                        if of not in best or score > best[of][0]:
                            best[of] = score, questions[1][of].context[own[i][0] : own[j][1]]
        texts = {q.id: best.get(number, (0.0, ""))[1] for number, q in enumerate(questions[1])}
        exact, f1 = question_scores(texts, questions[1])
        return {"f1": float(f1.mean()), "exact_match": float(exact.mean())}

    return Task(*parts, transformers.AutoModelForQuestionAnswering.from_pretrained, scores)


TASKS = {"classification": classification, "tagging": tagging, "answering": answering}


# --- The loop -----------------------------------------------------------------------------------------------------


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """[rows, longest] tensors; single numbers as [rows]."""
    batch = {}
    for name, first in rows[0].items():
        values = [torch.as_tensor(row[name]) for row in rows]
        is_list = isinstance(first, list)
        batch[name] = pad_sequence(values, True, PADDING[name]) if is_list else torch.stack(values)
    return batch


def batches(rows: Sequence[dict[str, Any]], size: int, random: np.random.Generator, bucketed: bool) -> Iterator[Any]:
    """The rows of an epoch."""
    order = random.permutation(len(rows))
    if bucketed:
        lots = [order[at : at + WINDOW * size] for at in range(0, len(order), WINDOW * size)]
        order = np.concatenate([sorted(lot, key=lambda i: len(rows[i]["input_ids"])) for lot in lots])
    chunks = [order[at : at + size] for at in range(0, len(order), size)]
    for chunk in (chunks[i] for i in random.permutation(len(chunks))):
        yield [rows[i] for i in chunk]


def autocast(options: argparse.Namespace) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16")


def make_update(model: Any, steps: int, options: argparse.Namespace) -> Callable[[Sequence[dict[str, Any]]], float]:
    """AdamW with bias correction, no decay of biases and layer norms, linear warm-up over a tenth, then to 0."""
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    known = {id(p) for p in plain}
    decayed = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.999), eps=1e-6, fused=True)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(0.1 * steps), steps)

    def update(rows: Sequence[dict[str, Any]]) -> float:
        with autocast(options):
            loss = model(**collate(rows)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return update


def outputs(model: Any, rows: Sequence[dict[str, Any]], size: int) -> list[Any]:
    """Logits of every row, in order; (start, end) of answering."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    found: list[Any] = [None] * len(rows)
    model.eval()
    with torch.no_grad():
        for at in range(0, len(order), size):
            chunk = order[at : at + size]
            answer = model(**collate([rows[i] for i in chunk]))
            starts = getattr(answer, "start_logits", None)
            for place, i in enumerate(chunk):
                if starts is None:
                    found[i] = answer.logits[place].numpy()
                else:
                    found[i] = starts[place].numpy(), answer.end_logits[place].numpy()
    model.train()
    return found


def run(task: Task, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one seed and scores it at its end."""
    transformers.set_seed(seed)
    model = task.make(options.model)
    model.train()
    random = np.random.default_rng(seed)
    steps = options.epochs * -(-len(task.train) // options.batch_size)
    update, began, tokens, step = make_update(model, steps, options), time.perf_counter(), 0, 0
    for _ in range(options.epochs):
        for rows in batches(task.train, options.batch_size, random, options.batches == "bucketed"):
            loss, step = update(rows), step + 1
            tokens += sum(len(row["input_ids"]) for row in rows)
            if step % 200 == 0:
                rate = tokens / (time.perf_counter() - began)
                print(f"  step {step}/{steps} loss {loss:.4f} {rate:,.0f} tokens/s", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    scores = task.scores(outputs(model, task.eval, options.batch_size))
    return {"seed": seed, "scores": scores, "seconds": round(seconds), "tokens_per_second": round(tokens / seconds)}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--task", choices=TASKS, default="classification")
    for name in ("model", "train", "eval"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("text", "second", "label"):
        parser.add_argument(f"--{name}", help="a column, by name or number")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--stride", type=int, default=128)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batches", choices=("longest", "bucketed"), default="bucketed")
    return parser


def main() -> None:
    options = parser().parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.BertTokenizerFast.from_pretrained(options.model)
    task = TASKS[options.task](tokenizer, options)
    found = []
    for seed in map(int, options.seeds.split(",")):
        found.append(run(task, seed, options))
        print(json.dumps(found[-1]), flush=True)
    for name in found[0]["scores"]:
        values = [one["scores"][name] for one in found]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: mean {statistics.fmean(values):.4f}, spread {spread:.4f}")


if __name__ == "__main__":
    main()
