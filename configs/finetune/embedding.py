"""python -m bertjax.finetune --config=configs/finetune/embedding.py --model=DIR --train=PAIRS.tsv --eval=PAIRS.tsv

Vectors of texts, from pairs that belong together; the others of the batch are what they are to be told from, so
larger batches learn more, and so are texts in columns negative, negative_1, negatives. Pairs with scores are learned
from by the order of their scores; evaluation pairs may have scores, too, which cosines are then correlated with.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("embedding")
    config.training.epochs = "1"
    config.training.learning_rate = "3e-5"
    config.training.batch_size = 64
    config.training.temperature = 0.05
    return config
