"""Labelled files to examples, examples to scores: what fine-tuning and evaluation share. Nothing here imports jax."""
