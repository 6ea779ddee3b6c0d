"""Documents to batches: sources, the prepared corpus, and the examples made of it. Nothing here imports jax."""
