"""python -m bertjax.train --config=large --config.data.corpus=PATH

BERT-large as published in 2018: 24 layers x 1024, 900k steps of 256 rows at 128 tokens and 100k at 512.
One thing differs: several pairs are packed into a row (config.data.packing = False turns that off).
"""

from bertjax.config import default_config, phase


def get_config():
    config = default_config()
    config.name = "large"

    config.model.hidden_size = 1024
    config.model.num_hidden_layers = 24
    config.model.num_attention_heads = 16
    config.model.intermediate_size = 4096
    config.model.hidden_act = "gelu_new"  # the tanh form of the original code

    config.phases.phase1 = phase(
        sequence_length=128, batch_size=256, steps=900_000, learning_rate=1e-4, warmup_steps=10_000
    )
    config.phases.phase2 = phase(sequence_length=512, batch_size=256, steps=100_000)
    config.optimizer.name = "bert2018"

    config.checkpoint.every_steps = 5_000
    config.evaluation.every_steps = 50_000
    config.logging.every_steps = 100
    return config
