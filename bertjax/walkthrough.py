"""BERT in one read: from a sentence to the loss of a masked word, every step by hand beside the model's own.

    python -m bertjax.walkthrough --model=runs/tiny ["A sentence of at least two words."]

Each step below is the formula in NumPy, on the weights of a real model, and ends in a comparison with what
bertjax computes there. Shapes are written B (rows), S (tokens), H (hidden), N (heads), D = H / N, F (inner size of
the MLP), V (vocabulary). The paper is Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers".
"""

import argparse
import math
from typing import Any

import numpy as np
from scipy.special import erf, log_softmax, softmax

from bertjax.cli.command import ArgumentParser, guarded
from bertjax.cli.showing import say
from bertjax.errors import ConfigError

SENTENCE = "This function returns the number of items in the list."


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = ArgumentParser("python -m bertjax.walkthrough", "Shows every step of a BERT on one sentence.")
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder, or the workdir of a finished run")
    parser.add_argument("sentence", nargs="?", default=SENTENCE, help=f"default: {SENTENCE!r}")
    return parser.run(argv, lambda options: guarded(lambda: _run(options)))


def _run(options: argparse.Namespace) -> None:
    from bertjax.interop.models import load_pair

    walk(*load_pair(options.model, for_pretraining=True), options.sentence)


def walk(model: Any, tokenizer: Any, sentence: str) -> float:
    """Prints the walk and returns the loss of the masked word, in nats. Raises ConfigError for a sentence of fewer than
    two pieces, or more than the model takes."""
    import jax

    from bertjax.model.bert import split_params
    from bertjax.model.embeddings import sinusoidal_positions

    ids, most = tokenizer.encode(sentence), model.config.max_position_embeddings - 2
    if not 2 <= len(ids) <= most:
        raise ConfigError(f"the sentence has {len(ids)} pieces; 2 to {most} can be shown")
    # In float64, so that the differences shown are the model's rounding, not ours.
    config, params = model.config, jax.tree.map(lambda p: np.asarray(p, np.float64), split_params(model)[1])
    eps, bend = config.layer_norm_eps, ACTIVATIONS[config.hidden_act]
    # The arrays of the encoder hold all layers, stacked.
    layers = [jax.tree.map(lambda p, i=i: p[i], params["encoder"]["layers"]) for i in range(config.num_hidden_layers)]

    # 1. Text -> ids. The text is split into pieces of the vocabulary, between [CLS] and [SEP].
    input_ids = np.array([[tokenizer.cls_id, *ids, tokenizer.sep_id]])  # [B=1, S]
    title("1. A sentence becomes ids")
    show("pieces", " ".join(tokenizer.token(int(i)) for i in input_ids[0]))
    show("input_ids", input_ids)

    # 2. One piece is hidden: the id of [MASK] replaces its own, which is the label.
    position = 1 + len(ids) // 2
    label = int(input_ids[0, position])
    input_ids[0, position] = tokenizer.mask_id
    title("2. One piece is hidden")
    show("position and label", f"{position}: {tokenizer.token(label)!r} = {label}")
    output = model(input_ids, output_hidden_states=True, output_attentions=True)

    # 3. Embeddings: for every token the sum of three table rows - its piece, its position, its sentence (0 for all of
    #    them here) - and a layer norm. Positions are learned, or sines and cosines.
    embeddings = params["embeddings"]
    positions = embeddings.get("position_embeddings")
    if positions is None:
        positions = np.asarray(sinusoidal_positions(config.max_position_embeddings, config.hidden_size))
    x = embeddings["word_embeddings"][input_ids] + positions[None, : input_ids.shape[1]]  # [1, S, H]
    x = layer_norm(x + embeddings["token_type_embeddings"][np.zeros_like(input_ids)], embeddings["layer_norm"], eps)
    title("3. Ids become vectors: piece + position + sentence, then layer norm")
    show("embeddings", x)
    same("hidden_states[0]", x, output.hidden_states[0])

    # 4. Attention: every token has a query, a key and a value of D numbers a head. The products of its query with
    #    all keys, over sqrt(D) and through a softmax, are the weights with which it takes up the values.
    probabilities, heads = attention(x, layers[0]["attention"], config.num_attention_heads)
    title("4. One head of attention: softmax(q k^T / sqrt(D)) v")
    show("probabilities; each row sums to 1", probabilities[0])
    same("attentions[0], head 0", probabilities[0], output.attentions[0][0, 0])
    show("probabilities @ value", heads[0])
    show("[MASK] looks most at", repr(tokenizer.token(int(input_ids[0, probabilities[0, position].argmax()]))))

    # 5. A layer: the heads side by side, mixed by one more matrix, added to the input (the residual), normed; then the
    #    same for two matrices with a nonlinearity between them, on every token by itself.
    x = one_layer(x, layers[0], config)
    title("5. A layer: all heads, residual, norm; MLP, residual, norm")
    show("output of layer 1", x)
    same("hidden_states[1]", x, output.hidden_states[1])

    # 6. The encoder is more of the same.
    for layer in layers[1:]:
        x = one_layer(x, layer, config)
    title(f"6. The encoder: {config.num_hidden_layers} such layers")
    show("sequence_output", x)
    same("sequence_output", x, output.sequence_output)

    # 7. The masked-LM head: the vector at [MASK] is transformed once more and compared with the vector of every piece.
    head = params["mlm_head"]
    at_mask = layer_norm(bend(affine(x[:, position], head["transform"])), head["layer_norm"], eps)
    logits = (at_mask @ embeddings["word_embeddings"].T + head["bias"])[0, : config.vocab_size]  # [V]
    title("7. The masked-LM head: a score for every piece of the vocabulary")
    show("logits", logits)
    same("mlm_logits at the mask", logits, output.mlm_logits[0, position])
    for token_id in np.argsort(-logits)[:5]:
        show(f"  {tokenizer.token(int(token_id))}", f"{softmax(logits)[token_id]:.2%}")

    # 8. The loss: minus the logarithm of the probability that the hidden piece was given.
    loss = float(-log_softmax(logits)[label])
    title("8. The loss of the masked word: -log p(label)")
    show("p(label)", f"{math.exp(-loss):.3%} for {tokenizer.token(label)!r}")
    show("loss in nats; a blind guess has log V", f"{loss:.3f}; {math.log(config.vocab_size):.3f}")

    # 9. The other head: the vector at [CLS], through a dense layer and tanh, tells whether sentence B follows A.
    pooled = np.tanh(affine(x[:, 0], params["pooler"]["dense"]))  # [1, H]
    follows = affine(pooled, params["nsp_head"]["dense"])  # [1, 2]
    title("9. The next-sentence head, at [CLS]: 0 = follows, 1 = random")
    show("logits", follows)
    same("nsp_logits", follows, output.nsp_logits)
    say()
    say("Pretraining is this, backwards: the gradient of both losses, summed over millions of such sentences.")
    return loss


