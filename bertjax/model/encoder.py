"""The stack of layers: unrolled, or scanned one or several at a time; with or without rematerialisation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bertjax.config import ModelConfig
from bertjax.model.block import Block, BlockSpec, Pass
from bertjax.model.layer_stack import each_layer, stacked
from bertjax.model.layers import LayerNorm
from bertjax.model.lean import Norm, layer_norm
from bertjax.model.parameters import Maker

# What the backward pass keeps of a layer; None: all that autodiff wants.
REMAT_POLICIES: dict[str, Callable | None] = {
    "none": None,
    "layer": jax.checkpoint_policies.nothing_saveable,
    "save_matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}

# By backend: the deepest encoder that is unrolled, and of a deeper one the layers that a step of the scan runs.
# An unrolled step moves half as many bytes, as nothing goes through stacks; it compiles in proportion to the depth.
UNROLLED = {"tpu": (24, 12), "gpu": (24, 12), "cpu": (0, 1)}

# ``(layer, its input, its output, its window) -> pytree``: what is kept of every layer, such as its output.
Record = Callable[[Block, jax.Array, jax.Array, int | None], Any]


def layers_at_once(config: ModelConfig, backend: str) -> int:
    """Layers that one step of the scan runs; all of them: the encoder is unrolled."""
    L = config.num_hidden_layers
    if config.scan_layers is False:
        return L
    if config.layers_per_scan_step is not None:
        return min(L, config.layers_per_scan_step)
    if config.scan_layers is True:
        return 1
    deepest, of_deeper = UNROLLED.get(backend, UNROLLED["cpu"])
    return L if deepest >= L else of_deeper


class Encoder(nnx.Module):
    """``layers`` holds all L layers stacked, however they are run: checkpoints do not depend on that choice.

    layers_at_once: how many a step of the scan runs; L: all are unrolled.
    """

    def __init__(self, config: ModelConfig, spec: BlockSpec, make: Maker, layers_at_once: int):
        self.layers = Block(config, spec, make.stacked("layers"))
        if spec.norm == "pre":
            self.layer_norm = LayerNorm(make, config.layer_norm_eps)
        self.config, self.spec, self.layers_at_once = config, spec, layers_at_once

    @property
    def unrolled(self) -> bool:
        return self.layers_at_once >= self.config.num_hidden_layers

    def __call__(
        self,
        x: jax.Array,
        run: Pass,
        constrain: Callable[[jax.Array], jax.Array],
        record: Record | None = None,
        num_positions: int | None = None,
    ) -> tuple[jax.Array, Any]:
        """x [B, S, H] -> ([B, S, H], what ``record`` returned, stacked over the layers [L, ...]; None without it).

        ``constrain`` pins the sharding of the activations between layers. num_positions: the last layer computes only
        the first positions of each row, [B, num_positions, H]; it still attends to all of them.
        """
        config, windows, L = self.config, self.spec.windows, self.config.num_hidden_layers
        policy = REMAT_POLICIES[config.remat]
        graphdef, params = nnx.split(self.layers)
        normed = lambda x, norm: x if norm is None else layer_norm(config.layer_norm_eps, x, *norm)

        def run_layer(x, norm: Norm | None, params, index, window: int | None, num_positions, in_scan: bool):
            """``norm``: what x must still go through. Returns the layer's output with its own, and the record."""

            def layer(x, norm, params, index):
                block = nnx.merge(graphdef, params)
                y, norm_of_y = block(x, norm, run, index, window, num_positions)
                y = constrain(y)
                return y, norm_of_y, record and record(block, normed(x, norm), normed(y, norm_of_y), window)

            if policy is not None:
                # XLA merges nothing across the edge of a scan, so the costly guard against that is not needed there.
                layer = jax.checkpoint(layer, policy=policy, prevent_cse=not in_scan)
            return layer(x, norm, params, index)

        def run_layers(x, params, indices, only: int | None, in_scan: bool):
            """These layers one after the other, the last for the positions ``only``; records stacked."""
            layers, norm, records = each_layer(params), None, []
            for place, (params, index) in enumerate(zip(layers, indices, strict=True)):
                num_positions = only if place == len(layers) - 1 else None
                window = windows[place % len(windows)]
                x, norm, recorded = run_layer(x, norm, params, index, window, num_positions, in_scan)
                records.append(recorded)
            return normed(x, norm), jax.tree.map(lambda *parts: jnp.stack(parts), *records)

        # A step of the scan runs whole periods, so that each of its layers always has the same window.
        at_once = -(-self.layers_at_once // len(windows)) * len(windows)
        scanned = 0 if at_once >= L else L if num_positions is None else L - 1
        scanned -= scanned % at_once
        indices, records = jnp.arange(L, dtype=jnp.uint32), []
        if scanned:
            params = stacked(params)
            groups = jax.tree.map(lambda p: p[:scanned].reshape(-1, at_once, *p.shape[1:]), (params, indices))
            x, recorded = jax.lax.scan(lambda x, group: run_layers(x, *group, only=None, in_scan=True), x, groups)
            records.append(jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:]), recorded))
            params = jax.tree.map(lambda p: p[scanned:], params)
        if scanned < L:
            x, recorded = run_layers(x, params, indices[scanned:], only=num_positions, in_scan=False)
            records.append(recorded)
        x = self.layer_norm(x) if self.spec.norm == "pre" else x
        return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *records)
