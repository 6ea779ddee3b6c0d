"""Where documents come from: SPECs, and the documents they name.

A SPEC is ``installed-docs``; a path or glob of ``.txt``, ``.jsonl`` or ``.parquet`` files (the first two also
compressed: ``.gz .xz .zst``); ``tfds:NAME`` or ``tfds:FOLDER``; or, from Python, ``TextList([...])``. Everything
is streamed: memory does not grow with the size of the files.
"""

import abc
import glob
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bertjax.cli.paths import given_path
from bertjax.cli.showing import plain
from bertjax.config import nearest
from bertjax.data.corpus import docstrings
from bertjax.data.corpus.encodings import Decoded, iconv, warning_of
from bertjax.data.corpus.files import Content, Report, check_is_regular, check_unchanged, hash_file, reading
from bertjax.data.corpus.formats import READERS, Document, kind_of
from bertjax.data.corpus.tfds_folders import find_folder, open_builder, reason_of
from bertjax.errors import DataError

INSTALLED_DOCS = "installed-docs"


class Source(abc.ABC):
    """Documents in a fixed order. name, kind: for messages and the manifest; path: of a file. Once described, its
    content must still be the same when it is read."""

    name: str
    kind: str
    path: Path | None = None
    _content: Content | None = None

    def describe(self) -> dict[str, Any]:
        """For the manifest: name, kind, SHA-256 and size. Raises DataError."""
        self._content = self._hashed()
        return {"name": self.name, "kind": self.kind, **self._content._asdict()}

    @abc.abstractmethod
    def _hashed(self) -> Content:
        """Its present content. Raises DataError."""

    def _check(self, what: str) -> None:
        """Raises DataError if the content has changed since it was described."""
        if self._content is not None:
            check_unchanged(what, self._hashed(), self._content)

    @abc.abstractmethod
    def documents(self, report: Report) -> Iterator[Document]:
        """The documents, one by one; what had to be replaced or skipped is counted. Raises DataError."""

    def fix(self, encoding: str, drop: bool) -> str:
        """How to convert its text to UTF-8, in words; drop: leave out what is invalid."""
        if self.path is not None and self.kind != ".parquet":
            return iconv(self.path, encoding, *["-c"] * drop)
        errors = ", 'ignore'" if drop else ""
        how = f"value.decode({encoding.lower()!r}{errors})"
        return f"make text of the bytes with `{how}` before they are stored"


class TextList(Source):
    """A list of texts from Python, each a document, each line of it a paragraph."""

    name = kind = "texts"

    def __init__(self, texts: Sequence[str]) -> None:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise DataError("a list of texts must hold strings only")
        self._texts = list(texts)

    def _hashed(self) -> Content:
        digest, size = hashlib.sha256(), 0
        for text in self._texts:
            data = text.encode("utf-8", "surrogatepass")
            size += len(data)
            digest.update(len(data).to_bytes(8, "little") + data)
        return Content(digest.hexdigest(), size)

    def documents(self, report: Report) -> Iterator[Document]:
        for text in self._texts:
            report.bytes_read += len(text)
            yield Document(report.take(text))


class InstalledDocs(Source):
    """Prose of the docstrings of the standard library and of bertjax's dependencies."""

    name = kind = INSTALLED_DOCS

    def _hashed(self) -> Content:
        return Content(*docstrings.fingerprint())

    def documents(self, report: Report) -> Iterator[Document]:
        for text, size in docstrings.documents():
            report.bytes_read += size
            yield Document(report.take(text))
        self._check("what is installed")  # a package may have been upgraded in the meantime


class FileSource(Source):
    def __init__(self, path: Path) -> None:
        self.path, self.name, self.kind = path, plain(path), kind_of(path)

    def _hashed(self) -> Content:
        return hash_file(self.path)

    def documents(self, report: Report) -> Iterator[Document]:
        return READERS[self.kind](self.path, report, self._content)


