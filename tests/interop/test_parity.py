"""Outputs and gradients against transformers' BertForPreTraining, float32 on both sides."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from flax import nnx

import bertjax.batch
from bertjax.attention_kernels import KERNELS, Demand
from bertjax.interop.weights import to_tensors
from bertjax.model.bert import Bert, merge_params
from bertjax.model.encoder import REMAT_POLICIES
from bertjax.objectives.losses import batch_loss
from bertjax.objectives.objective import MLM_WEIGHT_EPSILON

# What differs is the order of sums: outputs are of the order of 1, float32 has a step of 1e-7 there.
OUTPUTS_WITHIN = 2e-5
# Of the largest gradient of the same parameter.
GRADIENTS_WITHIN = 1e-4
# For gradients that are zero in theory, where a share of the largest says nothing: that of a key bias is (a softmax
# does not change when a constant is added to its scores), and what is computed is the rounding of sums of terms
# of the order of 1e-2 and below.
GRADIENT_FLOOR = 1e-8

# The rows that can be compared here, with heads of any size.
_HERE = Demand(dropout=False, backend=jax.default_backend(), float_type="float32", head_size=1)
SUPPORTED = [name for name, row in KERNELS.items() if not _HERE.lacking(row)]
SHAPES = {
    "one layer, one head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "two layers": {},
    "odd heads of odd size, gelu_new": {"hidden_size": 35, "num_attention_heads": 5, "hidden_act": "gelu_new"},
    "four layers, relu": {"num_hidden_layers": 4, "num_attention_heads": 2, "hidden_act": "relu"},
    "heads of size one, three types": {"hidden_size": 6, "num_attention_heads": 6, "type_vocab_size": 3},
    "vocabulary of whole tiles, coarse eps": {"vocab_size": 256, "layer_norm_eps": 1e-3},
}


def graphdef_of(config):
    return nnx.graphdef(nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0))))


def outputs(config, params, inputs):
    graphdef = graphdef_of(config)
    run = lambda params, inputs: merge_params(graphdef, params)(
        **inputs, output_hidden_states=True, output_attentions=True
    )
    return jax.tree.map(np.asarray, jax.jit(run)(params, inputs))


def random_rows(config, random, rows, length):
    return {
        "input_ids": random.integers(0, config.vocab_size, (rows, length)),
        "token_type_ids": random.integers(0, config.type_vocab_size, (rows, length)),
    }


def peer_outputs(torch, peer, inputs):
    """The peer's outputs under bertjax's names."""
    arguments = {name: torch.tensor(value) for name, value in inputs.items()}
    with torch.no_grad():
        out = peer(**arguments, output_hidden_states=True, output_attentions=True)
        pooled = peer.bert.pooler(out.hidden_states[-1])
    return {
        "sequence_output": out.hidden_states[-1].numpy(),
        "pooled_output": pooled.numpy(),
        "mlm_logits": out.prediction_logits.numpy(),
        "nsp_logits": out.seq_relationship_logits.numpy(),
        "hidden_states": np.stack([states.numpy() for states in out.hidden_states]),
        "attentions": np.stack([probabilities.numpy() for probabilities in out.attentions]),
    }


def assert_same(ours, theirs):
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        assert ours[name].dtype == np.float32, name
        np.testing.assert_allclose(ours[name], value, atol=OUTPUTS_WITHIN, rtol=0, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "rows", "length"), [(shape, 1 + index % 3, 48 - 5 * index) for index, shape in enumerate(SHAPES)]
)
def test_full_rows(shape, rows, length, torch, new_peer, translated, random):
    peer = new_peer(attn_implementation="eager", **SHAPES[shape])
    config, params = translated(peer)
    inputs = random_rows(config, random, rows, length)
    assert_same(outputs(config, params, inputs), peer_outputs(torch, peer, inputs))


@pytest.mark.parametrize("attention", SUPPORTED)
def test_padded_rows_at_all_positions_padding_included(attention, torch, new_peer, translated, random):
    """Padding on the right, on the left, and masks with holes."""
    peer = new_peer(attn_implementation="eager", attention_probs_dropout_prob=0.0)
    config, params = translated(peer)
    inputs = random_rows(config, random, 9, 21)
    lengths = np.array([[13], [1], [8]])
    masks = (np.arange(21)[None, :] < lengths, np.arange(21)[None, :] >= 21 - lengths, random.random((3, 21)) < 0.6)
    inputs["attention_mask"] = np.concatenate(masks).astype(int)
    ours = outputs(dataclasses.replace(config, attention=attention), params, inputs)
    assert_same(ours, peer_outputs(torch, peer, inputs))


def test_padded_rows_against_the_peers_default_attention(torch, new_peer, translated, random):
    """transformers runs its own fused attention unless told otherwise; it returns no probabilities then."""
    peer = new_peer(attn_implementation="sdpa")
    config, params = translated(peer)
    inputs = random_rows(config, random, 3, 30)
    inputs["attention_mask"] = (np.arange(30)[None, :] < np.array([[30], [11], [4]])).astype(int)
    with torch.no_grad():
        theirs = peer(**{name: torch.tensor(value) for name, value in inputs.items()})
    ours = outputs(config, params, inputs)
    np.testing.assert_allclose(ours.mlm_logits, theirs.prediction_logits.numpy(), atol=OUTPUTS_WITHIN, rtol=0)
    np.testing.assert_allclose(ours.nsp_logits, theirs.seq_relationship_logits.numpy(), atol=OUTPUTS_WITHIN, rtol=0)


def packed(row_examples, length):
    """Inputs of rows that hold these examples (token ids, token types) one after the other, then padding.

    Also where each example begins: (row, its number in the row from 0, position).
    """
    names = ("input_ids", "token_type_ids", "position_ids", "example_ids")
    inputs = {name: np.zeros((len(row_examples), length), np.int32) for name in names}
    begins = []
    for row, examples in enumerate(row_examples):
        begin = 0
        for index, (ids, types) in enumerate(examples):
            values = (ids, types, np.arange(len(ids)), index + 1)
            for name, value in zip(names, values, strict=True):
                inputs[name][row, begin : begin + len(ids)] = value
            begins.append((row, index, begin))
            begin += len(ids)
    return inputs, begins


def random_examples(config, random, lengths):
    """(token ids, token types) of examples of these lengths, a list a row."""
    draw = lambda below, length: random.integers(0, below, length)
    return [[(draw(config.vocab_size, n), draw(config.type_vocab_size, n)) for n in row] for row in lengths]


@pytest.mark.parametrize("attention", SUPPORTED)
def test_packed_rows_are_the_examples_alone(attention, torch, new_peer, translated, random):
    peer = new_peer(attn_implementation="eager", attention_probs_dropout_prob=0.0)
    config, params = translated(peer)
    rows = random_examples(config, random, [(9, 1, 14, 5), (31,), (16, 17)])
    inputs, begins = packed(rows, 33)
    cls_positions = np.zeros((3, 4), int)
    for row, index, begin in begins:
        cls_positions[row, index] = begin
    config = dataclasses.replace(config, attention=attention)
    ours = outputs(config, params, inputs | {"cls_positions": cls_positions})
    for row, index, begin in begins:
        ids, types = rows[row][index]
        one, place = slice(row, row + 1), slice(begin, begin + len(ids))
        alone = {
            "sequence_output": ours.sequence_output[one, place],
            "pooled_output": ours.pooled_output[one, index],
            "mlm_logits": ours.mlm_logits[one, place],
            "nsp_logits": ours.nsp_logits[one, index],
            "hidden_states": ours.hidden_states[:, one, place],
            "attentions": ours.attentions[:, one, :, place, place],
        }
        assert_same(alone, peer_outputs(torch, peer, {"input_ids": ids[None], "token_type_ids": types[None]}))
        elsewhere = np.delete(ours.attentions[:, one, :, place], np.r_[place], axis=-1)
        assert np.all(elsewhere == 0.0)


def training_batch(config, random):
    """(batch of bertjax with packed rows, its examples as (ids, types, masked positions, labels, is_random))."""
    sizes = bertjax.batch.shapes(rows=3, length=32, predictions=9, examples=4)
    batch = {name: np.zeros(*field) for name, field in sizes.items()}
    rows = random_examples(config, random, [(9, 14, 5), (30,), (3, 3, 12, 7)])
    inputs, begins = packed(rows, 32)
    examples = []
    for row, index, begin in begins:
        ids, types = rows[row][index]
        masked = np.sort(random.choice(len(ids), 2, replace=False))
        labels, is_random = random.integers(0, config.vocab_size, 2), int(random.integers(0, 2))
        slots = slice(2 * index, 2 * index + 2)
        batch["masked_lm_positions"][row, slots] = begin + masked
        batch["masked_lm_ids"][row, slots] = labels
        batch["masked_lm_weights"][row, slots] = 1.0
        batch["cls_positions"][row, index] = begin
        batch["next_sentence_labels"][row, index] = is_random
        batch["next_sentence_weights"][row, index] = 1.0
        examples.append((ids, types, masked, labels, is_random))
    batch |= inputs
    fields = {name: (len(field.dims), field.dtype) for name, field in bertjax.batch.FIELDS.items()}
    assert {name: (array.ndim, array.dtype) for name, array in batch.items()} == fields
    return batch, examples


def peer_gradients(torch, peer, examples):
    """(loss, gradient of every named parameter): each example in a forward pass of its own."""
    cross_entropy = torch.nn.functional.cross_entropy
    mlm, nsp, predictions = torch.zeros(()), torch.zeros(()), 0
    for ids, types, masked, labels, is_random in examples:
        out = peer(input_ids=torch.tensor(ids[None]), token_type_ids=torch.tensor(types[None]))
        mlm = mlm + cross_entropy(out.prediction_logits[0, masked], torch.tensor(labels), reduction="sum")
        nsp = nsp + cross_entropy(out.seq_relationship_logits, torch.tensor([is_random]), reduction="sum")
        predictions += len(labels)
    loss = mlm / (predictions + MLM_WEIGHT_EPSILON) + nsp / len(examples)
    peer.zero_grad()
    loss.backward()
    return loss.item(), {name: parameter.grad.numpy().copy() for name, parameter in peer.named_parameters()}


def loss_and_gradients(config, params, batch):
    graphdef = graphdef_of(config)

    def loss(params):
        return batch_loss(merge_params(graphdef, params).on_batch(batch), batch)

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    return float(value), to_tensors(grads, config)


@pytest.fixture(scope="module")
def training_case(torch, new_peer, translated):
    """``training_case(name of a shape)``: config, parameters, batch, and the peer's loss and gradients on it."""

    @cache
    def make(shape):
        peer = new_peer(attention_probs_dropout_prob=0.0, **SHAPES[shape])
        config, params = translated(peer)
        batch, examples = training_batch(config, np.random.default_rng(11))
        return config, params, batch, *peer_gradients(torch, peer, examples)

    return make


