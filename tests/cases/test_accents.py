"""Vowel signs of Hindi: kept by a vocabulary that is learned here; said where they are asked away."""

from bertjax.prepare import main
from bertjax.text.tokenizer import load_tokenizer


def test_hindi(cases, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    sentence = "कुत्ता घर में सो रहा है"
    arguments = [f"--input={cases / 'hindi.txt'}", "--vocab_size=300"]
    assert main([*arguments, f"--output={tmp_path / 'a'}"]) == 0
    assert "(Devanagari); 100% have no case" in capsys.readouterr().out
    tokenizer = load_tokenizer(tmp_path / "a")
    assert tokenizer.decode(tokenizer.encode(sentence)) == sentence
    assert main([*arguments, f"--output={tmp_path / 'b'}", "--lowercase", "--strip_accents=true"]) == 0
    warnings = [line for line in capsys.readouterr().err.split("\n") if line.startswith("warning: ")]
    assert "data.strip_accents = True deletes" in warnings[0] and "have no case" in warnings[1]
