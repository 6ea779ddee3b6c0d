"""The stack of layers, scanned or unrolled, with or without rematerialisation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.block import Block, BlockSpec, Pass
from bertjax.model.layers import LayerNorm
from bertjax.model.parameters import Maker

# What the backward pass keeps of a layer; None: all that autodiff wants.
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "layer": jax.checkpoint_policies.nothing_saveable,
    "save_matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}

# ``(layer, its input, its output, its window) -> pytree``: what is kept of every layer, such as its output.
Record = Callable[[Block, jax.Array, jax.Array, int | None], Any]


class Encoder(nnx.Module):
    """``layers`` holds all L layers stacked, however they are run: checkpoints do not depend on that choice."""

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker):
        self.layers = Block(config, spec, make.stacked("layers"))
        if spec.norm == "pre":
            self.layer_norm = LayerNorm(make, config.layer_norm_eps)
        self.config, self.spec = config, spec

    def __call__(
        self,
        x: jax.Array,
        run: Pass,
        constrain: Callable[[jax.Array], jax.Array],
        record: Record,
        num_positions: int | None = None,
    ) -> tuple[jax.Array, Any]:
        """x [B, S, H] -> ([B, S, H], what ``record`` returned, stacked over the layers [L, ...]).

        ``constrain`` pins the sharding of the activations between layers. num_positions: the last layer computes only
        the first positions of each row, [B, num_positions, H]; it still attends to all of them.
        """
        config, windows = self.config, self.spec.windows
        graphdef, stacked = nnx.split(self.layers)

        def run_layer(x, params_and_index, window: int | None, num_positions: int | None, in_scan: bool):
            def layer(x, params_and_index):
                params, index = params_and_index
                block = nnx.merge(graphdef, params)
                y = constrain(block(x, run, index, window, num_positions))
                return y, record(block, x, y, window)

            policy = REMAT_POLICIES[config.remat]
            if policy is not None:
                # XLA merges nothing across the edge of a scan, so the costly guard against that is not needed there.
                layer = jax.checkpoint(layer, policy=policy, prevent_cse=not in_scan)
            return layer(x, params_and_index)

        def run_period(x, params_and_indices):
            """The layers of one period, stacked [period, ...], each with its own window."""
            records = []
            for place, window in enumerate(windows):
                one = jax.tree.map(lambda p, i=place: p[i], params_and_indices)
                x, recorded = run_layer(x, one, window, None, in_scan=True)
                records.append(recorded)
            return x, jax.tree.map(lambda *parts: jnp.stack(parts), *records)

        L, period = config.num_hidden_layers, len(windows)
        layers = stacked, jnp.arange(L, dtype=jnp.uint32)
        scanned = 0 if not config.scan_layers else L if num_positions is None else L - 1
        scanned -= scanned % period
        records = []
        if scanned:
            first = layers if scanned == L else jax.tree.map(lambda p: p[:scanned], layers)
            one_step = partial(run_layer, window=windows[0], num_positions=None, in_scan=True)
            if period > 1:
                first = jax.tree.map(lambda p: p.reshape(-1, period, *p.shape[1:]), first)
                one_step = run_period
            x, recorded = jax.lax.scan(one_step, x, first)
            records.append(recorded if period == 1 else jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:]), recorded))
        for index in range(scanned, L):
            only = num_positions if index == L - 1 else None
            one = jax.tree.map(lambda p, i=index: p[i], layers)
            x, recorded = run_layer(x, one, windows[index % period], only, in_scan=False)
            records.append(jax.tree.map(lambda r: r[None], recorded))
        x = self.layer_norm(x) if self.spec.norm == "pre" else x
        return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *records)
