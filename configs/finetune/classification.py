"""python -m bertjax.finetune --config=finetune/classification --model=DIR --train=FILE.tsv --eval=FILE.tsv

One label for a text or a pair of texts: sentiment, acceptability, entailment. Columns are found from the header.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("classification")
    config.training.epochs = "3"
    config.training.learning_rate = "5e-5"
    config.training.batch_size = 32
    return config
