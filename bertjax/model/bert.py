"""The whole model: embeddings, encoder, pooler and the heads of pretraining."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jax.core import Tracer

from bertjax.attention_kernels import KERNELS
from bertjax.config import ModelConfig
from bertjax.model.attention import Attend, SegmentIds, kernel, kernel_name
from bertjax.model.block import Block, BlockSpec, Pass, bert
from bertjax.model.dropout import DropoutSeed
from bertjax.model.embeddings import Embeddings
from bertjax.model.encoder import Encoder, layers_at_once
from bertjax.model.heads import HEADS, PRETRAINING_HEADS, Encoded, Pooler, VocabularyProjection
from bertjax.model.layer_stack import is_unstacked
from bertjax.model.parameters import Maker, axis_sizes
from bertjax.model.precision import FLOAT32, Precision


@struct.dataclass
class BertOutput:
    """What the model returns; each by attribute or by name in brackets.

    sequence_output [B, S, H]: the last layer's output. pooled_output [B, H], or [B, E, H] where ``cls_positions``
    were given. logits: those of the heads of pretraining, each also by its own name, None if the model does not have
    the head: nsp_logits [B, 2] or [B, E, 2]; mlm_logits [B, S, vocab_size], or with ``masked_lm_positions`` [B, P,
    padded V] with the ids beyond ``vocab_size`` at -1e30. projections: what logits over the vocabulary are made of, by
    the same names; losses read these. On request (else None): hidden_states [L+1, B, S, H], the
    embeddings and every layer's output; attentions float32 [L, B, N, S, S], the probabilities before dropout. All
    float32 unless the model's precision is another.
    """

    sequence_output: jax.Array
    pooled_output: jax.Array
    logits: dict[str, jax.Array] = field(default_factory=dict)
    projections: dict[str, VocabularyProjection] = field(default_factory=dict)
    hidden_states: jax.Array | None = None
    attentions: jax.Array | None = None

    def __getattr__(self, name: str) -> Any:  # of names that are not fields
        if name in (head.logits for head in HEADS.values()):
            return self.logits.get(name)
        raise AttributeError(name)

    def __getitem__(self, name: str) -> Any:
        names = [*self.__dataclass_fields__, *(head.logits for head in HEADS.values())]
        if name not in names:
            raise KeyError(f"no output {name!r}; there are {', '.join(names)}")
        return getattr(self, name)


class Bert(nnx.Module):
    """BERT, with heads of pretraining or, with ``heads=()``, without them.

    The model knows no mesh: how attention is computed, how the embedding table is looked up and where arrays are
    pinned to devices come in as functions.

    heads: names in ``model.heads.HEADS``. precision: dtypes of the computation. spec: what the layers are made of; by
    default those of 2018. attend: an attention function (``model.attention``); by default that of the kernel which the
    config names for ``backend``, by default that of jax. lookup: ``(table [V, H], ids [B, S]) -> [B, S, H]``.
    divided: makes a kernel run on each device's own rows and heads. constrain: applied to activations [B, S, H] between
    layers. replicate: brings a small divided parameter to every device before its use.
    """

    def __init__(
        self,
        config: ModelConfig,
        rngs: nnx.Rngs,
        *,
        heads: Sequence[str] = PRETRAINING_HEADS,
        precision: Precision = FLOAT32,
        spec: BlockSpec | None = None,
        attend: Attend | None = None,
        backend: str | None = None,
        lookup: Callable[[jax.Array, jax.Array], jax.Array] = lambda table, ids: jnp.take(table, ids, axis=0),
        divided: Callable[[Attend], Attend] = lambda attend: attend,
        constrain: Callable[[jax.Array], jax.Array] = lambda x: x,
        replicate: Callable[[jax.Array], jax.Array] = lambda x: x,
    ):
        self.config, self.precision, self.heads = config, precision, tuple(heads)
        self.spec = spec = spec or bert(config)
        windowed = any(window is not None for window in spec.windows)
        if attend is None:
            name = kernel_name(config, precision, windowed, backend)
            attend = kernel(name, precision, backend)
            attend = divided(attend) if KERNELS[name].per_device else attend
        self.attend = attend
        self.lookup, self.constrain, self.replicate = lookup, constrain, replicate
        make = Maker(axis_sizes(config), config.initializer_range, rngs)
        self.embeddings = Embeddings(config, spec, make)
        at_once = layers_at_once(config, backend or jax.default_backend())
        self.encoder = Encoder(config, spec, dataclasses.replace(make, is_fp8=precision.is_fp8), at_once)
        self.pooler = Pooler(make)
        for name in self.heads:
            setattr(self, name, HEADS[name].make(config, make))

    def __call__(
        self,
        input_ids: Any,
        *,
        token_type_ids: Any = None,
        position_ids: Any = None,
        example_ids: Any = None,
        attention_mask: Any = None,
        masked_lm_positions: Any = None,
        cls_positions: Any = None,
        dropout_seed: DropoutSeed | None = None,
        noise: DropoutSeed | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BertOutput:
        """input_ids and the like: integers [B, S], as lists, NumPy or JAX arrays.

        attention_mask: 1 = token, 0 = padding; without it every position is attended to. example_ids number the
        packed examples of a row from 1, 0 is padding; give one of the two or neither. dropout_seed turns dropout on
        (noise: its old name, for one release). masked_lm_positions int [B, P], cls_positions int [B, E]: see
        ``BertOutput``. Raises ValueError that names the argument.
        """
        arguments = self.checked(input_ids, token_type_ids, position_ids, example_ids, attention_mask)
        rows, length = arguments["input_ids"].shape
        for name, positions in (("masked_lm_positions", masked_lm_positions), ("cls_positions", cls_positions)):
            if positions is not None:
                arguments[name] = _checked_ids(name, positions, length, (rows, None))
        arguments["dropout_seed"] = noise if dropout_seed is None else dropout_seed
        wanted: dict[str, Any] = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        return evaluated(self, arguments, **wanted)

    def checked(
        self,
        input_ids: Any,
        token_type_ids: Any = None,
        position_ids: Any = None,
        example_ids: Any = None,
        attention_mask: Any = None,
    ) -> dict[str, Any]:
        """The arguments as ``compute`` takes them. Raises ValueError that names the argument."""
        config = self.config
        input_ids = _checked_ids("input_ids", input_ids, config.vocab_size, (None, None))
        shape, S = input_ids.shape, input_ids.shape[1]
        if position_ids is None and config.max_position_embeddings < S:
            raise ValueError(
                f"input_ids has rows of {S} tokens; the model has {config.max_position_embeddings} positions"
            )
        token_type_ids = jnp.zeros(shape, jnp.int32) if token_type_ids is None else token_type_ids
        position_ids = jnp.broadcast_to(jnp.arange(S)[None, :], shape) if position_ids is None else position_ids
        return {
            "input_ids": input_ids,
            "token_type_ids": _checked_ids("token_type_ids", token_type_ids, config.type_vocab_size, shape),
            "position_ids": _checked_ids("position_ids", position_ids, config.max_position_embeddings, shape),
            "segments": _segments(example_ids, attention_mask, shape),
        }

    def compute(
        self,
        input_ids: jax.Array,
        token_type_ids: jax.Array,
        position_ids: jax.Array,
        segments: SegmentIds | None,
        dropout_seed: DropoutSeed | None = None,
        masked_lm_positions: jax.Array | None = None,
        cls_positions: jax.Array | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        num_positions: int | None = None,
    ) -> BertOutput:
        """The forward pass on checked arguments; see ``__call__``.

        num_positions: compute only the first positions of ``sequence_output`` (1: [CLS]), [B, num_positions, H]; the
        last layer skips the others. Not with hidden states or attentions.
        """
        x = self.embeddings(
            input_ids, token_type_ids, position_ids, self.precision, dropout_seed, self.lookup, self.replicate
        )
        embedded = x = self.constrain(x)
        run = Pass(segments, dropout_seed, self.precision, self.attend)

        recorded = output_hidden_states or output_attentions

        def record(block: Block, x: jax.Array, y: jax.Array, window: int | None) -> dict[str, jax.Array]:
            kept = {"hidden_states": y} if output_hidden_states else {}
            return kept | ({"attentions": block.attention.probabilities(x, run, window)} if output_attentions else {})

        x, records = self.encoder(x, run, self.constrain, record if recorded else None, num_positions)
        records = records or {}
        if output_hidden_states:
            records["hidden_states"] = jnp.concatenate([embedded[None], records["hidden_states"]])

        at_cls = x[:, 0] if cls_positions is None else _take_positions(x, cls_positions)
        pooled = self.pooler(at_cls, self.precision)
        masked = None if masked_lm_positions is None else _take_positions(x, masked_lm_positions)
        encoded = Encoded(x, masked, pooled, self.embeddings.word_embeddings[...])
        found = {HEADS[name].logits: getattr(self, name)(encoded, self.precision) for name in self.heads}
        projections = {name: value for name, value in found.items() if isinstance(value, VocabularyProjection)}
        # A compiled program that takes the loss from the projection never computes these logits.
        logits = found | {name: projection.logits() for name, projection in projections.items()}
        return BertOutput(x, pooled, logits, projections, **records)

    def on_batch(self, batch: Mapping[str, Any], dropout_seed: DropoutSeed | None = None) -> BertOutput:
        """The outputs on a training batch (``bertjax.batch``): logits at its masked positions and [CLS] positions.

        ``loss, metrics = bertjax.pretraining_loss(model.on_batch(batch), batch)``. dropout_seed: for dropout,
        ``bertjax.DropoutSeed(seed, step, rows)``, three uint32: two scalars and the number of each row [B].
        """
        names = ["input_ids", "token_type_ids", "position_ids", "example_ids", "masked_lm_positions", "cls_positions"]
        return self(**{name: batch[name] for name in names}, dropout_seed=dropout_seed)


def _checked_ids(name: str, value: Any, below: int, shape: tuple[int | None, ...]) -> jax.Array:
    """``value`` as int32 of this shape (None: any size) with values in 0 .. ``below`` - 1. Raises ValueError. Of arrays
    that are being traced only shape and dtype are checked."""
    array = value if isinstance(value, jax.Array) else _as_numpy(name, value)
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{wanted}], not {list(array.shape)}")
    if not (jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool):
        raise ValueError(f"{name} must be integers, not {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: its shape is {list(array.shape)}")
    if not isinstance(array, Tracer):
        seen = np.asarray(array)
        least, most = int(seen.min()), int(seen.max())
        if least < 0 or most >= below:
            raise ValueError(f"{name} must lie in 0 .. {below - 1}; found {least if least < 0 else most}")
    return jnp.asarray(array, jnp.int32)


def _as_numpy(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        lengths = sorted({len(row) for row in value if hasattr(row, "__len__")}) if isinstance(value, list) else []
        what = f"its rows have lengths {lengths}" if len(lengths) > 1 else f"got {type(value).__name__}"
        raise ValueError(
            f"{name} must be a rectangle of numbers ({what}); bertjax.encode(tokenizer, texts) pads texts of unequal "
            f"length and gives the attention_mask"
        )
    return array


def _segments(example_ids: Any, attention_mask: Any, shape: tuple[int, int]) -> SegmentIds | None:
    if example_ids is not None and attention_mask is not None:
        raise ValueError("give example_ids or attention_mask, not both")
    if example_ids is not None:
        ids = _checked_ids("example_ids", example_ids, shape[1] + 1, shape)
        return SegmentIds(ids, ids)
    if attention_mask is None:
        return None
    mask = attention_mask if isinstance(attention_mask, jax.Array) else _as_numpy("attention_mask", attention_mask)
    if jnp.issubdtype(mask.dtype, jnp.floating):
        if not isinstance(mask, Tracer) and not np.isin(np.asarray(mask), (0, 1)).all():
            raise ValueError("attention_mask must hold ones and zeros")
        mask = mask.astype(np.int32)
    mask = _checked_ids("attention_mask", mask, 2, shape)
    return SegmentIds(jnp.ones_like(mask), mask)


def _take_positions(x: jax.Array, positions: jax.Array) -> jax.Array:
    """x [B, S, H], positions int [B, P] -> [B, P, H]."""
    # In float32, because the gradient sums over repeated positions.
    return jnp.take_along_axis(x.astype(jnp.float32), positions[:, :, None], axis=1).astype(x.dtype)


def split_params(model: nnx.Module) -> tuple[Any, dict[str, Any]]:
    """A model as (graph definition, nested dict of float32 arrays). Inverse: ``merge_params``."""
    graphdef, state = nnx.split(model)
    return graphdef, nnx.to_pure_dict(state)


def merge_params(graphdef: Any, params: dict[str, Any]) -> Any:
    """The model of ``graphdef`` that holds ``params`` (nested dict of arrays or ``Unstacked``, tracers allowed)."""
    return nnx.merge(graphdef, nnx.State(jax.tree.map(nnx.Param, params, is_leaf=is_unstacked)))


def evaluated(model: Any, arguments: dict[str, Any], **wanted: bool) -> Any:
    """``model.compute``: traced with the program around it, or by itself, as in a notebook, compiled for its shape."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((arguments, nnx.state(model)))):
        return model.compute(**arguments, **wanted)
    return _compiled(*split_params(model), arguments, **wanted)


@partial(jax.jit, static_argnums=0, static_argnames=("output_hidden_states", "output_attentions"))
def _compiled(graphdef: Any, params: Any, arguments: dict[str, Any], **wanted: bool) -> Any:
    return merge_params(graphdef, params).compute(**arguments, **wanted)
