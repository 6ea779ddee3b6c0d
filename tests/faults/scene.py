"""Where the trials take place: a folder with a corpus, the config of a one-layer model, and caches for all runs."""

from __future__ import annotations

import atexit
import functools
import os
import random
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# Saves at 3, 6, 9, 12, 15, 18 and 20; the phase changes after 12, and old steps are deleted from the third save on.
STEPS, PHASE_END, SAVE_EVERY = 20, 12, 3
SAVES = (3, 6, 9, 12, 15, 18, 20)

CONFIG = f"""
from bertjax.config import default_config, phase

def get_config():
    config = default_config()
    config.name = "fault"
    config.precision = "float32"
    config.model.update(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config.data.corpus = {{corpus!r}}
    config.data.block_tokens = 5_000
    config.phases.phase1 = phase(
        sequence_length=32, batch_size=16, steps={PHASE_END}, max_predictions=5, learning_rate=1e-2, warmup_steps=2
    )
    config.phases.phase2 = phase(
        sequence_length=64, batch_size=8, steps={STEPS - PHASE_END}, max_predictions=10
    )
    config.checkpoint.every_steps = {SAVE_EVERY}
    config.checkpoint.keep = 2
    config.logging.every_steps = 1
    config.logging.tensorboard = False
    config.evaluation.max_rows = 16
    return config
"""


@functools.cache
def folder() -> Path:
    """BERTJAX_FAULTS_DIR, which stays, or a new one that goes with this process."""
    if named := os.environ.get("BERTJAX_FAULTS_DIR"):
        Path(named).mkdir(parents=True, exist_ok=True)
        return Path(named).resolve()
    made = Path(tempfile.mkdtemp(prefix="bertjax-faults-"))
    owner = os.getpid()  # a forked child must not take it along
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(made, ignore_errors=True))
    return made


@functools.cache
def config_file() -> Path:
    """A config file whose corpus lies beside it."""
    corpus, path = folder() / "corpus.txt", folder() / "config.py"
    _write(corpus, "\n\n".join(_documents()))
    _write(path, CONFIG.format(corpus=str(corpus)))
    return path


def _write(path: Path, text: str) -> None:
    """Whole at any moment: the folder may be that of several processes, which write the same."""
    if not path.exists() or path.read_text() != text:
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(text)
        temporary.replace(path)


def compiled() -> Path:
    """Where compiled programs are kept: each is compiled once for all trials."""
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder() / "compiled")


def new_folder(name: str) -> Path:
    """A folder that was not there before."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder()))


@functools.cache
def cores() -> tuple[int, ...]:
    """The cores of this machine that this process may use, in an order that differs between processes."""
    free = sorted(os.sched_getaffinity(0))
    first = os.getpid() % len(free)
    return tuple(free[first:] + free[:first])


def _documents() -> list[str]:
    """Documents of made-up words, the same on every machine."""
    draw = random.Random(0)
    words = ["".join(draw.choice("bdfklmnprst") + draw.choice("aeiou") for _ in range(n)) for n in (1, 2, 2, 3) * 100]
    sentence = lambda: " ".join(draw.choices(words, k=draw.randint(3, 20))) + "."
    return [" ".join(sentence() for _ in range(draw.randint(3, 15))) for _ in range(300)]
