from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertjax.data.corpus import manifest as manifests
from bertjax.data.corpus.prepared import check_files, find_prepared, open_prepared, prepare
from bertjax.data.corpus.sources import TextList
from bertjax.errors import ConfigError, DataError
from bertjax.objectives.pair_cautions import check_corpus
from bertjax.objectives.registry import find_objective
from bertjax.text.wordpiece import WORDPIECE_SPECIALS

REAL = os.environ.get("BERTJAX_REAL_DATA")
SETTINGS = {"vocab_size": 300, "held_out_fraction": 0.1}
TEXTS = [
    f"Document {i} is here. It says {i * 7} things, and no more. "
    + " ".join(f"Thing {j} is {'long' * (j % 3)}er." for j in range(i % 9))
    for i in range(60)
]


def verify(path):
    manifests.check_hashes(path, manifests.read(path))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare([TextList(TEXTS)], tmp_path_factory.mktemp("corpus") / "c", **SETTINGS)


def documents(corpus, tokenizer):
    """The documents of a split as lists of decoded sentences."""
    ends = np.cumsum(corpus.sentence_lengths)
    starts = ends - corpus.sentence_lengths
    return [
        [tokenizer.decode(corpus.tokens[starts[s] : ends[s]]) for s in range(first, last)]
        for first, last in zip(corpus.document_sentences[:-1], corpus.document_sentences[1:], strict=True)
    ]


def test_every_document_is_in_one_split_with_its_sentences(prepared):
    found = documents(prepared.train, prepared.tokenizer) + documents(prepared.held_out, prepared.tokenizer)
    assert len(found) == len(TEXTS)
    squeezed = {"".join(sentences).replace(" ", "") for sentences in found}
    assert squeezed == {text.lower().replace(" ", "") for text in TEXTS}
    by_first = {sentences[0].replace(" ", ""): len(sentences) for sentences in found}
    assert by_first["document8ishere."] == 2 + 8


def test_the_arrays_fit_together(prepared):
    for corpus in (prepared.train, prepared.held_out):
        assert corpus.tokens.dtype == np.uint16
        assert corpus.document_sentences.dtype == corpus.document_tokens.dtype == np.int64
        assert corpus.document_sentences[0] == corpus.document_tokens[0] == 0
        assert corpus.document_sentences[-1] == corpus.num_sentences
        assert corpus.document_tokens[-1] == corpus.num_tokens == int(corpus.sentence_lengths.sum())
        assert corpus.num_documents == len(corpus.document_tokens) - 1
        assert (np.diff(corpus.document_sentences) >= 1).all() and (corpus.sentence_lengths >= 1).all()
        bounds = np.concatenate([[0], np.cumsum(corpus.sentence_lengths)])
        assert (bounds[corpus.document_sentences] == corpus.document_tokens).all()
        assert corpus.fingerprint == prepared.fingerprint
    counts = np.bincount(prepared.train.tokens, minlength=prepared.tokenizer.vocab_size)
    assert prepared.token_counts.dtype == np.int64 and (prepared.token_counts == counts).all()


def test_the_manifest_counts(prepared):
    counts = prepared.manifest["counts"]
    assert counts["documents"] == 60 == counts["train"]["documents"] + counts["held_out"]["documents"]
    for name, corpus in (("train", prepared.train), ("held_out", prepared.held_out)):
        expected = (corpus.num_documents, corpus.num_sentences, corpus.num_tokens)
        assert (counts[name]["documents"], counts[name]["sentences"], counts[name]["tokens"]) == expected
    assert prepared.manifest["held_out"]["kind"] == "documents"
    assert prepared.manifest["tokenizer"]["fingerprint"] == prepared.tokenizer.fingerprint
    assert prepared.manifest["sources"][0]["sha256"] and "tokenizers" in prepared.manifest["versions"]