def attention(x: np.ndarray, weights: dict[str, Any], N: int) -> tuple[np.ndarray, np.ndarray]:
    """x [1, S, H] -> probabilities [N, S, S] and what each head takes up, [N, S, D]."""
    heads = lambda name: np.stack(np.split(affine(x, weights[name])[0], N, axis=-1))  # [N, S, D]
    query, key, value = heads("query"), heads("key"), heads("value")
    probabilities = softmax(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1]), axis=-1)
    return probabilities, probabilities @ value


def one_layer(x: np.ndarray, layer: dict[str, Any], config: Any) -> np.ndarray:
    """x [1, S, H] -> [1, S, H]: attention, residual, norm, MLP, residual, norm (post-LN, as in 2018)."""
    own, mlp, eps = layer["attention"], layer["mlp"], config.layer_norm_eps
    heads = np.concatenate(list(attention(x, own, config.num_attention_heads)[1]), axis=-1)[None]  # [1, S, H]
    x = layer_norm(x + affine(heads, own["output"]), own["layer_norm"], eps)
    inner = ACTIVATIONS[config.hidden_act](affine(x, mlp["intermediate"]))  # [1, S, F]
    return layer_norm(x + affine(inner, mlp["output"]), mlp["layer_norm"], eps)


def affine(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """x [..., I] -> x @ kernel + bias [..., O]."""
    return x @ weights["kernel"] + weights["bias"]


def layer_norm(x: np.ndarray, weights: dict[str, np.ndarray], eps: float) -> np.ndarray:
    """Every vector to mean 0 and variance 1, then scaled and shifted by learned numbers."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weights["scale"] + weights["bias"]


ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),  # x times the share of a normal distribution below x
    "gelu_new": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def title(text: str) -> None:
    say()
    say(text)
    say("-" * len(text))


def show(name: str, value: Any) -> None:
    """Prints an array as its shape and first numbers."""
    if isinstance(value, np.ndarray):
        few = ", ".join(f"{number:.4g}" for number in value.reshape(-1)[:5])
        value = f"{list(value.shape)}  {few}{', ...' if value.size > 5 else ''}"
    say(f"{name:<38} {value}")


def same(name: str, mine: np.ndarray, theirs: Any) -> None:
    """Prints how far the formula is from the model. Raises ArithmeticError if they differ."""
    difference = float(np.abs(mine - np.asarray(theirs, np.float64)).max())
    if not difference <= 1e-3:  # also if it is NaN
        raise ArithmeticError(f"{name}: the formula and the model differ by {difference}")
    say(f"{'  = the model, ' + name:<38} largest difference {difference:.1e}")


if __name__ == "__main__":
    from bertjax.__main__ import script

    script("walkthrough")
