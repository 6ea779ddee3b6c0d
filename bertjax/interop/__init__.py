"""Exchange with other implementations: model folders in the Hugging Face layout, in and out."""

from __future__ import annotations


class ModelFileError(ValueError):
    """Model files that cannot be used. The message is one line; commands exit with code 3."""