def as_an_earlier_version(corpus, folder):
    """The same corpus as earlier versions kept it: with a second copy that is in the manifest."""
    shutil.copytree(corpus.path, folder)
    copy = folder / "corpus/1.0.0/corpus-train.array_record-00000-of-00001"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"records")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] |= manifests.describe_files(folder, [copy])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_a_corpus_of_an_earlier_version_opens_with_and_without_its_copy(prepared, tmp_path):
    copy = as_an_earlier_version(prepared, tmp_path / "c")
    for change in (lambda: None, lambda: copy.write_bytes(b"changed"), lambda: shutil.rmtree(tmp_path / "c/corpus")):
        change()
        opened = open_prepared(tmp_path / "c")
        assert opened.fingerprint == prepared.fingerprint
        assert (opened.train.tokens == prepared.train.tokens).all()
        verify(tmp_path / "c")
        assert prepare([TextList(TEXTS)], tmp_path / "c", **SETTINGS).fingerprint == prepared.fingerprint


def test_an_earlier_corpus_that_lost_its_arrays_is_prepared_again(cache, prepared, tmp_path):
    """Its copy is not read any more."""
    as_an_earlier_version(prepared, tmp_path / "c")
    (tmp_path / "c/index/train.tokens.npy").unlink()
    with pytest.raises(DataError, match=r"index/train\.tokens\.npy is missing; prepare it again") as caught:
        open_prepared(tmp_path / "c")
    assert "\n" not in str(caught.value)
    shutil.copytree(tmp_path / "c", cache / f"corpus-{prepared.manifest['key'][:24]}")
    with pytest.warns(UserWarning, match=r"is missing; it is kept as .*\.damaged-1 and made again"):
        assert prepare([TextList(TEXTS)], **SETTINGS).fingerprint == prepared.fingerprint


def test_the_same_content_is_prepared_once(cache, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS))
    first = prepare([tmp_path / "a.txt"], **SETTINGS)
    assert first.path.parent == cache
    stamp = (first.path / "manifest.json").stat().st_mtime_ns
    (tmp_path / "b.txt").write_text("\n\n".join(TEXTS))
    second = prepare([tmp_path / "b.txt"], **SETTINGS)
    assert second.path == first.path and (second.path / "manifest.json").stat().st_mtime_ns == stamp
    other = prepare([tmp_path / "a.txt"], **{**SETTINGS, "held_out_fraction": 0.2})
    assert other.path != first.path
    assert other.fingerprint != first.fingerprint
    assert sorted(path.name for path in cache.iterdir()) == sorted([first.path.name, other.path.name])


def test_the_fingerprint_is_of_the_data(prepared, tmp_path):
    again = prepare([TextList(TEXTS)], tmp_path / "elsewhere", **SETTINGS)
    assert again.fingerprint == prepared.fingerprint
    assert json.loads((again.path / "manifest.json").read_text())["files"] == prepared.manifest["files"]


def test_found_by_fingerprint(prepared, cache):
    assert find_prepared(prepared.fingerprint, prepared.path).path == prepared.path
    assert find_prepared(prepared.fingerprint, "nowhere") is None
    kept = prepare([TextList(TEXTS)], **SETTINGS)
    assert find_prepared(prepared.fingerprint, "nowhere").path == kept.path


def test_equal_documents_are_on_one_side(tmp_path):
    corpus = prepare([TextList(TEXTS + TEXTS[:30])], tmp_path / "c", **SETTINGS)
    train = {" ".join(d) for d in documents(corpus.train, corpus.tokenizer)}
    held_out = {" ".join(d) for d in documents(corpus.held_out, corpus.tokenizer)}
    assert held_out and not train & held_out
    assert corpus.train.num_documents + corpus.held_out.num_documents == 90


def test_the_choice_does_not_depend_on_the_rest_of_the_corpus(prepared, tmp_path):
    more = prepare([TextList([*TEXTS, *(f"Another {i}. One." for i in range(40))])], tmp_path / "c", **SETTINGS)
    before = {"".join(d).replace(" ", "") for d in documents(prepared.train, prepared.tokenizer)}
    after = {"".join(d).replace(" ", "") for d in documents(more.train, more.tokenizer)}
    assert before <= after


@pytest.mark.parametrize("number", [2, 3, 5, 9])
@pytest.mark.parametrize("fraction", [0.001, 0.5])
def test_both_sides_have_documents(tmp_path, number, fraction):
    corpus = prepare([TextList(TEXTS[:number])], tmp_path / "c", vocab_size=300, held_out_fraction=fraction)
    assert corpus.manifest["held_out"]["kind"] == "documents"
    assert corpus.held_out.num_documents >= (2 if number >= 8 else 1)
    assert corpus.train.num_documents >= (2 if number >= 4 else 1)


