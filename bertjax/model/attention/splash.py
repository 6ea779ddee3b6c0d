"""``splash_attention`` of jax for TPUs: segments and two-sided windows, no dropout."""

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from bertjax.model.attention import SegmentIds
from bertjax.model.attention.padding import padded_rows, padded_segments
from bertjax.model.dropout import Dropout
from bertjax.model.precision import Precision

_BLOCKS = (512, 384, 256, 128)  # queries and keys of a block: the first that divides the row


def attend(
    query,
    key,
    value,
    segments: SegmentIds | None,
    window: int | None,
    dropout: Dropout | None,
    *,
    precision: Precision,
    backend: str,
) -> jax.Array:
    """See ``bertjax.model.attention``. Raises ValueError for dropout."""
    if dropout is not None:
        raise ValueError("attention = 'splash' has no dropout on attention probabilities")
    (B, Sq, N, D), S = query.shape, key.shape[1]
    ids = kernels.SegmentIds(*padded_segments(segments, B, Sq, S, _BLOCKS[-1]))
    # The kernel multiplies scores by nothing, and wants [N, S, D].
    query = query * D**-0.5
    query, key, value = (
        padded_rows(x.astype(precision.operands), _BLOCKS[-1]).swapaxes(1, 2) for x in (query, key, value)
    )
    sizes = query.shape[2], key.shape[2]
    mask = masks.FullMask(sizes) if window is None else masks.LocalMask(sizes, (window // 2, window // 2), 0)
    run = kernels.make_splash_mha(
        masks.MultiHeadMask([mask] * N),
        block_sizes=_block_sizes(*sizes),
        head_shards=1,
        q_seq_shards=1,
        interpret=backend == "cpu",
    )
    out_BxNxSxD = jax.vmap(run)(query, key, value, ids)
    return out_BxNxSxD.swapaxes(1, 2)[:, :Sq].astype(precision.activations)


def _block_sizes(queries: int, keys: int) -> kernels.BlockSizes:
    q, k = (next(size for size in _BLOCKS if length % size == 0) for length in (queries, keys))
    of_keys = {"block_q_dkv": q, "block_kv_dkv": k, "block_kv_dkv_compute": k}
    # The one backward kernel writes a gradient of the queries for each block of keys, so it is for one block.
    if keys == k:
        return kernels.BlockSizes(q, k, k, **of_keys, use_fused_bwd_kernel=True)
    return kernels.BlockSizes(q, k, k, **of_keys, block_q_dq=q, block_kv_dq=k)
