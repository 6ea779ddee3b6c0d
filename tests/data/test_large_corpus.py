"""The first batch at step 900,000 of a run on 10^9 tokens: nothing before it is read again."""

import subprocess
import sys
from pathlib import Path

# In a process of its own, whose peak memory is this and nothing else. The lengths lie on disk, as those of a
# prepared corpus do; the tokens are one number, repeated without taking memory.
PROGRAM = """
import sys, time
from types import SimpleNamespace
import numpy as np
from bertjax.data.stream.cursor import Cursor
from bertjax.data.stream.pipeline import open_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.objectives.registry import find_objective

NSP = find_objective("mlm_nsp").maker

folder = sys.argv[1]
lengths, documents = np.load(folder + "/lengths.npy", "r"), np.load(folder + "/documents.npy", "r")
starts = np.load(folder + "/starts.npy", "r")
corpus = SimpleNamespace(
    tokens=np.broadcast_to(np.uint16(2000), (int(starts[-1]),)), sentence_lengths=lengths,
    document_sentences=documents, document_tokens=starts, num_documents=len(documents) - 1,
    num_sentences=len(lengths), num_tokens=int(starts[-1]),
)
tokenizer = SimpleNamespace(
    vocab_size=30522, pad_id=0, unk_id=1, cls_id=2, sep_id=3, mask_id=4, special_ids=(0, 1, 2, 3, 4),
    continues_word=lambda: np.zeros(30522, bool),
)
# 900,000 steps of 256 rows of 128 tokens are some 29 epochs.
cursor = Cursor(epoch=29, block=77, row=12345)
began = time.perf_counter()
with open_batches(corpus, tokenizer, [ExampleSettings(NSP)], 0, 0, 256, cursor) as batches:
    batch, after = next(batches)
assert (batch["example_ids"] > 0).mean() > 0.9 and after == Cursor(29, 77, 12345 + 256)
seconds = time.perf_counter() - began
# Not getrusage: its peak is handed down from the process that started this one.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(corpus.num_tokens, seconds, peak)
"""


def test_first_batch_of_step_900_000(tmp_path):
    import numpy as np

    random = np.random.RandomState(0)
    sizes = random.geometric(1 / 25, 1_600_000).astype(np.int64)  # sentences a document
    documents = np.concatenate([[0], np.cumsum(sizes)])
    lengths = np.minimum(random.geometric(1 / 25, documents[-1]), 400).astype(np.uint16)
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[documents]
    for name, array in (("lengths", lengths), ("documents", documents), ("starts", starts)):
        np.save(tmp_path / f"{name}.npy", array)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tokens, seconds, peak = map(float, done.stdout.split())
    assert tokens > 0.99e9
    assert seconds < 30
    assert peak < 1e9