def test_one_long_document_loses_its_tail(tmp_path):
    text = " ".join(f"This is sentence {i}." for i in range(50))
    corpus = prepare([TextList([text])], tmp_path / "c", vocab_size=300)
    assert corpus.manifest["held_out"]["kind"] == "tail"
    assert (corpus.train.num_sentences, corpus.held_out.num_sentences) == (48, 2)
    assert documents(corpus.held_out, corpus.tokenizer)[0][1].replace(" ", "") == "thisissentence49."
    check_corpus(find_objective("mlm"), corpus.train)
    with pytest.raises(DataError, match=r"only one document.*--config\.data\.objective=mlm"):
        check_corpus(find_objective("mlm_nsp"), corpus.train)


@pytest.mark.parametrize("tokenizer", ["wordpiece", "sentencepiece"])
def test_one_sentence_is_a_corpus(tmp_path, tokenizer):
    corpus = prepare([TextList(["One sentence is enough."])], tmp_path / "c", tokenizer=tokenizer, vocab_size=8192)
    assert corpus.manifest["held_out"]["kind"] == "copy"
    assert corpus.train.num_sentences == corpus.held_out.num_sentences == 1
    assert corpus.tokenizer.vocab_size <= 8192
    check_corpus(find_objective("mlm"), corpus.train)
    with pytest.raises(DataError, match=r"impossible.*only one sentence.*--config\.data\.objective=mlm") as caught:
        check_corpus(find_objective("mlm_nsp"), corpus.train)
    assert "\n" not in str(caught.value)


def test_nothing_held_out_on_request(tmp_path):
    corpus = prepare([TextList(TEXTS)], tmp_path / "c", vocab_size=300, held_out_fraction=0.0)
    assert corpus.manifest["held_out"]["kind"] == "copy"
    assert corpus.train.num_documents == 60 and corpus.held_out.num_documents == 2


@pytest.mark.parametrize("texts", [[], [""], [" \n "], ["\u200b"]])
@pytest.mark.parametrize("tokenizer", ["wordpiece", "given"])
def test_an_empty_corpus(tmp_path, texts, tokenizer):
    if tokenizer == "given":
        tokenizer = tmp_path / "vocab.txt"
        tokenizer.write_text("\n".join([*WORDPIECE_SPECIALS, "a"]))
    with pytest.raises(DataError, match="the corpus is empty: there is no text in texts"):
        prepare([TextList(texts)], tmp_path / "c", tokenizer=tokenizer, vocab_size=300)
    assert not (tmp_path / "c").exists() and not list(tmp_path.glob("c.tmp*"))


