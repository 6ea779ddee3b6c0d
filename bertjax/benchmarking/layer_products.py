"""The rate of plain matrix products of a model's shapes: what the arithmetic of a step could reach on this device."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.benchmarking.timing import timer
from bertjax.config import ModelConfig
from bertjax.model.precision import Precision

_LEAST_TIMES = 3


class Product(NamedTuple):
    """spec: of ``jnp.einsum``. a, b: shapes of the factors. count: how often a layer does it, forward and backward."""

    spec: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    count: int

    @property
    def flops(self) -> float:
        """Of one, two a multiply-add."""
        letters = self.spec.split("->")[0].replace(",", "")
        return 2.0 * math.prod(dict(zip(letters, (*self.a, *self.b), strict=True)).values())


def products_of_layer(model: ModelConfig, rows: int, length: int) -> list[Product]:
    """Of one layer, forward and with both gradients of each product; ``rows`` of ``length`` tokens."""
    T, H, F, N = rows * length, model.hidden_size, model.intermediate_size, model.num_attention_heads
    linear = [(H, H, 4), (H, F, 1), (F, H, 1)]
    scores, mixed = (rows, N, length, length), (rows, N, length, H // N)
    return [
        *(Product("ti,io->to", (T, i), (i, o), n) for i, o, n in linear),
        *(Product("to,io->ti", (T, o), (i, o), n) for i, o, n in linear),
        *(Product("ti,to->io", (T, i), (T, o), n) for i, o, n in linear),
        Product("bnqd,bnkd->bnqk", mixed, mixed, 2),
        Product("bnqk,bnkd->bnqd", scores, mixed, 2),
        Product("bnqk,bnqd->bnkd", scores, mixed, 2),
    ]


def product_rate(model: ModelConfig, precision: Precision, rows: int, length: int) -> Callable[[float], float]:
    """``rate(seconds) -> FLOP/s`` of a layer's products on one device, each compiled and timed by itself.

    Factors and result have the dtypes of ``precision``. The time is spread over the products by their FLOPs, and each
    counts with its median.
    """
    products = products_of_layer(model, rows, length)
    runs = [_timer(product, precision) for product in products]
    total = sum(product.flops * product.count for product in products)

    def rate(seconds: float) -> float:
        spent = 0.0
        for product, run in zip(products, runs, strict=True):
            share, times = seconds * product.flops * product.count / total, []
            while len(times) < _LEAST_TIMES or sum(times) < share:
                times.append(run())
            spent += product.count * float(np.median(times))
        return total / spent

    return rate


def _timer(product: Product, precision: Precision) -> Callable[[], float]:
    """A function that runs a product and returns its seconds; it is compiled here."""
    keys = jax.random.split(jax.random.key(0))
    a, b = (
        jax.random.normal(key, shape, jnp.float32).astype(precision.operands)
        for key, shape in zip(keys, (product.a, product.b), strict=True)
    )
    return timer(jax.jit(lambda a, b: precision.product(product.spec, a, b)), a, b)
