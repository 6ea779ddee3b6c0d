"""bertjax: pretraining of BERT-family encoders in JAX, from raw text to use."""

__version__ = "0.1.0"
