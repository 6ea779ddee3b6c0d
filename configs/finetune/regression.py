"""python -m bertjax.finetune --config=configs/finetune/regression.py --model=DIR --train=FILE.csv --eval=FILE.csv

A number a text, or a pair of texts read together: similarity, ratings. Files without a header, such as STS-B's:
--config.data.text=0 --config.data.second=1 --config.data.label=2
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("regression")
    config.training.epochs = "4"
    config.training.learning_rate = "5e-5"
    config.training.batch_size = 32
    return config
