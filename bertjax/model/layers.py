"""The two layers that everything else is made of: an affine map and a layer norm."""

import jax
from flax import nnx

from bertjax.model import fp8
from bertjax.model.lean import Affine, Norm, gelu, layer_norm, normed_projects
from bertjax.model.parameters import ONES, ZEROS, Init, Maker
from bertjax.model.precision import Precision

ACTIVATIONS = {
    "gelu": gelu,  # x * Phi(x), by erf
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),  # the tanh form of google-research/bert
    "relu": jax.nn.relu,
}


class Linear(nnx.Module):
    """x [..., I] -> x @ kernel + bias [..., O]. inputs, outputs: logical axes; names: by model type, without suffix."""

    def __init__(self, make: Maker, inputs: str, outputs: str, **names: str):
        kernel = Init(stddev=make.stddev)
        self.kernel = make((inputs, outputs), kernel, decay=True, transposed=True, suffix=".weight", **names)
        self.bias = make((outputs,), ZEROS, decay=False, suffix=".bias", **names)
        if make.is_fp8:
            self.scaling = make.sized(**fp8.SIZES)(tuple(fp8.SIZES), ZEROS, decay=False)

    def __call__(self, x: jax.Array, precision: Precision) -> jax.Array:
        if precision.is_fp8 and hasattr(self, fp8.NAME):
            return fp8.scaled_project(x, self.kernel[...], self.bias[...], self.scaling[...])
        return precision.project(x, *self.parameters)

    @property
    def parameters(self) -> Affine:
        return Affine(self.kernel[...], self.bias[...])


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis H, in float32."""

    def __init__(self, make: Maker, eps: float, **names: str):
        self.scale = make(("hidden",), ONES, decay=False, suffix=".weight", **names)
        self.bias = make(("hidden",), ZEROS, decay=False, suffix=".bias", **names)
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        return layer_norm(self.eps, x, *self.parameters)

    @property
    def parameters(self) -> Norm:
        return Norm(self.scale[...], self.bias[...])


def projected(
    eps: float, precision: Precision, x: jax.Array, norm: Norm | None, *linears: Linear
) -> tuple[jax.Array, ...]:
    """(y, what each of ``linears`` makes of it) for y = norm(x) [..., H], or x without a norm."""
    if norm is None or precision.is_fp8:  # with 8 bits, the rounded y is kept for the products
        y = x if norm is None else layer_norm(eps, x, *norm)
        return y, *(linear(y, precision) for linear in linears)
    y, outputs = normed_projects(eps, precision, x, norm, tuple(linear.parameters for linear in linears))
    return y, *outputs
