"""python -m bertjax.finetune --config=finetune/embedding --model=DIR --train=PAIRS.tsv --eval=PAIRS.tsv

Vectors of texts, learned from pairs that belong together. The other texts of a batch are the negatives, so larger
batches learn more; columns negative, negative_1 ... or negatives add more of them. Pairs with scores are learned from
by the order of their scores. Evaluation pairs may have scores, too, which cosines are then correlated with.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("embedding")
    config.training.epochs = "1"
    config.training.learning_rate = "3e-5"
    config.training.batch_size = 64
    config.training.temperature = 0.05
    return config
