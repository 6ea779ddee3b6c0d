"""python -m bertjax.finetune --config=finetune/multi_label --model=DIR --train=FILE.jsonl --eval=FILE.jsonl

Any number of labels for a text, each decided on its own. In a file config.data.separator stands between them.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("multi_label")
    config.training.epochs = "4"
    config.training.learning_rate = "5e-5"
    config.training.batch_size = 32
    return config
