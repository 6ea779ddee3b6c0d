"""Scores of models, with intervals: suites of ``python -m bertjax.evaluate``, one module each."""
