"""Checkpoints: saved, verified, retained, restored."""
