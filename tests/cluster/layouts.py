"""One process of a group that trains the same few steps on one mesh after another, and writes down what it saw.

python layouts.py INDEX COUNT PORT OUTPUT MESH [MESH ...]     (a MESH is such as 2,2,2)
"""

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.cluster.environment import ClusterMember
from bertjax.cluster.processes import distributed_run
from bertjax.config import ModelConfig, ParallelConfig, PhaseConfig, RunConfig
from bertjax.data.stream.pipeline import open_batches
from bertjax.model.dropout import DropoutSeed, drop, dropout_at
from bertjax.objectives.registry import phase_settings
from bertjax.parallel.mesh import make_mesh
from bertjax.parallel.sharding import batch_sharding, gathered, process_rows, to_global
from bertjax.train.pretraining_job import make_job

STEPS = 50
VOCABULARY = 200
PHASE = PhaseConfig(
    sequence_length=32, batch_size=16, steps=STEPS, max_predictions=5, learning_rate=1e-3, warmup_steps=5
)
RUN = RunConfig(
    model=ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=8,
        intermediate_size=256,
        max_position_embeddings=32,
    ),
    phases={"phase1": PHASE},
    parallel=ParallelConfig(rows_per_device=16),
    precision="float32",
)


def corpus_and_tokenizer():
    """60 made-up documents, the same in every process."""
    random = np.random.default_rng(0)
    sentences = random.integers(3, 21, 60)
    lengths = random.integers(2, 16, sentences.sum())
    documents, before = np.concatenate([[0], np.cumsum(sentences)]), np.concatenate([[0], np.cumsum(lengths)])
    corpus = SimpleNamespace(
        tokens=random.integers(5, VOCABULARY, lengths.sum()).astype(np.uint16),
        sentence_lengths=lengths.astype(np.uint16),
        document_sentences=documents.astype(np.int64),
        document_tokens=before[documents].astype(np.int64),
        num_documents=60,
        num_sentences=len(lengths),
        num_tokens=int(lengths.sum()),
    )
    ids = {"pad_id": 0, "unk_id": 1, "cls_id": 2, "sep_id": 3, "mask_id": 4, "special_ids": (0, 1, 2, 3, 4)}
    continues = lambda: np.zeros(VOCABULARY, bool)
    return corpus, SimpleNamespace(kind="wordpiece", vocab_size=VOCABULARY, continues_word=continues, **ids)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def train(sizes):
    """What this process saw: losses, digests of rows and masks by global row, bytes a device, the last parameters."""
    mesh = make_mesh(*sizes)
    job = make_job(RUN, mesh)
    state, step = job.initial_state(), job.train_step(PHASE)
    corpus, tokenizer = corpus_and_tokenizer()
    rows, losses, batches = process_rows(PHASE.batch_size, mesh), [], {}
    settings = [phase_settings(RUN, 0)]
    with open_batches(corpus, tokenizer, settings, 0, 0, PHASE.batch_size, rows=rows, prefetch=0) as stream:
        for number in range(STEPS):
            batch, _ = next(stream)
            for position, row in enumerate(rows):
                fields = b"".join(batch[name][position].tobytes() for name in sorted(batch))
                batches[f"{number}:{row}"] = hashlib.sha256(fields).hexdigest()[:16]
            state, metrics = step(state, to_global(batch, mesh))
            losses.append(float(metrics["loss"]))
    held = [x for x in jax.tree.leaves((state.params, state.opt_state)) if x.ndim]
    bytes_held: dict[str, int] = {}
    for shard in (shard for x in held for shard in x.addressable_shards):
        key = str(shard.device.id)
        bytes_held[key] = bytes_held.get(key, 0) + shard.data.nbytes
    return {
        "losses": losses,
        "batches": batches,
        "masks": masks(mesh),
        "bytes": bytes_held,
        "total_bytes": sum(x.nbytes for x in held),
        "params": digest(np.concatenate([x.reshape(-1) for x in jax.tree.leaves(gathered(state.params, mesh))])),
    }


def masks(mesh):
    """Digest of the dropout mask of each row that this process's devices hold, made as the step makes them."""
    everywhere = jnp.arange(PHASE.batch_size, dtype=jnp.uint32)
    seed = lambda rows: DropoutSeed(jnp.uint32(0), jnp.uint32(7), rows)
    make = lambda rows: drop(jnp.ones((PHASE.batch_size, 32, 64)), dropout_at(3, 0.1, seed(rows))) != 0
    mask = jax.jit(make, out_shardings=batch_sharding(mesh))(everywhere)
    found = {}
    for shard in mask.addressable_shards:
        first = shard.index[0].start or 0
        found |= {str(first + n): digest(row) for n, row in enumerate(np.asarray(shard.data))}
    return found


def main():
    index, count, port = map(int, sys.argv[1:4])
    cluster = ClusterMember("127.0.0.1", port, count, index, "test") if count > 1 else None
    with distributed_run(cluster, None, 0.0, Path(sys.argv[4]).parent):
        seen = {sizes: train(tuple(map(int, sizes.split(",")))) for sizes in sys.argv[5:]}
    Path(sys.argv[4]).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
