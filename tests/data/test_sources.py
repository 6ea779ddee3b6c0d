from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bertjax.data.corpus import docstrings
from bertjax.data.corpus import files as reading_files
from bertjax.data.corpus.files import Report
from bertjax.data.corpus.sources import TextList, open_sources
from bertjax.errors import DataError


def texts(*specs, report=None):
    report = Report() if report is None else report
    return [d.text for source in open_sources(list(specs)) for d in source.documents(report)]


@pytest.fixture
def write(tmp_path):
    def write(name: str, data: str | bytes) -> str:
        data = data.encode() if isinstance(data, str) else data
        path = tmp_path / name
        if name.endswith(".gz"):
            data = gzip.compress(data)
        elif name.endswith(".xz"):
            data = lzma.compress(data)
        elif name.endswith(".zst"):
            import zstandard

            data = zstandard.compress(data)
        path.write_bytes(data)
        return str(path)

    return write


def jsonl(*objects):
    return "".join(json.dumps(value) + "\n" for value in objects)


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".zst"])
def test_text_files(write, ending):
    path = write(f"a.txt{ending}", "\ufeffOne\ntwo\r\n\r\n \t\nThree\n\n\nFour")
    assert texts(path) == ["One\ntwo", "Three", "Four"]


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".zst"])
def test_json_lines(write, ending):
    path = write(f"a.jsonl{ending}", jsonl({"text": "One\n\ntwo", "id": 1}, {"text": "Three\u2028three"}))
    assert texts(path) == ["One\n\ntwo", "Three\u2028three"]