def test_bad_bytes_are_counted_in_the_manifest(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 is\x00 here.\n\nOther text. " + b"It goes on. " * 50)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "Some text."}\nno json\n')
    corpus = prepare([tmp_path / "a.txt", tmp_path / "b.jsonl"], tmp_path / "c", vocab_size=300)
    counts = corpus.manifest["counts"]
    assert (counts["documents"], counts["replaced_bytes"], counts["skipped_lines"]) == (3, 2, 1)
    assert [Path(source["name"]).name for source in corpus.manifest["sources"]] == ["a.txt", "b.jsonl"]


def test_a_given_tokenizer(prepared, tmp_path):
    given = prepared.path / "tokenizer"
    corpus = prepare([TextList(TEXTS)], tmp_path / "c", tokenizer=given, held_out_fraction=0.1)
    assert corpus.tokenizer.fingerprint == prepared.tokenizer.fingerprint
    assert corpus.manifest["tokenizer"]["trained"] is False
    assert np.array_equal(corpus.train.tokens, prepared.train.tokens)
    with pytest.raises(ConfigError, match="does not exist"):
        prepare([TextList(TEXTS)], tmp_path / "d", tokenizer="nowhere.model")


def test_a_prepared_corpus_as_spec(prepared, tmp_path):
    assert prepare([str(prepared.path)], held_out_fraction=0.1).fingerprint == prepared.fingerprint
    with pytest.raises(
        ConfigError, match=r"held_out_fraction = 0\.1, not 0\.02; use --config\.data\.held_out_fraction"
    ):
        prepare([str(prepared.path)], held_out_fraction=0.02)
    assert prepare([str(prepared.path)]).fingerprint == prepared.fingerprint
    with pytest.raises(ConfigError, match="lowercase = True, not False"):
        prepare([str(prepared.path)], held_out_fraction=0.1, lowercase=False)
    with pytest.raises(ConfigError, match="wordpiece tokenizer, not sentencepiece"):
        prepare([str(prepared.path)], tokenizer="sentencepiece")
    with pytest.raises(DataError, match="cannot be joined"):
        prepare([str(prepared.path), TextList(TEXTS)])
    with pytest.raises(DataError, match="is prepared already"):
        prepare([str(prepared.path)], tmp_path / "c")


def test_the_output_folder(prepared, tmp_path):
    (tmp_path / "c").mkdir()
    corpus = prepare([TextList(TEXTS)], tmp_path / "c", **SETTINGS)
    assert prepare([TextList(TEXTS)], tmp_path / "c", **SETTINGS).fingerprint == corpus.fingerprint
    with pytest.raises(DataError, match="holds another prepared corpus"):
        prepare([TextList(TEXTS[:30])], tmp_path / "c", **SETTINGS)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="is not a prepared corpus"):
        prepare([TextList(TEXTS)], tmp_path / "d", **SETTINGS)
    assert (tmp_path / "d/mine.txt").read_text() == "keep me"
    with pytest.raises(DataError, match="cannot be written"):
        prepare([TextList(TEXTS)], tmp_path / "d/mine.txt/c", **SETTINGS)


def test_damage_is_noticed(prepared, tmp_path):
    def damaged(change):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(prepared.path, tmp_path / "c")
        change(tmp_path / "c")
        return tmp_path / "c"

    with pytest.raises(DataError, match="not a prepared corpus"):
        open_prepared(damaged(lambda c: (c / "manifest.json").unlink()))
    with pytest.raises(DataError, match="cannot be read"):
        open_prepared(damaged(lambda c: (c / "manifest.json").write_text("{")))
    files = sorted(prepared.manifest["files"])
    assert len(files) > 9 and any("tokenizer" in name for name in files)
    for name in files:
        with pytest.raises(DataError, match=re.escape(f"{name} is missing; prepare it again")):
            open_prepared(damaged(lambda c, name=name: (c / name).unlink()))
        with pytest.raises(DataError, match=re.escape(f"{name} has 5 bytes, not")):
            open_prepared(damaged(lambda c, name=name: (c / name).write_bytes(b"short")))
        with pytest.raises(DataError, match=re.escape(f"{name} has changed; prepare it again")):
            verify(damaged(lambda c, name=name: flip(c / name)))
    stray = "index/held_out.word_starts.npy"
    with pytest.raises(DataError, match=re.escape(f"{stray} does not belong to it; take it out")):
        verify(damaged(lambda c: shutil.copy(c / "index/held_out.tokens.npy", c / stray)))
    assert open_prepared(tmp_path / "c").held_out.word_starts is None
    verify(prepared.path)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_corpus_in_the_cache_is_put_aside_and_made_again(cache):
    first = prepare([TextList(TEXTS)], **SETTINGS)
    (first.path / "index/train.tokens.npy").write_bytes(b"short")
    (first.path / "mine.txt").write_text("keep me")
    with pytest.warns(
        UserWarning, match=r"index/train\.tokens\.npy has 5 bytes.* it is kept as .*\.damaged-1 and made"
    ):
        again = prepare([TextList(TEXTS)], **SETTINGS)
    verify(again.path)
    (again.path / "manifest.json").write_text("[]")
    with pytest.warns(UserWarning, match=r"not a manifest.*damaged-2 and made again"):
        prepare([TextList(TEXTS)], **SETTINGS)
    assert (cache / f"{first.path.name}.damaged-1/mine.txt").read_text() == "keep me"
    assert (cache / f"{first.path.name}.damaged-1/index/train.tokens.npy").read_bytes() == b"short"
    # What was put aside is no corpus of the cache any more.
    assert find_prepared(again.fingerprint, "nowhere").path == again.path


