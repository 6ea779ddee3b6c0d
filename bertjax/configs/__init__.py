"""The configs that come with bertjax. In a checkout: the files of the folder ``configs`` beside this package.

An installed bertjax has those files here instead (see pyproject.toml).
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "configs")]
