"""The durable form of a corpus: ArrayRecord shards in the TFDS layout, written and read without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.data.corpus.tfds_folders import open_builder

SPLITS = ("train", "held_out")
NAME, VERSION = "corpus", "1.0.0"
# A shard is closed at the document that takes it over this many tokens.
_SHARD_TOKENS = 1 << 26

Example = Mapping[str, np.ndarray]


def write_shards(
    folder: Path,
    dtype: np.dtype,
    examples: Callable[[str], Iterator[Example]],
    on_document: Callable[[], None] = lambda: None,
    words: bool = False,
) -> None:
    """Writes ``folder/corpus/1.0.0``: splits ``train`` and ``held_out``, a record a document, in the order given.

    A record has ``tokens`` (``dtype`` [T]) and ``sentence_lengths`` (uint32 [N]), and with ``words`` ``word_starts``
    (uint8, a bit for each token, the lowest first). ``examples(split)`` yields them.
    """
    builder = _builder_class()(folder, dtype, examples, on_document, words)
    with _quiet():
        builder.download_and_prepare()
    shutil.rmtree(folder / "downloads", ignore_errors=True)  # empty: nothing is downloaded


def read_shards(folder: Path, split: str) -> Sequence[Example]:
    """The records of a split, by index. Raises DataError where the shards describe themselves as something else."""
    return open_builder(folder / NAME / VERSION).as_data_source(split=split)


def _builder_class() -> type:
    """Made on demand: importing TFDS takes half a second."""
    import tensorflow_datasets as tfds

    class LocalInfo(tfds.core.DatasetInfo):
        def initialize_from_bucket(self) -> None:
            """Nothing is looked up anywhere else (and no empty folder left behind)."""

    class CorpusBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = NAME
        VERSION = tfds.core.Version(VERSION)
        # There is no code beside this class to look for checksums in; looking takes a package that may be missing.
        code_path = None

        def __init__(self, folder: Path, dtype: np.dtype, examples: Any, on_document: Any, words: bool) -> None:
            self._dtype, self._examples, self._on_document, self._words = dtype, examples, on_document, words
            super().__init__(data_dir=folder, file_format="array_record")

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict(
                {
                    "tokens": tfds.features.Tensor(shape=(None,), dtype=self._dtype),
                    "sentence_lengths": tfds.features.Tensor(shape=(None,), dtype=np.uint32),
                }
                | ({"word_starts": tfds.features.Tensor(shape=(None,), dtype=np.uint8)} if self._words else {})
            )
            return LocalInfo(
                builder=self, description="Tokenised documents.", features=features, disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example]]]:
            return {split: self._generate_examples(split) for split in SPLITS}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, Example]]:
            yield from enumerate(self._examples(split))

        def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
            """Writes as it goes. TFDS's own writer keeps a split in memory, and needs TensorFlow if it is over 1 GB."""
            from etils import epath

            infos = []
            for split, generator in self._split_generators(dl_manager).items():
                template = tfds.core.ShardedFileTemplate(
                    data_dir=epath.Path(self.data_dir),
                    dataset_name=self.name,
                    split=split,
                    filetype_suffix="array_record",
                )
                infos.append(_write_split(self.info, split, template, generator, self._on_document))
            self.info.set_splits(tfds.core.SplitDict(infos))

    return CorpusBuilder


def _write_split(info: Any, split: str, template: Any, generator: Any, on_document: Callable[[], None]) -> Any:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core import example_serializer

    serializer = example_serializer.ExampleSerializer(info.features.get_serialized_info())
    folder = Path(template.data_dir)
    paths: list[Path] = []
    lengths: list[int] = []
    total_bytes = tokens = 0
    writer = None
    for _, example in generator:
        if writer is None or tokens > _SHARD_TOKENS:
            if writer is not None:
                writer.close()
            paths.append(folder / f"{split}.part{len(paths)}")
            lengths.append(0)
            writer, tokens = ArrayRecordWriter(str(paths[-1]), "group_size:1"), 0
        record = serializer.serialize_example(info.features.encode_example(example))
        writer.write(record)
        lengths[-1] += 1
        total_bytes += len(record)
        tokens += len(example["tokens"])
        on_document()
    if writer is not None:
        writer.close()
    for index, path in enumerate(paths):
        path.rename(template.sharded_filepath(shard_index=index, num_shards=len(paths)))
    return tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=total_bytes, filename_template=template)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages and progress bars of TFDS, which do not say anything of use here."""
    from absl import logging as absl_logging

    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("tensorflow_datasets")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        absl_logging.set_verbosity(before)
