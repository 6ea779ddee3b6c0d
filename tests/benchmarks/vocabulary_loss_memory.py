"""What the loss over the vocabulary takes, compiled for a machine that need not be present.

    python tests/benchmarks/vocabulary_loss_memory.py TOPOLOGY [TOKENS [IDS ...]]

For each size of the vocabulary: temporaries and bytes moved of the loss and its gradients, from bfloat16 features of
768 and a float32 table, by autodiff of the plain formula, with the logits whole, and in blocks.
"""

import sys

from bertjax.planning.topologies import devices_of, prepare_environment, read_topology

HIDDEN, PREDICTIONS = 768, 20


def main(topology: str, tokens: str = "1280", *ids: str) -> None:
    named = read_topology(topology)
    prepare_environment(named)

    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from bertjax.engine.job import compiler_options
    from bertjax.model.heads import VocabularyProjection
    from bertjax.model.precision import precision_named
    from bertjax.objectives import vocabulary_loss
    from bertjax.planning.programs import read_compiled

    device = devices_of(named)[0]
    precision = precision_named("bfloat16", device.platform)
    array = lambda shape, dtype=jnp.float32: jax.ShapeDtypeStruct(shape, dtype, sharding=SingleDeviceSharding(device))
    shape = (int(tokens) // PREDICTIONS, PREDICTIONS)

    def plain(projection, labels, weights):
        logits = projection.logits()
        at_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        hits = (at_label >= logits.max(axis=-1)).astype(jnp.float32)
        return jnp.sum((jax.nn.logsumexp(logits, axis=-1) - at_label) * weights), jnp.sum(hits * weights)

    def ours(projection, labels, weights):
        return vocabulary_loss.vocabulary_cross_entropy(projection, labels, weights)

    for size in map(int, ids or ("30592", "65536", "131072", "262144")):
        features, table = array((*shape, HIDDEN), precision.activations), array((size, HIDDEN))
        projection = VocabularyProjection(features, table, array((size,)), size, precision)
        ways = [("plain", plain, 0), ("whole", ours, size)]
        ways += [("in blocks", ours, 0)] * (size > vocabulary_loss.BLOCK_IDS)
        for name, loss, most_whole in ways:
            vocabulary_loss.MOST_WHOLE = most_whole
            step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=compiler_options(device.platform))
            compiled = step.lower(projection, array(shape, jnp.int32), array(shape)).compile()
            found = read_compiled(compiled, device.platform, 1)
            temporaries = compiled.memory_analysis().temp_size_in_bytes
            print(
                f"{topology}, {tokens} tokens, {size:,} ids, {name}: {temporaries / 2**20:,.0f} MiB of temporaries, "
                f"{found.bytes_accessed / 2**30:.2f} GiB moved, {found.flops / 1e12:.3f} TFLOP",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
