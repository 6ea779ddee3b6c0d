"""Model folders of other libraries: rounded-up embeddings, and layers that bertjax does not compute."""

import pytest

from bertjax.errors import ModelFileError
from bertjax.inference.fill_mask import fill_mask
from bertjax.interop.models import load_pair, save_model
from bertjax.interop.task_models import load_task_model


def test_model_padded_vocabulary(cases, tmp_path):
    """58 entries, 64 rows."""
    with pytest.warns(UserWarning, match="has no pooler"):
        model, tokenizer = load_pair(cases / "model_padded_vocabulary", for_pretraining=True)
    fillings = fill_mask(model, tokenizer, "the [MASK] of", top_k=58)
    assert sorted(filling.token_id for filling in fillings) == list(range(58))
    save_model(model, tmp_path / "again", tokenizer)
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    peer = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "again")
    assert peer.config.vocab_size == len(transformers.AutoTokenizer.from_pretrained(tmp_path / "again")) == 58


def test_model_with_dense(cases):
    with pytest.raises(ModelFileError, match=r"modules\.json has 2_Dense"):
        load_task_model(cases / "model_with_dense")
