"""Strings to token ids: sentences, tokenizers, vocabularies. Nothing here imports jax."""
