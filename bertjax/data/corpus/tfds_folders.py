"""TFDS data sets in a folder. TFDS imports the modules of the feature classes that a data set names: only its own
classes are allowed here, so that a folder from elsewhere runs no code."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertjax.cli.paths import given_path
from bertjax.data.corpus.files import check_is_regular, reading
from bertjax.errors import DataError

INFO, FEATURES = "dataset_info.json", "features.json"
# The class of tensors, by the name that earlier versions of TFDS wrote.
_FORMER_TENSOR = "tensorflow_datasets.core.features.feature.Tensor"
_LARGEST_DESCRIPTION = 64 << 20  # bytes; thousands of features take less than one MB


def open_builder(folder: Path) -> Any:
    """TFDS's builder of the data set in ``folder``, a data set in ArrayRecord form. Raises DataError."""
    with reading(folder):
        for path in sorted(folder.iterdir()):
            if path.exists() and not path.is_dir():
                check_is_regular(path, path.stat().st_mode)  # TFDS would read a pipe or device for ever
    check_classes(folder)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        form = builder.info.file_format.value if builder.info.file_format else "unknown"
        files = [Path(str(path)) for split in builder.info.splits.values() for path in split.filepaths]
    except Exception as error:  # reading its description may raise anything
        raise DataError(f"{folder} cannot be opened as a TFDS data set: {reason_of(error)}") from None
    if form != "array_record":
        raise DataError(f"{folder} is stored as {form}; prepare it with file_format='array_record'")
    outside = [file for file in files if file.parent != folder]
    if outside:
        raise DataError(f"{folder / INFO} names a file of another folder: {outside[0]}")
    return builder


def check_classes(folder: Path) -> None:
    """Raises DataError if the description of a data set names a class other than TFDS's own features."""
    described = {name: _description(folder / name) for name in (INFO, FEATURES) if (folder / name).is_file()}
    import tensorflow_datasets as tfds
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import dataset_info_pb2, feature_pb2

    kind = tfds.features.FeatureConnector
    classes = [c for c in vars(tfds.features).values() if isinstance(c, type) and issubclass(c, kind)]
    own = {f"{c.__module__}.{c.__name__}" for c in classes} | {_FORMER_TENSOR}
    kinds: dict[str, Any] = {INFO: dataset_info_pb2.DatasetInfo, FEATURES: feature_pb2.Feature}
    for name, value in described.items():
        try:
            message = json_format.ParseDict(value, kinds[name](), ignore_unknown_fields=name == INFO)
            # json_feature is what old classes wrote.
            is_known = lambda f: f.python_class_name in own and f.WhichOneof("content") not in (None, "json_feature")
            unknown = [feature for feature in _features(message) if not is_known(feature)]
        except Exception as error:  # a damaged description makes the library raise anything
            raise DataError(f"{folder / name} cannot be read: {reason_of(error)}") from None
        if unknown:
            raise DataError(
                f"{folder / name} names the class {unknown[0].python_class_name[:100]!r}, which is not one of TFDS's "
                f"own features and could run any code; write the data set again with tfds.features only"
            )


def find_folder(name: str) -> Path:
    """The data set in the folder ``name``, or with this name in TFDS's own folder. Raises DataError."""
    folder = given_path(name, "corpus tfds:", DataError)
    if not folder.is_dir():
        root = given_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", "TFDS_DATA_DIR", DataError)
        folder = root / name.replace(":", "/")
    if not folder.is_dir():
        raise DataError(
            f"corpus tfds:{name} is not prepared: there is no folder {folder}; "
            f"prepare it first, with file_format='array_record'"
        )
    found = sorted(p.parent for p in folder.glob(f"**/{INFO}"))
    if not found:
        raise DataError(f"corpus tfds:{name}: {folder} is not a TFDS folder, it has no {INFO}")
    if len(found) > 1:
        raise DataError(f"corpus tfds:{name}: {folder} holds several data sets; name one, such as tfds:{found[-1]}")
    return found[0]


def _description(path: Path) -> dict[str, Any]:
    with reading(path), path.open("rb") as file:
        text = file.read(_LARGEST_DESCRIPTION + 1)
    value = None
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text.decode("utf-8")) if len(text) <= _LARGEST_DESCRIPTION else None
    if not isinstance(value, dict):
        raise DataError(f"{path} cannot be opened as the description of a TFDS data set: it is not a JSON object")
    return value


def _features(message: Any) -> Iterator[Any]:
    """The features in a message, at any depth."""
    if message.DESCRIPTOR.name == "Feature":
        yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = [part for part in value.values() if hasattr(part, "ListFields")]
        else:
            parts = [value] if hasattr(value, "ListFields") else list(value)
        for part in parts:
            yield from _features(part)


def reason_of(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
