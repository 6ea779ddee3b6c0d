"""python -m bertjax.train --config=configs/tiny.py

A small BERT on two CPU cores, both phases in some minutes: to see the whole way run, and to test with.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "tiny"
    config.seed = 0
    config.precision = "bfloat16"

    config.model = ConfigDict()
    config.model.vocab_size = 8192
    config.model.hidden_size = 128
    config.model.num_hidden_layers = 2
    config.model.num_attention_heads = 2
    config.model.intermediate_size = 512
    config.model.hidden_act = "gelu"
    config.model.hidden_dropout_prob = 0.1
    config.model.attention_probs_dropout_prob = 0.1
    config.model.max_position_embeddings = 512
    config.model.type_vocab_size = 2
    config.model.initializer_range = 0.02
    config.model.layer_norm_eps = 1e-12
    config.model.position_embedding_type = "absolute"
    config.model.attention = "explicit"
    config.model.scan_layers = True
    config.model.recompute = "none"

    config.data = ConfigDict()
    config.data.corpus = "installed-docs"
    config.data.tokenizer = "wordpiece"
    config.data.lowercase = True
    config.data.sentencepiece_type = "unigram"
    config.data.held_out_fraction = 0.02
    config.data.objective = "mlm_nsp"
    config.data.packing = True
    config.data.max_examples_per_row = 8
    config.data.masked_lm_prob = 0.15
    config.data.short_seq_prob = 0.1
    config.data.whole_word_masking = False
    config.data.block_tokens = 8_000_000
    config.data.prefetch = 4

    config.phases = ConfigDict()
    config.phases.phase1 = ConfigDict()
    config.phases.phase1.sequence_length = 128
    config.phases.phase1.batch_size = 64
    config.phases.phase1.steps = 1200
    config.phases.phase1.max_predictions = 20
    config.phases.phase1.learning_rate = 1e-3
    config.phases.phase1.warmup_steps = 100
    config.phases.phase2 = ConfigDict()
    config.phases.phase2.sequence_length = 512
    config.phases.phase2.batch_size = 16
    config.phases.phase2.steps = 100
    config.phases.phase2.max_predictions = 77

    config.optimizer = ConfigDict()
    config.optimizer.name = "bert2018"
    config.optimizer.beta1 = 0.9
    config.optimizer.beta2 = 0.999
    config.optimizer.eps = 1e-6
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.optimizer.schedule = "polynomial"
    config.optimizer.power = 1.0
    config.optimizer.schedule_span = "run"

    config.parallel = ConfigDict()
    config.parallel.data = -1
    config.parallel.fsdp = 1
    config.parallel.tensor = 1
    config.parallel.rows_per_device = 0

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 200
    config.checkpoint.keep = 3

    config.evaluation = ConfigDict()
    config.evaluation.every_steps = 300
    config.evaluation.max_rows = 512

    config.logging = ConfigDict()
    config.logging.every_steps = 10
    config.logging.tensorboard = True
    return config
