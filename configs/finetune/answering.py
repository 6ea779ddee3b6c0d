"""python -m bertjax.finetune --config=finetune/answering --model=DIR --train=train.json --eval=dev.json

Answers that are spans of a context: SQuAD 1.1 and 2, also rows as ``datasets`` writes them (.json, .jsonl). Long
contexts are read in windows that share config.model.stride tokens. Chinese and Japanese answers are compared by
characters. For SQuAD 2, f1 counts a question as unanswerable if that scores higher than any answer; best_f1 uses the
best threshold.
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