_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT)


@pytest.mark.parametrize(
    "part", ["manifest.json", "tokenizer.json", "train.tokens.npy", "held_out.document_tokens.npy", "token_counts.npy"]
)
def test_what_cannot_be_opened_now_is_not_damaged(cache, prepared, monkeypatch, part):
    """Too many open files, no memory, a server that is away: the corpus stays where it is, whatever was being read."""
    cache_with(cache, prepared)
    before = {p.relative_to(cache): p.stat().st_mtime_ns for p in cache.rglob("*")}
    real, codes = io.open, list(_PASSING)

    def failing(file, *args, **kwargs):
        if Path(str(file)).name == part and str(cache) in str(file):
            raise OSError(codes[0], os.strerror(codes[0]), str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", failing)
    monkeypatch.setattr("builtins.open", failing)
    while codes:
        with pytest.raises(DataError, match=f"cannot be (read|opened).*{os.strerror(codes[0])}") as caught:
            prepare([TextList(TEXTS)], **SETTINGS)
        assert "\n" not in str(caught.value)
        assert {p.relative_to(cache): p.stat().st_mtime_ns for p in cache.rglob("*")} == before
        codes.pop(0)


def test_no_memory_is_not_damage(cache, prepared, monkeypatch):
    path = cache_with(cache, prepared)

    def failing(*_):
        raise MemoryError

    monkeypatch.setattr("bertjax.data.corpus.prepared.load_tokenizer", failing)
    with pytest.raises(DataError, match="cannot be opened: MemoryError"):
        prepare([TextList(TEXTS)], **SETTINGS)
    assert [p.name for p in cache.iterdir()] == [path.name]


def cache_with(cache, prepared):
    """The corpus in the cache, where the same content and settings find it; its path there."""
    path = cache / f"corpus-{prepared.manifest['key'][:24]}"
    shutil.copytree(prepared.path, path)
    return path


def test_a_run_whose_corpus_cannot_be_read_now_does_not_prepare_another(prepared, tmp_path):
    shutil.copytree(prepared.path, tmp_path / "c")
    (tmp_path / "c/manifest.json").unlink()
    assert find_prepared(prepared.fingerprint, tmp_path / "c") is None
    (tmp_path / "c/manifest.json").mkdir()
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        find_prepared(prepared.fingerprint, tmp_path / "c")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["counts"], 5),
        (["counts", "train", "tokens"], -1),
        (["counts", "held_out"], None),
        (["tokenizer", "vocab_size"], 1e9),
        (["tokenizer", "lowercase"], "no"),
        (["held_out"], []),
        (["files"], []),
        (["files", "index/train.tokens.npy"], None),
        (["files", "index/train.tokens.npy", "size"], "7"),
        (["files", "../outside"], {"size": 1, "sha256": ""}),
        (["files", "/etc/hostname"], {"size": 1, "sha256": ""}),
        (["files"], {}),
        (["fingerprint"], "0" * 64),
        (["key"], None),
        (["sources"], [5]),
        (["sources"], [{"name": 1, "kind": "", "sha256": "", "size": 1}]),
    ],
)
def test_a_manifest_of_well_formed_nonsense(prepared, tmp_path, keys, value):
    shutil.copytree(prepared.path, tmp_path / "c")
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    part = manifest
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (tmp_path / "c/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is not a valid manifest of a prepared corpus: its") as caught:
        open_prepared(tmp_path / "c")
    assert "\n" not in str(caught.value)


def test_a_pipe_for_a_manifest(prepared, tmp_path):
    shutil.copytree(prepared.path, tmp_path / "c")
    (tmp_path / "c/manifest.json").unlink()
    os.mkfifo(tmp_path / "c/manifest.json")
    with pytest.raises(DataError, match=r"manifest\.json is not a manifest"):
        open_prepared(tmp_path / "c")


