"""What became of the text of a corpus when it was tokenised: a line for a person, and warnings with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bertjax.text.accents import caseless_warning

if TYPE_CHECKING:
    from bertjax.data.corpus import PreparedCorpus


def text_cautions(corpus: PreparedCorpus, lowercase: bool = False) -> list[str]:
    """A line for each thing about the text of a corpus that is hardly meant, with the way out.

    ``lowercase``: whether lowercasing was asked for, and is not a mere default.
    """
    cleaning = corpus.manifest.get("cleaning", {})
    damaged = _strings(corpus.manifest["counts"].get("damaged"))
    caseless = caseless_warning(cleaning.get("caseless", 0.0)) if lowercase else []
    return [*damaged, *cleaning.get("warnings", []), *caseless]


def cleaning_line(corpus: PreparedCorpus) -> list[str]:
    """How the text was cleaned and why, as a line; none where a given tokenizer says it, or it is not on record."""
    said = corpus.manifest.get("cleaning", {}).get("said")
    return [said] if said else []


def _strings(found: object) -> Iterator[str]:
    """What is a list of strings; corpora of earlier versions have none, and anything may stand in a file."""
    yield from (line for line in found if isinstance(line, str)) if isinstance(found, list) else ()