class TfdsSource(Source):
    """A TFDS data set stored as ArrayRecord, with a feature ``text``: its split ``train`` or, without one, all."""

    kind = "tfds"

    def __init__(self, name: str) -> None:
        self.name = f"tfds:{plain(name)}"
        self._builder = open_builder(find_folder(name))
        splits = sorted(self._builder.info.splits)
        self._splits = ["train"] if "train" in splits else splits
        if "text" not in (self._builder.info.features or {}):
            features = ", ".join(sorted(self._builder.info.features or {}))
            raise DataError(f"{self.name} has no feature 'text'; its features: {features}")

    def _texts(self, split: str) -> Iterator[bytes | str]:
        try:
            data = self._builder.as_data_source(split=split)
            for index in range(len(data)):
                text = data[index]["text"]
                if not isinstance(text, bytes | str):
                    raise TypeError(f"record {index} of {split} is not text")
                yield text
        except Exception as error:  # damaged files make the libraries raise anything
            self._check(self.name)
            raise DataError(f"{self.name} is damaged: {reason_of(error)}") from None

    def _hashed(self) -> Content:
        digest, size = hashlib.sha256(), 0
        for split in self._splits:
            for file in self._builder.info.splits[split].filenames:
                sha256, length = hash_file(Path(str(self._builder.data_dir)) / file)
                size += length
                digest.update(sha256.encode())
        return Content(digest.hexdigest(), size)

    def documents(self, report: Report) -> Iterator[Document]:
        for split in self._splits:
            for text in self._texts(split):
                report.bytes_read += len(text)
                yield Document(report.decode(text) if isinstance(text, bytes) else report.take(text))
        self._check(self.name)  # the library reads in any order, so the files are hashed again


def read_documents(sources: Iterable[Source], report: Report) -> Iterator[Document]:
    """The documents of all sources. Raises DataError, also after a source of which more than 2 % is not UTF-8."""
    for source in sources:
        report.source = Decoded()
        yield from source.documents(report)
        line = warning_of(source.name, report.source, source.fix)
        report.damaged += [line] if line else []


def open_sources(specs: Sequence[str | Path | Source]) -> list[Source]:
    """The sources that SPECs name, in order, none twice. Raises DataError."""
    sources: list[Source] = []
    seen: set[str] = set()
    for spec in specs:
        for source in _open(spec):
            key = source.name if source.path is None else str(source.path.resolve())
            if isinstance(source, TextList) or key not in seen:
                seen.add(key)
                sources.append(source)
    if not sources:
        raise DataError(f"no corpus is given; the built-in one is {INSTALLED_DOCS!r}")
    return sources


def _open(spec: str | Path | Source) -> list[Source]:
    if isinstance(spec, Source):
        return [spec]
    name = str(spec)
    if name == INSTALLED_DOCS:
        return [InstalledDocs()]
    if name.startswith("tfds:"):
        return [TfdsSource(name.removeprefix("tfds:"))]
    path = given_path(name, "corpus", DataError)
    with reading(path):
        is_folder, is_there = path.is_dir(), path.exists()
    if is_folder:
        raise DataError(
            f"corpus {name} is a folder that bertjax.prepare did not make; "
            f"give files, such as '{name.rstrip('/')}/*.txt'"
        )
    found = [str(path)] if is_there else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    paths = [p for p in map(Path, found) if not p.is_dir()]
    if not paths:
        what = "matches no file" if any(c in name for c in "*?[") else "does not exist"
        hint = ""
        if "/" not in name and "." not in name:
            hint = f"; {nearest(name, [INSTALLED_DOCS, 'tfds:NAME', 'PATH.txt', 'PATH.jsonl', 'PATH.parquet'])}"
        raise DataError(f"corpus {name} {what}{hint}")
    for p in paths:
        with reading(p):
            check_is_regular(p, p.stat().st_mode)
        if kind_of(p) not in READERS:
            raise DataError(
                f"corpus {plain(p)} is of an unknown kind; known are {', '.join(READERS)} (text also as .gz .xz .zst)"
            )
    return [FileSource(p) for p in paths]
