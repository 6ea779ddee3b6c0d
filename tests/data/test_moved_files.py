"""Files of a corpus that change while somebody reads it: in processes of their own, which a signal might end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertjax.data.corpus.prepared import prepare
from bertjax.data.corpus.sources import TextList

# Reads batches of one block after the other, and between two of them does something to a file.
READ = """
import os, sys
from pathlib import Path
from bertjax.data.corpus.prepared import open_prepared
from bertjax.errors import DataError
from bertjax.data.stream.pipeline import open_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.objectives.registry import find_objective

MLM = find_objective("mlm").maker

folder, name, prefetch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[4])
corpus = open_prepared(folder)
settings = ExampleSettings(MLM, 32, max_predictions=5, block_tokens=4000)
batches = open_batches(corpus.train, corpus.tokenizer, [settings], 0, 0, 8, prefetch=prefetch)
next(batches)
file = folder / "index" / name
exec(sys.argv[3])
try:
    for _ in range(200):
        next(batches)
except DataError as error:
    print(f"DataError: {error}")
else:
    print("read on")
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    texts = [f"Document {i} is here. It says {i * 7} things, and much more than that." for i in range(3000)]
    return prepare([TextList(texts)], tmp_path_factory.mktemp("corpus") / "c", vocab_size=300).path


def read(corpus, tmp_path, name, change, prefetch=0):
    """What is printed by a process that reads a copy of the corpus while ``change`` happens to one of its files."""
    import shutil

    shutil.copytree(corpus, tmp_path / "c")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", READ, str(tmp_path / "c"), name, change, str(prefetch)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "prefetch"), [("train.tokens.npy", 0), ("train.tokens.npy", 4), ("train.sentence_lengths.npy", 0)]
)
def test_a_file_that_is_shortened(corpus, tmp_path, name, prefetch):
    said = read(corpus, tmp_path, name, "os.truncate(file, 4096)", prefetch)
    assert said.startswith("DataError: ") and f"{name} was shortened while it was in use" in said


@pytest.mark.parametrize(
    "change", ["file.unlink()", "file.rename(file.with_name('x'))", "folder.rename(folder.with_name('y'))"]
)
def test_a_file_that_is_removed_or_moved(corpus, tmp_path, change):
    assert read(corpus, tmp_path, "train.tokens.npy", change) == "read on"
