"""The peer: one pretraining step of transformers' BertForPreTraining on PyTorch, repeated on one batch.

python tests/benchmarks/torch_pretraining.py --shape=base128 [--rows=N] [--device=cpu|cuda] [--precision=bfloat16]
    [--attention=sdpa] [--compile] [--gather] [--steps=20]

A step is forward and backward pass with dropout .1, clipping at a global norm of 1, and fused AdamW without decay of
biases and layer norms. ``--precision=bfloat16`` is torch.autocast around the forward pass; ``tf32`` lets products of
float32 use tensor cores. ``--gather``: the head runs on the masked positions alone, which transformers does not do by
itself. Prints one JSON object: real tokens and rows a second (median over steps), and what was measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from pretraining_shapes import SHAPES, Shape, synthetic_batch

IGNORED = -100  # label of a position that is not predicted


def make_model(shape: Shape, options: argparse.Namespace) -> Any:
    config = transformers.BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        hidden_act="gelu",
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
    )
    config._attn_implementation = options.attention
    model = transformers.BertForPreTraining(config).to(options.device)
    return model.train()


def make_optimizer(model: Any) -> torch.optim.Optimizer:
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    known = {id(p) for p in plain}
    decayed = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), eps=1e-6, fused=True)


def make_loss(model: Any, shape: Shape, options: argparse.Namespace) -> Callable[[], torch.Tensor]:
    """The loss of one forward pass on the batch, which lies on the device already."""
    batch = {name: torch.as_tensor(array).to(options.device) for name, array in synthetic_batch(shape).items()}
    masked = batch["masked_lm_positions"].long()
    targets, sentences = batch["masked_lm_ids"].long(), batch["next_sentence_labels"][:, 0].long()
    arguments = {"input_ids": batch["input_ids"].long(), "token_type_ids": batch["token_type_ids"].long()}
    labels = torch.full_like(arguments["input_ids"], IGNORED).scatter(1, masked, targets)

    def whole() -> torch.Tensor:
        return model(**arguments, labels=labels, next_sentence_label=sentences).loss

    def gathered() -> torch.Tensor:
        sequence, pooled = model.bert(**arguments, return_dict=True)[:2]
        at = masked[:, :, None].expand(-1, -1, sequence.shape[-1])
        logits, next_sentence = model.cls(sequence.gather(1, at), pooled)
        entropy = torch.nn.functional.cross_entropy
        return entropy(logits.flatten(0, 1).float(), targets.flatten()) + entropy(next_sentence.float(), sentences)

    # The batch has no padding, so there is no mask either: the fastest that transformers can do.
    return gathered if options.gather else whole


def make_step(shape: Shape, options: argparse.Namespace) -> Callable[[], None]:
    """A function that takes one step."""
    transformers.set_seed(0)
    torch.set_float32_matmul_precision("high" if options.precision == "tf32" else "highest")
    model = make_model(shape, options)
    optimizer, loss_of = make_optimizer(model), make_loss(model, shape, options)
    mixed = options.precision == "bfloat16"

    def loss() -> torch.Tensor:
        with torch.autocast(options.device, torch.bfloat16, enabled=mixed):
            return loss_of()

    forward = torch.compile(loss) if options.compile else loss

    def step() -> None:
        forward().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if options.device == "cuda":
            torch.cuda.synchronize()

    return step


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--shape", choices=SHAPES, default="base128")
    parser.add_argument("--rows", type=int, help="rows a step, other than those of the shape")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--gather", action="store_true")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=20)
    return parser


def shape_of(options: argparse.Namespace) -> Shape:
    shape = SHAPES[options.shape]
    return dataclasses.replace(shape, rows=options.rows) if options.rows else shape


def main() -> None:
    options = parser().parse_args()
    shape = shape_of(options)
    step, seconds = make_step(shape, options), []
    for _ in range(3):  # compiling, and the optimizer's first allocation
        step()
    for _ in range(options.steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    memory = torch.cuda.max_memory_allocated() if options.device == "cuda" else None
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    result = vars(options) | {
        "rows": shape.rows,
        "device": device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "step_seconds": median,
        "rows_per_second": shape.rows / median,
        "tokens_per_second": shape.rows * shape.length / median,
        "peak_memory_bytes": memory,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
