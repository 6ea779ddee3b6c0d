"""python -m bertjax.train --config=small --config.data.corpus=PATH

BERT-small (4 layers x 512) for one GPU, an evening, and some hundred megabytes of text.
"""

from bertjax.config import default_config, phase


def get_config():
    config = default_config()
    config.name = "small"
    config.precision = "bfloat16"

    config.model.vocab_size = 16384
    config.model.hidden_size = 512
    config.model.num_hidden_layers = 4
    config.model.num_attention_heads = 8
    config.model.intermediate_size = 2048

    config.phases.phase1 = phase(
        sequence_length=128, batch_size=512, steps=45_000, learning_rate=5e-4, warmup_steps=2_500
    )
    config.phases.phase2 = phase(sequence_length=512, batch_size=128, steps=5_000)
    config.optimizer.name = "adamw"
    config.optimizer.beta2 = 0.98

    config.evaluation.every_steps = 5_000
    config.logging.every_steps = 50
    return config
