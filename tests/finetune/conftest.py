"""A tiny model folder, small labelled files, and a config that trains on them in seconds."""

import jax
import numpy as np
import pytest

import bertjax
from bertjax.finetune.settings import default_config
from bertjax.text.tokenizer import WordPieceTokenizer

_TEXT = """
good bad fine awful great poor film book story plot song the a was is very not quite too and it this that paris london
rome anna peter maria lives works in at with for who where
"""
WORDS = _TEXT.split()
PLACES, PEOPLE = ("paris", "london", "rome"), ("anna", "peter", "maria")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """2 layers x 32, 64 positions, a word a token."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(".", ",", "?"), "##s", "##ing"]
    tokenizer = WordPieceTokenizer(vocabulary, True, "made up")
    model = bertjax.create_model(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        seed=1,
    )
    bertjax.save_model(model, folder, tokenizer=tokenizer)
    return folder


def sentence(random, mood):
    """A sentence of 3 to 14 words that holds one word of the mood."""
    words = list(random.choice(WORDS[6:], random.integers(2, 14)))
    words.insert(random.integers(0, len(words) + 1), str(random.choice(WORDS[mood:6:2])))
    return " ".join(map(str, words))


def texts(count, seed):
    """(sentences, labels): "pos" where it says good, fine or great, "neg" for bad, awful or poor."""
    random = np.random.default_rng(seed)
    moods = random.integers(0, 2, count)
    return [sentence(random, mood) for mood in moods], [("pos", "neg")[mood] for mood in moods]


@pytest.fixture(scope="session")
def moods():
    """(training, evaluation) of classification, in memory."""
    return texts(150, 0), texts(60, 1)


def _words(random, least, below):
    return [str(word) for word in random.choice(WORDS[6:21], random.integers(least, below))]


def _tagged(count, seed):
    random = np.random.default_rng(seed)
    sentences, tags = [], []
    for _ in range(count):
        own = _words(random, 3, 12)
        place, is_place = random.integers(0, len(own)), random.random() < 0.5
        own[place] = str(random.choice(PLACES if is_place else PEOPLE))
        sentences.append(own)
        tags.append(["B-loc" if i == place and is_place else "B-per" if i == place else "O" for i in range(len(own))])
    return sentences, tags


def _questions(count, seed):
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        person, place = str(random.choice(PEOPLE)), str(random.choice(PLACES))
        before = " ".join(_words(random, 1, 12))
        context = before if number % 3 == 0 else f"{before} {person} lives in {place} . it was good"
        answers = [] if number % 3 == 0 else [{"text": place, "answer_start": context.index(place)}]
        found.append({"id": str(number), "question": f"where lives {person} ?", "context": context, "answers": answers})
    return found


@pytest.fixture(scope="session")
def tagged():
    """``tagged(count, seed)``: (sentences, tags), a place or a person among other words."""
    return _tagged


@pytest.fixture(scope="session")
def questions():
    """``questions(count, seed)``: where a person lives; every third one has no answer."""
    return _questions


def _small_config(task):
    config = default_config(task)
    config.model.max_length = 16
    config.training.epochs = "2"
    config.training.batch_size = 8
    config.training.learning_rate = "3e-3"
    config.logging.every_steps = 5
    config.logging.tensorboard = False
    config.parallel.data = 1
    return config


@pytest.fixture(scope="session")
def small_config():
    """``small_config(task)``: two epochs in batches of eight on one device."""
    return _small_config


@pytest.fixture(scope="session", autouse=True)
def as_many_devices_as_are_asked_for():
    """Of the eight virtual ones; most runs here are on one."""
    from bertjax.finetune import trials
    from bertjax.parallel.mesh import make_mesh

    with pytest.MonkeyPatch.context() as patch:
        few = lambda *sizes: make_mesh(*sizes, devices=jax.devices()[: abs(int(np.prod(sizes)))])
        patch.setattr(trials, "make_mesh", few)
        yield


@pytest.fixture
def config(small_config):
    return small_config("classification")
