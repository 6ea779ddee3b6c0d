"""Documents of one sentence: every next sentence would be a random one."""

import pytest

import bertjax.train
from bertjax.config import default_config, phase
from bertjax.errors import DataError
from bertjax.prepare import main
from bertjax.train import pretraining


class Built(Exception):
    pass


@pytest.mark.parametrize("name", ["one_sentence_documents.txt", "blank_line_after_every_sentence.txt"])
def test_documents_of_one_sentence_are_refused(cases, name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))

    def build(run, mesh):
        raise Built

    monkeypatch.setattr(pretraining, "make_job", build)
    assert main([f"--input={cases / name}", f"--output={tmp_path / 'corpus'}", "--vocab_size=300"]) == 0
    assert "warning: data.objective=mlm_nsp: next-sentence prediction means nothing" in capsys.readouterr().err
    config = default_config()
    config.phases.phase1 = phase(learning_rate=1e-3, warmup_steps=1)
    config.data.corpus = str(tmp_path / "corpus")
    with pytest.raises(DataError, match="no document of the corpus has a second sentence"):
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
    config.data.objective = "mlm"
    with pytest.raises(Built):
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
