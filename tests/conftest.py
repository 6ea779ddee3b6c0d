"""CPU with eight virtual devices, strict shapes, no network; programs compiled once."""

import contextlib
import fcntl
import gc
import importlib
import importlib.metadata
import inspect
import math
import os
import socket
from types import SimpleNamespace

os.environ["JAX_PLATFORMS"] = "cpu"
# Programs of the tests are small and many: they take less time in all where LLVM does not optimize them.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    " --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE"
)
# The old emitter compiles twice as fast as what took its place; later versions have it no more, and end at the flag.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes many objects that stay; looking through all of them as often as Python would takes a tenth of the time.
gc.set_threshold(100_000, 50, 100)

# Named, not "whatever is imported by now", which the order of the tests decides.
DOCUMENTED = """
abc argparse array ast asyncio atexit base64 bdb binascii bisect builtins bz2 calendar cmd codecs collections
contextlib copy copyreg csv ctypes datetime decimal difflib dis email encodings errno fcntl fnmatch functools gc
genericpath getpass gettext glob gzip hashlib heapq hmac html importlib inspect io ipaddress itertools json keyword
linecache locale logging lzma marshal math mimetypes ntpath numbers opcode operator os pickle pkgutil platform posix
posixpath pprint quopri random re reprlib secrets select selectors shlex shutil site socket socketserver ssl stat
string struct subprocess sys sysconfig tempfile termios textwrap threading time token tokenize traceback types typing
unicodedata unittest uuid warnings weakref zipfile zipimport zlib
"""


def pytest_xdist_auto_num_workers():
    """One more than there are cores: tests of several processes wait for each other a good part of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory):
    """The folder that all workers of the session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def made_once(of_all_workers):
    """``made_once(name, make)``: the path of that name, which ``make(path)`` of one of the workers has made."""

    def made(name, make):
        path, done = of_all_workers / name, of_all_workers / f"{name}.made"
        with (of_all_workers / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(path)
                done.touch()
        return path

    return made


@pytest.fixture(scope="session", autouse=True)
def compiled_once(of_all_workers):
    """Equal programs are compiled once a session, by tests and by the commands that they start: most of the time of
    the tests is the compiler's."""
    settings = {
        "jax_compilation_cache_dir": str(of_all_workers / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connections to anywhere but this machine fail: tests need no network."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def broken_pipe():
    """A text stream whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    yield stream
    with contextlib.suppress(OSError, ValueError):
        stream.close()


@pytest.fixture(scope="session")
def corpus_file(made_once):
    """A text file of real prose, a document a module: what the standard library says of itself."""

    def make(path):
        documents = []
        for name in DOCUMENTED.split():
            module = importlib.import_module(name)
            parts = [module.__doc__ or ""] + [
                inspect.getdoc(v) or "" for v in vars(module).values() if inspect.isroutine(v)
            ]
            documents.append(" ".join(" ".join(parts).split()))
        path.write_text("\n\n".join(documents), encoding="utf-8")

    return made_once("docs.txt", make)


VOCABULARY = 200  # of the made-up corpus


@pytest.fixture(scope="session")
def synthetic():
    """(corpus, tokenizer): 60 documents of 3 to 20 sentences of 2 to 15 tokens."""
    random = np.random.default_rng(0)
    sentences = random.integers(3, 21, 60)
    lengths = random.integers(2, 16, sentences.sum())
    document_sentences = np.concatenate([[0], np.cumsum(sentences)])
    tokens_before = np.concatenate([[0], np.cumsum(lengths)])
    corpus = SimpleNamespace(
        tokens=random.integers(5, VOCABULARY, lengths.sum()).astype(np.uint16),
        sentence_lengths=lengths.astype(np.uint16),
        document_sentences=document_sentences.astype(np.int64),
        document_tokens=tokens_before[document_sentences].astype(np.int64),
        fingerprint="synthetic",
        num_documents=60,
        num_sentences=len(lengths),
        num_tokens=int(lengths.sum()),
    )
    tokenizer = SimpleNamespace(
        kind="wordpiece",
        vocab_size=VOCABULARY,
        pad_id=0,
        unk_id=1,
        cls_id=2,
        sep_id=3,
        mask_id=4,
        special_ids=(0, 1, 2, 3, 4),
        continues_word=lambda: np.zeros(VOCABULARY, bool),
    )
    return corpus, tokenizer


def _small_run(corpus_file):
    from bertjax.config import default_config, phase

    config = default_config()
    config.name = "test"
    config.precision = "float32"
    config.model.update(
        vocab_size=600, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    config.data.corpus = str(corpus_file)
    config.data.block_tokens = 20_000
    config.phases.phase1 = phase(
        sequence_length=32, batch_size=16, steps=6, max_predictions=5, learning_rate=1e-2, warmup_steps=2
    )
    config.phases.phase2 = phase(sequence_length=64, batch_size=8, steps=4, max_predictions=10)
    config.checkpoint.every_steps = 3
    config.logging.every_steps = 2
    config.evaluation.max_rows = 32
    return config


@pytest.fixture
def config(corpus_file):
    """Two phases of 6 and 4 steps on a model of 2 layers x 16."""
    return _small_run(corpus_file)


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory):
    """Runs of these tests have a cache of their own, and two of the eight virtual devices, or as many as they ask for:
    a run takes a third less time than on all of them."""
    from bertjax.parallel.mesh import make_mesh
    from bertjax.train import pretraining

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        few = lambda *sizes: make_mesh(*sizes, jax.devices()[: math.prod(2 if n == -1 else n for n in sizes)])
        patch.setattr(pretraining, "make_mesh", few)
        yield


@pytest.fixture(scope="session")
def finished(corpus_file, made_once):
    """The workdir of such a run, with checkpoints 6, 9 and 10. Not to be written to."""
    import bertjax.train

    return made_once("finished", lambda path: bertjax.train.run(_small_run(corpus_file), path, say=lambda line: None))
