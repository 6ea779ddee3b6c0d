"""python -m bertjax.finetune --config=configs/finetune/multi_label.py --model=DIR --train=FILE.jsonl --eval=FILE.jsonl

Any number of labels a text, each decided by itself; in a file separated by config.data.separator.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("multi_label")
    config.training.epochs = "4"
    config.training.learning_rate = "5e-5"
    config.training.batch_size = 32
    return config
