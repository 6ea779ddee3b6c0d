"""What became of the text of a corpus when it was tokenised: a line for a person, and warnings with the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertjax.data.corpus import PreparedCorpus


def text_cautions(corpus: PreparedCorpus) -> list[str]:
    """A line for each thing about the text of a corpus that is hardly meant, with the way out."""
    return []
