"""python -m bertjax.finetune --config=finetune/demo

Which library is a docstring from? The texts and labels are on every machine, nothing is downloaded. Starts from the
model that python -m bertjax.train --config=tiny makes; takes a minute on two CPU cores.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("classification")
    config.name = "demo"
    config.model.path = "runs/tiny"
    config.model.max_length = 64
    config.model.scan_layers = False
    config.data.train = "installed-docs"
    config.data.eval = "installed-docs"
    config.training.epochs = "3"
    config.training.learning_rate = "5e-4"
    return config
