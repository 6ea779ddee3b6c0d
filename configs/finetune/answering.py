"""python -m bertjax.finetune --config=configs/finetune/answering.py --model=DIR --train=train.json --eval=dev.json

Answers as spans of a context, SQuAD 1.1 and 2, also rows as ``datasets`` writes them (.json, .jsonl); long contexts
come in windows that share config.model.stride tokens. In Chinese and Japanese answers are compared by characters. Of
SQuAD 2, f1 is that of the questions where no answer has the higher score; best_f1 that of the best threshold.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("answering")
    config.training.epochs = "2"
    config.training.learning_rate = "5e-5"
    config.training.batch_size = 16
    config.model.max_length = 384
    config.model.stride = 128
    return config
