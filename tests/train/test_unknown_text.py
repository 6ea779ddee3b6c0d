"""A run on text that its tokenizer does not know is refused before anything is compiled."""

from __future__ import annotations

import json

import pytest

import bertjax.train
from bertjax.data.corpus.prepared import prepare
from bertjax.errors import DataError
from configs import tiny


def test_all_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text("\n\n".join("acgtnacgtt" * 20 + "g" * n for n in range(1, 30)))
    config = tiny.get_config()
    config.data.corpus = str(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"100\.0% of the characters of the corpus are \[UNK\].*data\.tokenizer="):
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_prepared_corpus_of_an_earlier_version(tmp_path, monkeypatch):
    """It says nothing of characters; a new run on it is judged by its tokens."""
    (tmp_path / "a.txt").write_text("\n\n".join("acgtnacgtt" * 20 + "g" * n for n in range(1, 30)))
    monkeypatch.setattr("bertjax.data.corpus.building.check_known", lambda *arguments: None)
    corpus = prepare([tmp_path / "a.txt"], tmp_path / "c", vocab_size=300)
    manifest = json.loads((corpus.path / "manifest.json").read_text())
    del manifest["counts"]["text"]
    (corpus.path / "manifest.json").write_text(json.dumps(manifest))
    config = tiny.get_config()
    config.data.corpus, config.model.vocab_size = str(corpus.path), 300
    with pytest.raises(DataError, match=r"100\.0% of the tokens of the corpus are \[UNK\]"):
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
