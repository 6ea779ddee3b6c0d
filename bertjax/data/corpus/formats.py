"""The formats of files of documents: a reader for each ending. A new format is a function and a line in ``READERS``."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.data.corpus.files import (
    LONGEST_LINE,
    Content,
    HashedFile,
    Report,
    check_unchanged,
    ending,
    hash_file,
    lines,
    opened,
)
from bertjax.errors import DataError

# A longer text without a blank line is split into several documents.
_LONGEST_DOCUMENT = 16 << 20
_SPACES = [character for code in range(0x3001) if (character := chr(code)).isspace()]
_BLANK = re.compile(b"(?:" + b"|".join(re.escape(character.encode()) for character in _SPACES) + b")*+")


@dataclass(frozen=True)
class Document:
    """A text, and what its line breaks mean (see ``bertjax.text.sentences``)."""

    text: str
    line_breaks: str = "paragraphs"


def kind_of(path: Path) -> str:
    """The ending that says how a file is read, which ``READERS`` may not have."""
    kind = ending(path)
    return "" if kind == ".parquet" != path.suffix.lower() else kind  # its columns are compressed, not the file


def _text_documents(path: Path, report: Report, expected: Content | None) -> Iterator[Document]:
    """A blank line, of white space only by ``str.isspace``, ends a document."""
    current = bytearray()  # one object: a list of a million short lines takes fifty times their bytes
    size = 0
    for line in itertools.chain(lines(path, report, expected), [b""]):
        blank = _BLANK.fullmatch(line) is not None
        if not blank:
            current += line
            current += b"\n"
            size += len(line)
        if current and (blank or size > _LONGEST_DOCUMENT):
            yield Document(report.decode(bytes(current[:-1])), "auto")
            current, size = bytearray(), 0


def _json_documents(path: Path, report: Report, expected: Content | None) -> Iterator[Document]:
    """One JSON object per line, its ``text`` a document. Other lines are skipped and counted. Raises DataError if all
    are skipped."""
    good, before, in_long_line = 0, report.skipped_lines, False
    for line in lines(path, report, expected):
        is_piece = len(line) >= LONGEST_LINE - 2
        if is_piece or in_long_line:
            report.skipped_lines += not in_long_line
            in_long_line = is_piece
            continue
        if _BLANK.fullmatch(line):
            continue
        text = _json_text(report, line)
        if text is None:
            report.skipped_lines += 1
            continue
        good += 1
        yield Document(report.clean(text))
    bad = report.skipped_lines - before
    if bad and not good:
        raise DataError(f"{path}: none of its {bad} lines is a JSON object with a 'text'")


def _json_text(report: Report, line: bytes) -> str | None:
    before, own = report.replaced_bytes, report.source.replaced
    try:
        value = json.loads(report.decode(line))
    except (ValueError, RecursionError):
        report.replaced_bytes, report.source.replaced = before, own
        return None
    text = value.get("text") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _parquet_documents(path: Path, report: Report, expected: Content | None) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with opened(path) as raw, pq.ParquetFile(raw) as file:
            names = file.schema_arrow.names
            if "text" not in names:
                raise DataError(f"{path} has no column 'text'; its columns: {', '.join(names)}")
            for batch in file.iter_batches(batch_size=_rows_at_once(file), columns=["text"]):
                # As bytes, so that invalid UTF-8 is counted and replaced as elsewhere.
                for value in batch.column(0).cast(pa.large_binary()).to_pylist():
                    if value is None or len(value) > LONGEST_LINE:
                        report.skipped_lines += 1
                        continue
                    report.bytes_read += len(value)
                    yield Document(report.decode(value))
            if expected is not None:  # the library reads in any order: hashed again, through the same handle
                raw.seek(0)
                HashedFile(path, raw, expected).finish()
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if expected is not None:
            check_unchanged(path, hash_file(path), expected)
        raise DataError(f"{path} is not a readable Parquet file: {' '.join(str(error).split())}") from None
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:  # of the cast, or a codec that is not there
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: its column 'text' does not hold text that can be read: {reason}") from None


def _rows_at_once(file: Any) -> int:
    """How many rows are together no larger than a line may be, by the average size of a row. The metadata of single
    columns is not read: if it is damaged, the library kills the process."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    mean = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return max(1, min(256, LONGEST_LINE // max(mean, 1)))


READERS: dict[str, Callable[[Path, Report, Content | None], Iterator[Document]]] = {
    ".txt": _text_documents,
    ".jsonl": _json_documents,
    ".parquet": _parquet_documents,
}