def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pa.array([b"One", None, b"Tw\xffo", b"Three"], pa.binary())
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    report = Report()
    assert texts(tmp_path / "a.parquet", report=report) == ["One", "Tw\ufffdo", "Three"]
    assert (report.replaced_bytes, report.skipped_lines) == (1, 1)
    pq.write_table(pa.table({"body": ["One"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="no column 'text'; its columns: body"):
        texts(tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="does not hold text"):
        texts(tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        texts(tmp_path / "d.parquet")


def test_globs_and_several_sources_none_twice(write, tmp_path):
    write("b.txt", "B")
    write("a.txt", "A")
    other = write("c.jsonl", jsonl({"text": "C"}))
    assert texts(f"{tmp_path}/*.txt", other, f"{tmp_path}/a.txt") == ["A", "B", "C"]


def test_a_file_with_glob_characters_in_its_name(write):
    assert texts(write("a[1].txt", "A")) == ["A"]


def test_texts_from_python():
    report = Report()
    assert texts(TextList(["One\x00", "Two\ud800"]), report=report) == ["One\ufffd", "Two\ufffd"]
    assert report.replaced_bytes == 2
    with pytest.raises(DataError, match="strings only"):
        TextList([b"One"])
    with pytest.raises(DataError, match="strings only"):
        TextList("One")


@pytest.mark.parametrize(
    ("data", "expected", "replaced"),
    [
        (b"caf\xe9 ol\xe9", "caf\ufffd ol\ufffd", 2),
        (b"a\x00b\x00", "a\ufffdb\ufffd", 2),
        # Three bytes of a sequence of four are one replacement, but three bytes.
        (b"a\xf0\x9f\x99 b", "a\ufffd b", 3),
        ("own \ufffd".encode() + b"\xff", "own \ufffd\ufffd", 1),
        (b"\xed\xa0\x80x", "\ufffd\ufffd\ufffdx", 3),
        ("fine é".encode(), "fine é", 0),
    ],
)
def test_invalid_bytes_are_replaced_and_counted(write, data, expected, replaced):
    report = Report()
    assert texts(write("a.txt", data), report=report) == [expected]
    assert report.replaced_bytes == replaced


def test_bad_json_lines_are_counted_and_skipped(write):
    lines = [
        b'{"text": "Good"}',
        b"no json",
        b"[1]",
        b'{"body": 1}',
        b'{"text": 5}',
        b"",
        b"\xff",
        b'{"text": "\\ud800"}',
    ]
    report = Report()
    assert texts(write("a.jsonl", b"\n".join(lines)), report=report) == ["Good", "\ufffd"]
    assert (report.skipped_lines, report.replaced_bytes) == (5, 1)


def test_a_file_of_bad_json_lines_only(write):
    with pytest.raises(DataError, match="none of its 2 lines is a JSON object with a 'text'"):
        texts(write("a.jsonl", "no\njson\n"))


def test_too_long_lines(write, monkeypatch):
    monkeypatch.setattr(reading_files, "LONGEST_LINE", 1000)
    monkeypatch.setattr("bertjax.data.corpus.formats.LONGEST_LINE", 1000)
    report = Report()
    path = write("a.jsonl", jsonl({"text": "x" * 2500}, {"text": "short"}))
    assert texts(path, report=report) == ["short"]
    assert report.skipped_lines == 1
    # A line of text is read in pieces and stays whole but for line breaks.
    assert "".join(texts(write("a.txt", "y" * 2500))).replace("\n", "") == "y" * 2500


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.xz", "a.jsonl.gz"])
def test_a_file_cut_short(write, name):
    path = Path(write(name, jsonl({"text": "word " * 50_000})))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or cut short"):
        texts(path)


def test_a_file_that_is_not_compressed(tmp_path):
    for ending in (".gz", ".xz", ".zst"):
        (tmp_path / f"a.txt{ending}").write_text("plain text")
        with pytest.raises(DataError, match="damaged or cut short"):
            texts(tmp_path / f"a.txt{ending}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.txt", "nowhere.txt does not exist"),
        ("nowhere/*.txt", "matches no file"),
        ("instaled-docs", "did you mean 'installed-docs'"),
        ("tfds:no_such_data_set", "no_such_data_set is not prepared"),
    ],
)
def test_what_does_not_exist(spec, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_sources([spec])
    assert "\n" not in str(caught.value)


def test_kinds_that_nobody_knows(write, tmp_path):
    with pytest.raises(DataError, match="of an unknown kind"):
        open_sources([write("a.pdf", "")])
    with pytest.raises(DataError, match="is a folder"):
        open_sources([tmp_path])
    with pytest.raises(DataError, match="no corpus is given"):
        open_sources([])


def test_descriptions_name_the_content(write):
    first, same, other = write("a.txt", "One"), write("b.txt", "One"), write("c.txt", "Two")
    described = [source.describe() for source in open_sources([first, same, other])]
    assert described[0]["sha256"] == described[1]["sha256"] != described[2]["sha256"]
    assert described[0]["size"] == 3


@pytest.fixture
def tfds_folder(tmp_path):
    import tensorflow_datasets as tfds

    class Sayings(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "sayings"
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(3), "test": self._generate_examples(1)}

        def _generate_examples(self, count):
            yield from ((i, {"text": f"Saying {i}: é."}) for i in range(count))

    Sayings(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    return tmp_path


def test_tfds_by_folder_and_by_name(tfds_folder, monkeypatch):
    expected = ["Saying 0: é.", "Saying 1: é.", "Saying 2: é."]
    assert texts(f"tfds:{tfds_folder}/sayings") == expected
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_folder))
    assert texts("tfds:sayings") == texts("tfds:sayings:1.0.0") == expected
    assert open_sources(["tfds:sayings"])[0].describe()["size"] > 0


def test_tfds_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="not a TFDS folder"):
        open_sources([f"tfds:{tmp_path}"])
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot be opened"):
        open_sources([f"tfds:{tmp_path}"])


def test_dependencies_are_those_of_the_project():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~\[; ]", line)[0] for line in project["dependencies"]}
    later = {"charset-normalizer", "filelock", "jinja2", "matplotlib", "scikit-learn", "seqeval"}
    assert names - later == set(docstrings.DEPENDENCIES) - {"array_record"}  # a dependency of two of the others


def test_prose_of_a_docstring():
    text = """Return the mean of :class:`~package.Values` along ``axis``.

    The mean is the sum of all of the values
    divided by their number.

    Parameters
    ----------
    axis : int, optional
        The axis along which the mean is computed. The default
        is the last one.

    .. code-block:: python

        mean(x, axis=0)

    Examples
    --------
    >>> mean([1, 2, 3])
    2.0

    Use it as follows::

        mean([3])

    Args:
      values: What the mean of is to be computed.
      more (int): How many more of them there are.

    ===== =====
    one   two
    ===== =====
    """
    assert docstrings.prose(text) == [
        "Return the mean of package.Values along axis.",
        "The mean is the sum of all of the values divided by their number.",
        "The axis along which the mean is computed. The default is the last one.",
        "Use it as follows:",
        "What the mean of is to be computed.",
        "How many more of them there are.",
    ]


def test_docstrings_are_read_not_run(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text('"""What this module does is told here."""\nraise SystemExit\n')
    (tmp_path / "b.py").write_text("def broken(:\n")
    (tmp_path / "c.py").write_text('def f():\n    """What this module does is told here."""\n')
    found = {p.name: p for p in sorted(tmp_path.glob("*.py"))}
    monkeypatch.setattr(docstrings, "modules", lambda: found)
    monkeypatch.setattr(docstrings, "_PROCESSES", 1)
    # The unreadable module has nothing to say, and what was said before is not said again.
    assert [text for text, _ in docstrings.documents()] == ["What this module does is told here.", "", ""]


def test_the_embedded_corpus_is_large_and_always_the_same(monkeypatch):
    report = Report()
    found = texts("installed-docs", report=report)
    characters, words = sum(map(len, found)), sum(len(text.split()) for text in found)
    assert characters > 10_000_000
    assert words > 1_700_000
    assert len([text for text in found if text]) > 1000
    # In one process as in several, of which none may fail: its share would be read here.
    read = docstrings.read_module
    monkeypatch.setattr(docstrings, "read_module", lambda module: pytest.fail("a child process died"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    head = docstrings._read_in_parallel()
    for path in list(docstrings.modules().values())[:60]:
        assert next(head) == read(path)
    assert report.bytes_read == open_sources(["installed-docs"])[0].describe()["size"]


def features_of(folder, change):
    """Changes the description of the features of a data set in place; ``change`` gets its features by name."""
    path = folder / "features.json"
    described = json.loads(path.read_text())
    change(described["featuresDict"]["features"])
    path.write_text(json.dumps(described))


@pytest.fixture
def watched_imports(tmp_path, monkeypatch):
    """A module that anybody could import, and the list that it fills when somebody does."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/not_for_import.py").write_text("import sys; sys.imported_by_mistake.append(__name__)\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr(sys, "imported_by_mistake", imported := [], raising=False)
    yield imported
    sys.modules.pop("not_for_import", None)


_CLASSES_OF_OTHERS = {
    "instead of a feature": lambda features: features["text"].update(pythonClassName="not_for_import.Text"),
    "beside it": lambda features: features.update(
        more={"pythonClassName": "not_for_import.Tensor", "tensor": {"shape": {}, "dtype": "int64"}}
    ),
    "inside of one": lambda features: features.update(
        more={
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "sequence": {"feature": {"python_class_name": "not_for_import.Text", "text": {}}, "length": "-1"},
        }
    ),
    "of TFDS, but no feature": lambda features: features["text"].update(
        pythonClassName="tensorflow_datasets.scripts.cli.main.Text"
    ),
    "in the form of old": lambda features: features.update(
        more={
            "pythonClassName": "tensorflow_datasets.core.features.text_feature.Text",
            "jsonFeature": {"json": '{"type": "not_for_import.Text", "content": {}}'},
        }
    ),
}


@pytest.mark.parametrize("change", _CLASSES_OF_OTHERS.values(), ids=_CLASSES_OF_OTHERS)
def test_a_data_set_names_no_class_to_import(tfds_folder, watched_imports, change):
    features_of(tfds_folder / "sayings/1.0.0", change)
    with pytest.raises(
        DataError, match=r"features\.json names the class '\S+', which is not one of TFDS's own"
    ) as caught:
        open_sources([f"tfds:{tfds_folder}/sayings"])
    assert "\n" not in str(caught.value)
    assert not watched_imports and "tensorflow_datasets.scripts.cli.main" not in sys.modules


def test_nor_does_its_description(tfds_folder, watched_imports):
    path = tfds_folder / "sayings/1.0.0/dataset_info.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"features": {"pythonClassName": "not_for_import.Text", "text": {}}}))
    with pytest.raises(DataError, match=r"dataset_info\.json names the class 'not_for_import\.Text'"):
        open_sources([f"tfds:{tfds_folder}/sayings"])
    # The module of the builder is a mere name.
    path.write_text(json.dumps(described | {"moduleName": "not_for_import"}))
    assert len(texts(f"tfds:{tfds_folder}/sayings")) == 3
    assert not watched_imports


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[]", '"text"', '{"type": "not_for_import.Text", "content": {}}', '{"featuresDict": 5}', "\xff"],
)
def test_damaged_descriptions(tfds_folder, watched_imports, text):
    (tfds_folder / "sayings/1.0.0/features.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"features\.json cannot be (read|opened)") as caught:
        open_sources([f"tfds:{tfds_folder}/sayings"])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not watched_imports


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "text.labels.txt"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_data_set_of_what_has_no_end(tfds_folder, name, kind):
    file = tfds_folder / "sayings/1.0.0" / name
    file.unlink(missing_ok=True)
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=f"{name} is a {kind}, not a file"):
        open_sources([f"tfds:{tfds_folder}/sayings"])


def test_shards_outside_of_the_folder(tfds_folder):
    path = tfds_folder / "sayings/1.0.0/dataset_info.json"
    described = json.loads(path.read_text())
    described["splits"][0]["filepathTemplate"] = "../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    path.write_text(json.dumps(described))
    with pytest.raises(DataError, match="names a file of another folder"):
        open_sources([f"tfds:{tfds_folder}/sayings"])


def test_every_feature_of_tfds_that_is_read_without_tensorflow(tmp_path):
    import tensorflow_datasets as tfds

    from bertjax.data.corpus.tfds_folders import open_builder

    given = tfds.features
    example = {
        "text": "A saying.",
        "label": "b",
        "words": [{"word": "q", "count": 1}],
        "pair": {"de": "eins", "en": "one"},
        "many": {"de": ["eins"], "en": ["one", "uno"]},
        "nested": {"score": 1.0},
        "numbers": [1, 2],
        "box": given.BBox(0.0, 0.0, 1.0, 1.0),
    }

    class All(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "all"
        code_path = None

        def _info(self):
            features = given.FeaturesDict(
                {
                    "text": given.Text(),
                    "label": given.ClassLabel(names=["a", "b"]),
                    "words": given.Sequence({"word": given.Text(), "count": np.int64}),
                    "pair": given.Translation(["de", "en"]),
                    "many": given.TranslationVariableLanguages(["de", "en"]),
                    "nested": {"score": given.Scalar(np.float32)},
                    "numbers": given.Tensor(shape=(None,), dtype=np.int32),
                    "box": given.BBoxFeature(),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": iter([(0, example)])}

        def _generate_examples(self):
            raise AssertionError("_split_generators has them")

    All(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    assert set(open_builder(tmp_path / "all/1.0.0").info.features) == set(example)
    assert texts(f"tfds:{tmp_path}/all") == ["A saying."]


def test_damaged_parquet(tmp_path):
    """What its library raises, for bits flipped in its data and descriptions, is one line; it ends no process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, draw, refused = tmp_path / "a.parquet", random.Random(0), 0
    table = pa.table({"text": [f"Text {i} is here {i * 7}" for i in range(100)], "n": list(range(100))})
    for compression in ("none", "zstd"):
        pq.write_table(table, path, compression=compression)
        whole = path.read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 3)):
                data[draw.choice((draw.randrange(len(data)), -draw.randrange(1, 600)))] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
            try:
                texts(path)
            except DataError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 100


def test_a_data_set_that_is_damaged_or_changed(tfds_folder):
    """Its shards are read in any order, by the library: whatever that raises is one line."""
    shard = next((tfds_folder / "sayings/1.0.0").glob("*train*"))
    whole = shard.read_bytes()
    right = texts(f"tfds:{tfds_folder}/sayings")

    def read(data):
        """The texts, or what is said: the library does not look at every byte, but never makes another text of one."""
        shard.write_bytes(data)
        try:
            return texts(f"tfds:{tfds_folder}/sayings")
        except DataError as error:
            assert "is damaged" in str(error) and "\n" not in str(error) and len(str(error)) < 600
            return None

    assert read(b"") is None and read(whole[: len(whole) // 2]) is None
    places = [i for i, byte in enumerate(whole) if byte]  # the rest is padding
    flipped = [read(whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :]) for i in places[::15]]
    assert None in flipped and all(found in (None, right) for found in flipped)
    shard.unlink()
    with pytest.raises(DataError, match=r"cannot be (read|opened)"):
        open_sources([f"tfds:{tfds_folder}/sayings"])[0].describe()
    shard.write_bytes(whole)
    source = open_sources([f"tfds:{tfds_folder}/sayings"])[0]
    source.describe()
    documents = source.documents(Report())
    next(documents)
    shard.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match=r"was changed while it was read|is damaged"):
        list(documents)
