"""Meshes, shardings and processes. Sees pytrees, arrays and paths only."""
