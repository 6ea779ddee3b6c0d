"""python -m bertjax.finetune --config=finetune/regression --model=DIR --train=FILE.csv --eval=FILE.csv

A number for a text, or for a pair of texts that are read together: similarity, ratings. For files without a header,
such as STS-B's: --config.data.text=0 --config.data.second=1 --config.data.label=2
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("regression")
    config.training.epochs = "4"
    config.training.learning_rate = "5e-5"
    config.training.batch_size = 32
    return config
