"""The training machine: state, step, loop, optimizers, logging."""
