"""Something changed between two starts of a run."""

import identity


def test_every_key_is_refused_or_accepted_as_it_is_marked():
    cases = list(identity.every_key())
    assert len(cases) > 60
    assert not {name: wrong for name, wrong in cases if wrong}


def test_checkpoints_of_another_run_are_refused():
    _, wrong = identity.of_another_run()
    assert not wrong


def test_text_and_tokenizer_changed_behind_the_same_config():
    cases = list(identity.text_changed())
    assert not {name: wrong for name, wrong in cases if wrong}
