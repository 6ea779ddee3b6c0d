"""How a trial is laid out before it runs."""

import jax
import pytest

from bertjax.finetune.inputs import open_start, read_examples
from bertjax.finetune.job import UNROLLED_FROM, make_job
from bertjax.finetune.settings import resolve, trials
from bertjax.finetune.trials import FAMILIES, Labelled
from bertjax.parallel.mesh import make_mesh


@pytest.mark.parametrize(
    ("asked", "is_long", "scanned"),
    [(None, False, True), (None, True, False), (True, True, True), (False, False, False)],
)
def test_layers_are_unrolled_in_long_runs_on_cpus(asked, is_long, scanned, config, model_folder, moods):
    steps_of_an_epoch = -(-len(moods[0][0]) // config.training.batch_size)
    config.training.epochs = str(-(-UNROLLED_FROM["cpu"] // steps_of_an_epoch) - (not is_long))
    config.model.scan_layers = asked
    run = resolve(config)
    start = open_start(model_folder, run)
    examples = read_examples(moods[0], run, held_out=False)
    family = FAMILIES[run.task](run, Labelled(examples, examples, start.tokenizer))
    job = make_job(run, trials(run)[0], start, family, make_mesh(1, 1, 1, devices=jax.devices()[:1]), {})
    assert job.model.scan_layers is scanned
