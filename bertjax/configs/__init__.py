"""In a checkout: makes the files of the folder ``configs`` beside this package importable as ``bertjax.configs``.

An installed bertjax has those files here instead (see pyproject.toml).
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "configs")]
