import numpy as np
import pytest
from scipy.special import log_softmax

import bertjax
from bertjax.text.vocabulary import train_tokenizer
from bertjax.walkthrough import SENTENCE, main, walk


@pytest.mark.parametrize("changes", [{}, {"hidden_act": "gelu_new"}, {"position_embedding_type": "sinusoidal"}])
def test_every_step_by_hand_is_the_models(changes, tmp_path, capsys):
    tokenizer = train_tokenizer("wordpiece", [SENTENCE] * 3, 60, lowercase=True)
    model = bertjax.create_model(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        initializer_range=0.2,
        **changes,
    )
    loss = walk(model, tokenizer, SENTENCE)
    out = capsys.readouterr().out
    differences = [float(line.split()[-1]) for line in out.splitlines() if "largest difference" in line]
    assert len(differences) == 6 and max(differences) < 1e-4

    ids = [tokenizer.cls_id, *tokenizer.encode(SENTENCE), tokenizer.sep_id]
    place = 1 + (len(ids) - 2) // 2
    label, ids[place] = ids[place], tokenizer.mask_id
    logits = np.asarray(model([ids]).mlm_logits)[0, place]
    assert loss == pytest.approx(-log_softmax(logits)[label], rel=1e-4)

    bertjax.save_model(model, tmp_path / "model", tokenizer=tokenizer)
    assert main([f"--model={tmp_path / 'model'}"]) == 0
    assert "9. The next-sentence head" in capsys.readouterr().out


def test_a_step_that_differs_is_an_error():
    from bertjax.walkthrough import same

    for other in (np.ones(3), np.full(3, np.nan)):
        with pytest.raises(ArithmeticError, match="differ by"):
            same("x", np.zeros(3), other)


def test_a_sentence_of_one_piece_is_refused(tmp_path, capsys):
    tokenizer = train_tokenizer("wordpiece", [SENTENCE] * 3, 60, lowercase=True)
    model = bertjax.create_model(
        vocab_size=tokenizer.vocab_size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    bertjax.save_model(model, tmp_path / "model", tokenizer=tokenizer)
    assert main([f"--model={tmp_path / 'model'}", "x"]) == 2
    err = capsys.readouterr().err
    assert "the sentence has 1 pieces" in err and err.count("\n") == 1
    assert main([f"--model={tmp_path}", "x y z"]) == 3
