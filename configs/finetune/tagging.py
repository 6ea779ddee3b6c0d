"""python -m bertjax.finetune --config=finetune/tagging --model=DIR --train=FILE.conll --eval=FILE.conll

A tag for each word: entities (CoNLL with BIO, IOBES, BILOU, BMES or BMEWO tags), parts of speech (CoNLL-U).
--config.data.label is the column of the tag (by default the last), --config.data.text that of the word (by default the
first): numbers from 0, or names of a header.
"""

from bertjax.finetune.settings import default_config


def get_config():
    config = default_config("tagging")
    config.training.epochs = "3"
    config.training.learning_rate = "1e-4"
    config.training.batch_size = 16
    return config
