"""The Python API as the README shows it."""

import numpy as np
import pytest
from flax import nnx

import bertjax
from bertjax.text.vocabulary import train_tokenizer

TEXTS = [
    "The cat sat. It was warm. Then it rained.",
    "Dogs bark loudly. They are happy.",
    "Ships sail. Wind blows.",
] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", TEXTS, 100, lowercase=True)


@pytest.fixture(scope="module")
def model(tokenizer):
    return bertjax.create_model(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=3, num_attention_heads=2
    )


def test_everything_public_is_there():
    for name in bertjax.__all__:
        assert getattr(bertjax, name) is not None
    assert set(bertjax.__all__) <= set(dir(bertjax))
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        _ = bertjax.lode_model


def test_outputs_by_name_with_their_shapes(model):
    ids = np.arange(10, 24).reshape(2, 7)
    out = model(ids, output_hidden_states=True, output_attentions=True)
    vocabulary = model.config.vocab_size
    for name, shape in {
        "sequence_output": (2, 7, 16),
        "pooled_output": (2, 16),
        "mlm_logits": (2, 7, vocabulary),
        "nsp_logits": (2, 2),
        "hidden_states": (4, 2, 7, 16),
        "attentions": (3, 2, 2, 7, 7),
    }.items():
        assert out[name].shape == getattr(out, name).shape == shape
    np.testing.assert_array_equal(out.hidden_states[-1], out.sequence_output)
    np.testing.assert_allclose(out.attentions.sum(-1), 1.0, rtol=1e-5)
    plain = model(ids.tolist())
    np.testing.assert_allclose(plain.mlm_logits, out.mlm_logits, atol=1e-5)
    assert plain.hidden_states is None and plain["attentions"] is None
    with pytest.raises(KeyError, match="pooled_output"):
        out["pooler_output"]


def test_a_second_call_compiles_nothing(model):
    from bertjax.model.bert import _compiled

    model([[5, 6, 7, 8, 9]])
    programs = _compiled._cache_size()
    model(np.array([[9, 8, 7, 6, 5]]))
    assert _compiled._cache_size() == programs


def test_a_text_gives_the_same_alone_and_in_a_padded_batch(model, tokenizer):
    texts = ["The cat", "Dogs bark loudly and the cat sat. Then it rained."]
    together = model(**bertjax.encode(tokenizer, texts))
    for row, text in enumerate(texts):
        alone = model(**bertjax.encode(tokenizer, text))
        length = alone.sequence_output.shape[1]
        np.testing.assert_allclose(together.sequence_output[row, :length], alone.sequence_output[0], atol=1e-5)
        np.testing.assert_allclose(together.nsp_logits[row], alone.nsp_logits[0], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": [[1, 2], [3]]}, r"input_ids must be a rectangle .* lengths \[1, 2\].*bertjax.encode"),
        ({"input_ids": [1, 2, 3]}, r"input_ids must have shape \[any, any\], not \[3\]"),
        ({"input_ids": [[0.5, 1.0]]}, "input_ids must be integers, not float64"),
        ({"input_ids": "text"}, "input_ids must be a rectangle of numbers"),
        ({"input_ids": [[1, 10**6]]}, r"input_ids must lie in 0 \.\. \d+; found 1000000"),
        ({"input_ids": [[1, -1]]}, "found -1"),
        ({"input_ids": [[1] * 600]}, "600 tokens; the model has 512 positions"),
        ({"input_ids": [[1, 2]], "token_type_ids": [[0, 2]]}, r"token_type_ids must lie in 0 \.\. 1"),
        ({"input_ids": [[1, 2]], "position_ids": [[0, 512]]}, "position_ids must lie"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 1, 0]]}, r"attention_mask must have shape \[1, 2\]"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 2]]}, r"attention_mask must lie in 0 \.\. 1"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 0.9]]}, "attention_mask must hold ones and zeros"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, np.nan]]}, "attention_mask must hold ones and zeros"),
        ({"input_ids": np.zeros((0, 5), int)}, r"input_ids is empty: its shape is \[0, 5\]"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 1]], "example_ids": [[1, 1]]}, "not both"),
        ({"input_ids": [[1, 2]], "masked_lm_positions": [[2]]}, "masked_lm_positions must lie"),
        ({"input_ids": [[1, 2]], "cls_positions": [[0], [0]]}, "cls_positions must have shape"),
    ],
)
def test_errors_name_the_argument(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model(**arguments)


def test_masks_may_be_booleans_or_floats(model):
    ids, mask = [[5, 6, 7]], np.array([[1, 1, 0]])
    expected = model(ids, attention_mask=mask).pooled_output
    for other in (mask.astype(bool), mask.astype(np.float32), mask.tolist()):
        np.testing.assert_array_equal(model(ids, attention_mask=other).pooled_output, expected)


def test_the_loss_names_what_is_wrong(model, tokenizer):
    batch = next(bertjax.masked_batches(TEXTS, tokenizer, batch_size=2, sequence_length=32))
    headless = bertjax.create_model(
        vocab_size=tokenizer.vocab_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        for_pretraining=False,
    )
    for output in (headless.on_batch(batch), model(batch["input_ids"])):
        with pytest.raises(ValueError, match=r"output must be model\.on_batch\(batch\)"):
            bertjax.pretraining_loss(output, batch)


def test_dropout_is_on_with_a_seed_alone(model, tokenizer):
    batch = next(bertjax.masked_batches(TEXTS, tokenizer, batch_size=2, sequence_length=32))
    assert bertjax.Noise is bertjax.DropoutSeed  # its old name
    seed = lambda step: bertjax.DropoutSeed(np.uint32(0), np.uint32(step), np.arange(2, dtype=np.uint32))
    plain, first, again, other = (
        np.asarray(model.on_batch(batch, n).nsp_logits) for n in (None, seed(1), seed(1), seed(2))
    )
    assert np.array_equal(first, again) and not np.allclose(first, other) and not np.allclose(first, plain)


def test_a_loop_of_ones_own(model, tokenizer):
    """Masked batches from texts and the loss as a callable: plain gradient descent brings the loss down."""
    graphdef, params = nnx.split(model)
    batches = lambda seed: bertjax.masked_batches(
        TEXTS, tokenizer, batch_size=4, sequence_length=32, objective="mlm_nsp", seed=seed
    )

    @nnx.jit
    def value_and_grad(params, batch):
        loss = lambda params: bertjax.pretraining_loss(nnx.merge(graphdef, params).on_batch(batch), batch)
        import jax

        return jax.value_and_grad(loss, has_aux=True)(params)

    import jax

    losses = []
    for seed in range(30):
        for batch in batches(seed):
            (loss, metrics), grads = value_and_grad(params, batch)
            assert float(loss) == pytest.approx(float(metrics["mlm_loss"] + metrics["nsp_loss"]), rel=1e-5)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
            losses.append(float(loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 1.0
