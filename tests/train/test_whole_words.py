"""A run whose whole-word masking does nothing is refused at once."""

import pytest

import bertjax.train
from bertjax.errors import ConfigError
from bertjax.train import pretraining


class Built(Exception):
    """The run got as far as its model."""


def test_whole_words_without_effect_are_refused_before_anything_is_built(config, tmp_path, monkeypatch):
    def build(run, mesh):
        raise Built

    monkeypatch.setattr(pretraining, "make_job", build)
    characters = "".join(map(chr, range(0x4E00, 0x4E50)))
    path = tmp_path / "zh.txt"
    path.write_text("\n\n".join(f"{characters[i:]}。{characters[:i]}。" for i in range(5, 75)), encoding="utf-8")
    config.data.corpus, config.data.whole_word_masking = str(path), True
    with pytest.raises(ConfigError, match=r"^config\.data\.whole_word_masking has no effect: .*; leave it out$"):
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
    config.data.whole_word_masking = False  # as the line says
    with pytest.raises(Built):
        bertjax.train.run(config, tmp_path / "run", say=lambda line: None)