def test_a_flipped_bit_in_the_cache_is_found_once(cache, tmp_path):
    """Sizes tell nothing of it, so a start that reads everything has to put it out of the next one's way."""

    def flipped(corpus):
        path = corpus.path / "index/train.tokens.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        return corpus

    first = flipped(prepare([TextList(TEXTS)], **SETTINGS))
    with pytest.raises(
        DataError, match=r"has changed; it is kept as corpus-\w+\.damaged-1, and the next start prepares"
    ):
        check_files(first)
    check_files(prepare([TextList(TEXTS)], **SETTINGS))
    own = flipped(prepare([TextList(TEXTS)], tmp_path / "own", **SETTINGS))
    with pytest.raises(DataError, match="has changed; prepare it again"):
        check_files(own)
    assert own.path.is_dir()


def test_two_processes_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS * 20))
    program = (
        "from bertjax.data.corpus.prepared import check_files, prepare; import sys\n"
        "c = prepare([sys.argv[1]], vocab_size=300); check_files(c); print(c.fingerprint)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.txt")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    printed = {process.communicate()[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(printed) == 1
    assert len(list(Path(os.environ["BERTJAX_CACHE"]).iterdir())) == 1


def test_what_a_killed_process_left_is_removed(cache):
    cache.mkdir()
    corpus = prepare([TextList(TEXTS)], **SETTINGS)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = corpus.path.with_name(f".{corpus.path.name}.bertjax-{socket.gethostname()}-{gone.pid}-0123abcd")
    corpus.path.rename(left)
    assert find_prepared(corpus.fingerprint, "nowhere") is None
    prepare([TextList(TEXTS)], **SETTINGS)
    assert [path.name for path in cache.iterdir()] == [corpus.path.name]


def test_progress_is_told(tmp_path):
    seen = []
    prepare([TextList(TEXTS)], tmp_path / "c", **SETTINGS, progress=lambda *told: seen.append(told))
    assert {"reading", "learning the vocabulary", "tokenising", "writing", "checking"} <= {
        stage for stage, _, _ in seen
    }
    assert all(0 <= done <= total or total == 0 for _, done, total in seen)


def test_large_vocabularies_take_wider_integers(tmp_path):
    words = [*WORDPIECE_SPECIALS, "one", "two", *(f"w{i}" for i in range(70_000))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    texts = ["One w69999. Two.", "Two one. One.", "Two w5."]
    corpus = prepare([TextList(texts)], tmp_path / "c", tokenizer=tmp_path / "vocab.txt")
    assert corpus.train.tokens.dtype == np.uint32
    assert max(corpus.train.tokens.max(), corpus.held_out.tokens.max()) == 69_999 + 7


def test_neither_jax_nor_tensorflow_is_needed(tmp_path):
    program = (
        "import sys; import bertjax.prepare; from bertjax.data.corpus.prepared import prepare\n"
        f"prepare([sys.argv[1]], {str(tmp_path / 'c')!r}, vocab_size=300)\n"
        "assert not {'jax', 'tensorflow', 'tensorflow_datasets', 'array_record'} & set(sys.modules)"
    )
    (tmp_path / "a.txt").write_text("One text is here.")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.txt")], check=True, env=environment)


@pytest.mark.skipif(not REAL, reason="BERTJAX_REAL_DATA is not set")
def test_wikipedia(tmp_path):
    corpus = prepare([f"{REAL}/corpus/wiki_en_small.jsonl.xz"], tmp_path / "c", vocab_size=8192)
    counts = corpus.manifest["counts"]
    assert counts["documents"] == 1097
    assert 25_000 < counts["sentences"] < 35_000
    assert counts["replaced_bytes"] == counts["skipped_lines"] == 0
    # Words in two pieces at most on the average, hardly any unknown.
    assert counts["tokens"] < 1_300_000
    assert corpus.token_counts[corpus.tokenizer.unk_id] < 0.001 * corpus.train.num_tokens


@pytest.mark.parametrize("mask", [0o077, 0o002])
@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
def test_the_modes_of_files_follow_the_umask(tmp_path, mask, kind):
    before = os.umask(mask)
    try:
        corpus = prepare([TextList(TEXTS)], tmp_path / "made/c", vocab_size=330, tokenizer=kind)
    finally:
        os.umask(before)
    for path in [corpus.path.parent, corpus.path, *corpus.path.rglob("*")]:
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert path.stat().st_mode & 0o777 == wanted, path
