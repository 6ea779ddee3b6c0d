"""The encoder and its pretraining heads, as Flax NNX modules."""
