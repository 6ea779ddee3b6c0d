"""Text that a tokenizer does not know is refused with a way out that works."""

from __future__ import annotations

from bertjax.data.corpus.prepared import open_prepared
from bertjax.prepare import main


def test_thai_without_spaces(cases, tmp_path, capsys):
    command = [f"--input={cases / 'unk_thai.jsonl'}", f"--output={tmp_path / 'out'}", "--vocab_size=300"]
    assert main(command) == 3
    error = capsys.readouterr().err
    assert "100.0% of the characters of the corpus are [UNK]" in error and "data.tokenizer=sentencepiece" in error
    assert main([*command, "--tokenizer=sentencepiece"]) == 0
    corpus = open_prepared(tmp_path / "out")
    assert corpus.token_counts[corpus.tokenizer.unk_id] == 0 and corpus.train.num_tokens > 100
