"""The configs that are shipped: they resolve, and the published recipes have the published numbers."""

from pathlib import Path

import pytest

from bertjax.cli.flags import parse
from bertjax.config import resolve
from bertjax.model.bert import Bert, split_params

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(CONFIGS.glob("[a-z]*.py"))


def load(name, *overrides):
    return resolve(parse("test", [f"--config={CONFIGS / name}", *overrides], {})[0])


@pytest.mark.parametrize("name", [path.name for path in FILES])
def test_every_config_resolves_and_divides_by_eight(name):
    run = load(name)
    assert run.name == Path(name).stem
    assert list(run.phases) == ["phase1", "phase2"]
    assert [phase.sequence_length for phase in run.phases.values()] == [128, 512]
    assert all(phase.batch_size % 8 == 0 for phase in run.phases.values())
    assert run.data.corpus == ("installed-docs",)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_first_line_is_the_launch_command(path):
    assert path.read_text().startswith(f'"""python -m bertjax.train --config={path.stem}')


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # What BertForPreTraining of these dimensions has: 110,106,428 and 336,226,108, and 70 rows of padding.
        ("base.py", 110_106_428 + 70 * 769),
        ("large.py", 336_226_108 + 70 * 1025),
    ],
)
def test_published_recipe(name, parameters):
    import jax
    from flax import nnx

    run = load(name)
    assert run.total_steps == 1_000_000
    assert [(p.steps, p.batch_size, p.max_predictions) for p in run.phases.values()] == [
        (900_000, 256, 20),
        (100_000, 256, 77),
    ]
    first, optimizer = run.phases["phase1"], run.optimizer
    assert (first.learning_rate, first.warmup_steps, optimizer.schedule_span) == (1e-4, 10_000, "run")
    assert (optimizer.name, optimizer.beta1, optimizer.beta2, optimizer.eps) == ("bert2018", 0.9, 0.999, 1e-6)
    assert (optimizer.weight_decay, optimizer.clip_norm, optimizer.schedule, optimizer.power) == (
        0.01,
        1.0,
        "polynomial",
        1.0,
    )
    assert (run.data.masked_lm_prob, run.data.short_seq_prob) == (0.15, 0.1)
    shapes = jax.eval_shape(lambda: split_params(Bert(run.model, nnx.Rngs(0)))[1])
    assert sum(x.size for x in jax.tree.leaves(shapes)) == parameters


def test_every_key_can_be_overridden():
    run = load("base.py", "--config.phases.phase2.learning_rate=0.5", "--config.phases.phase2.warmup_steps=3",
               "--config.optimizer.schedule_span=phase", "--config.data.corpus=a.txt,b.txt")  # fmt: skip
    assert run.phases["phase2"].learning_rate == 0.5
    assert run.data.corpus == ("a.txt", "b.txt")
