"""python -m bertjax.train --config=tiny

A small BERT for two CPU cores, both phases in a few minutes: to try everything once, and for tests.
"""

from bertjax.config import default_config, phase


def get_config():
    config = default_config()
    config.name = "tiny"
    config.precision = "float32"

    config.model.vocab_size = 8192
    config.model.hidden_size = 128
    config.model.num_hidden_layers = 2
    config.model.num_attention_heads = 2
    config.model.intermediate_size = 512
    # A few epochs over a few megabytes: what dropout would prevent does not happen, and learning is quicker without.
    config.model.hidden_dropout_prob = 0.0
    config.model.attention_probs_dropout_prob = 0.0
    # Two layers compile fast enough unrolled.
    config.model.scan_layers = False

    config.phases.phase1 = phase(sequence_length=128, batch_size=16, steps=2000, learning_rate=1.5e-3, warmup_steps=100)
    config.phases.phase2 = phase(sequence_length=512, batch_size=8, steps=100)
    config.optimizer.name = "adamw"
    config.optimizer.beta2 = 0.98

    config.checkpoint.every_steps = 500
    config.evaluation.every_steps = 500
    config.evaluation.max_rows = 512
    return config