def assert_same_gradients(ours, theirs):
    assert set(ours) == set(theirs)
    for name, gradient in theirs.items():
        within = max(GRADIENTS_WITHIN * np.abs(gradient).max(), GRADIENT_FLOOR)
        np.testing.assert_allclose(ours[name], gradient, atol=within, rtol=0, err_msg=name)


# Every pair of choices that touch each other: recomputation wraps the layer, a scan wraps that; all attend alike.
WAYS = [
    *((scan, remat, "explicit") for scan in (True, False) for remat in REMAT_POLICIES),
    *((index % 2 == 0, "layer", name) for index, name in enumerate(SUPPORTED) if name != "explicit"),
]


@pytest.mark.parametrize(("scan_layers", "remat", "attention"), WAYS)
def test_gradients_however_the_layers_are_run(scan_layers, remat, attention, training_case):
    config, params, batch, loss, gradients = training_case("two layers")
    config = dataclasses.replace(config, scan_layers=scan_layers, remat=remat, attention=attention)
    our_loss, our_gradients = loss_and_gradients(config, params, batch)
    assert abs(our_loss - loss) < OUTPUTS_WITHIN
    assert_same_gradients(our_gradients, gradients)


@pytest.mark.parametrize(
    "shape", ["odd heads of odd size, gelu_new", "four layers, relu", "heads of size one, three types"]
)
def test_gradients_of_other_shapes(shape, training_case):
    config, params, batch, loss, gradients = training_case(shape)
    our_loss, our_gradients = loss_and_gradients(config, params, batch)
    assert abs(our_loss - loss) < OUTPUTS_WITHIN
    assert_same_gradients(our_gradients, gradients)


def test_the_tied_embeddings_gradient_counts_both_uses(training_case):
    """A token that is no label and never read still gets the gradient of its logit; a read one gets both."""
    config, params, batch, _, gradients = training_case("two layers")
    name = "bert.embeddings.word_embeddings.weight"
    graphdef = graphdef_of(config)

    def loss(as_input, as_output):
        model = merge_params(graphdef, params | {"embeddings": params["embeddings"] | {"word_embeddings": as_output}})
        model.lookup = lambda table, ids: as_input[ids]
        return batch_loss(model.on_batch(batch), batch)

    table = jax.numpy.asarray(params["embeddings"]["word_embeddings"])
    parts = [np.asarray(part)[: config.vocab_size] for part in jax.jit(jax.grad(loss, argnums=(0, 1)))(table, table)]
    largest = np.abs(gradients[name]).max()
    assert all(np.abs(part).max() > 0.1 * largest for part in parts)
    np.testing.assert_allclose(sum(parts), gradients[name], atol=GRADIENTS_WITHIN * largest, rtol=0)
