"""The positive one of two labels."""

import pytest

from bertjax.errors import ConfigError
from bertjax.tasks.labels import positive_label


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("0", "1"), "1"),
        (("1", "0"), "1"),  # as config.data.labels may order them
        (("1", "2"), "2"),
        (("-1", "1"), "1"),
        (("false", "true"), "true"),
        (("No", "Yes"), "Yes"),
        (("neg", "pos"), "pos"),
        (("pos", "neg"), "pos"),
        (("ham", "spam"), "spam"),
        (("attack", "benign"), "attack"),
        (("entailment", "not_entailment"), "entailment"),
        (("acceptable", "unacceptable"), "acceptable"),
        (("irrelevant", "relevant"), "relevant"),
        (("hate", "nothate"), "hate"),
        (("hate", "none"), "hate"),
        (("cat", "dog"), "dog"),
        (("under", "other-under"), "other-under"),
        (("a", "b", "c"), None),
    ],
)
def test_the_label_that_says_yes(labels, positive):
    assert positive_label(labels) == positive


def test_the_config_may_say_which():
    assert positive_label(("neg", "pos"), "neg") == "neg"
    with pytest.raises(ConfigError, match="positive_label = 'Pos' is not one of the labels; did you mean 'pos'"):
        positive_label(("neg", "pos"), "Pos")
    with pytest.raises(ConfigError, match="needs two labels, and there are 3; leave it out"):
        positive_label(("a", "b", "c"), "a")
