"""Whether a config goes on with a run: what is not set cannot differ, and paths are compared by what they lead to."""

import json
import shutil

import pytest

import bertjax.train
from bertjax.cli.progress import Display
from bertjax.config import default_config, identity_fingerprint, identity_items, phase, resolve, to_dict
from bertjax.config_schema import translated_tree
from bertjax.data.corpus.prepared import prepare
from bertjax.errors import ConfigError, DataError
from bertjax.text.tokenizer import load_tokenizer
from bertjax.train.open_corpus import BY_CONTENT, open_corpus, settled
from bertjax.workdir.config_json import (
    check_same_run,
    config_record,
    origin_fingerprint,
    with_recorded_identity,
    write_json,
)

# The config.json of a run from before keys could be left to follow others: every key has its value, and
# max_predictions is 20 at every length.
OLD_CONFIG = json.loads(
    """{"model": {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
    "initializer_range": 0.02, "layer_norm_eps": 1e-12, "position_embedding_type": "absolute",
    "attention": "explicit", "scan_layers": true, "recompute": "all_but_products"}, "data": {"corpus": ["corpora/mine"],
    "tokenizer": "wordpiece", "lowercase": true, "sentencepiece_type": "unigram", "held_out_fraction": 0.02,
    "objective": "mlm_nsp", "packing": true, "max_examples_per_row": 16, "masked_lm_prob": 0.15,
    "short_seq_prob": 0.1, "whole_word_masking": false, "block_tokens": 8000000, "prefetch": 4},
    "phases": {"phase1": {"sequence_length": 128, "batch_size": 8, "steps": 3, "max_predictions": 20,
    "learning_rate": 0.001, "warmup_steps": 1}, "phase2": {"sequence_length": 512, "batch_size": 8, "steps": 2,
    "max_predictions": 20, "learning_rate": null, "warmup_steps": null}}, "init_from": "models/start",
    "optimizer": {"name": "bert2018", "beta1": 0.9, "beta2": 0.999, "eps": 1e-06, "weight_decay": 0.01,
    "clip_norm": 1.0, "schedule": "polynomial", "power": 1.0, "schedule_span": "run"}, "precision": "bfloat16",
    "seed": 0}"""
)
OLD_IDENTITY = json.loads(
    """{"model.vocab_size": 30522, "model.hidden_size": 768, "model.num_hidden_layers": 12,
    "model.num_attention_heads": 12, "model.intermediate_size": 3072, "model.hidden_act": "gelu",
    "model.hidden_dropout_prob": 0.1, "model.attention_probs_dropout_prob": 0.1,
    "model.max_position_embeddings": 512, "model.type_vocab_size": 2, "model.initializer_range": 0.02,
    "model.layer_norm_eps": 1e-12, "model.position_embedding_type": "absolute", "data.corpus": ["corpora/mine"],
    "data.tokenizer": "wordpiece", "data.lowercase": true, "data.sentencepiece_type": "unigram",
    "data.held_out_fraction": 0.02, "data.objective": "mlm_nsp", "data.packing": true,
    "data.max_examples_per_row": 16, "data.masked_lm_prob": 0.15, "data.short_seq_prob": 0.1,
    "data.whole_word_masking": false, "data.block_tokens": 8000000, "phases.phase1.sequence_length": 128,
    "phases.phase1.batch_size": 8, "phases.phase1.steps": 3, "phases.phase1.max_predictions": 20,
    "phases.phase1.learning_rate": 0.001, "phases.phase1.warmup_steps": 1, "phases.phase2.sequence_length": 512,
    "phases.phase2.batch_size": 8, "phases.phase2.steps": 2, "phases.phase2.max_predictions": 20,
    "phases.phase2.learning_rate": null, "phases.phase2.warmup_steps": null, "optimizer.name": "bert2018",
    "optimizer.beta1": 0.9, "optimizer.beta2": 0.999, "optimizer.eps": 1e-06, "optimizer.weight_decay": 0.01,
    "optimizer.clip_norm": 1.0, "optimizer.schedule": "polynomial", "optimizer.power": 1.0,
    "optimizer.schedule_span": "run", "init_from": "models/start", "precision": "bfloat16", "seed": 0,
    "phases": ["phase1", "phase2"]}"""
)
OLD_FINGERPRINT = "05b96d0af0968e06847cf4bc384f5335ebc93249de9dff7de92c55c8d1862672"


def same_config_today(**data):
    config = default_config()
    config.data.corpus = "corpora/mine"
    config.data.update(data)
    config.phases.phase1 = phase(sequence_length=128, batch_size=8, steps=3, learning_rate=1e-3, warmup_steps=1)
    config.phases.phase2 = phase(sequence_length=512, batch_size=8, steps=2)
    config.init_from = "models/start"
    return config


def test_a_config_json_of_before_is_read_as_it_was_written():
    run = resolve(translated_tree(OLD_CONFIG))
    assert run.model.remat == "save_matmuls"  # "recompute" was its name
    assert run.phases["phase2"].max_predictions == 20
    assert run.unset == {"data.strip_accents", "data.language", "data.character_coverage"}  # which were not there yet
    assert identity_items(run) == OLD_IDENTITY
    assert identity_fingerprint(run) == OLD_FINGERPRINT


def test_a_run_of_before_goes_on_with_todays_defaults(tmp_path):
    recorded = {"config": OLD_CONFIG, "identity": OLD_IDENTITY, "corpus": {"fingerprint": "f", "path": "/x"}}
    run = resolve(same_config_today())
    assert run.phases["phase2"].max_predictions == 77
    check_same_run(recorded, run, tmp_path, BY_CONTENT)
    again = with_recorded_identity(recorded, run)
    assert again.phases["phase2"].max_predictions == 20
    assert identity_fingerprint(again) == OLD_FINGERPRINT
    config = same_config_today()
    config.phases.phase2.max_predictions = 77
    with pytest.raises(ConfigError, match=r"phases.phase2.max_predictions \(there 20, here 77\); use --workdir"):
        check_same_run(recorded, resolve(config), tmp_path, BY_CONTENT)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "own.txt"
    words = [f"word{i} follows word{i % 7} here. It ends so." for i in range(40)]
    path.write_text("\n\n".join(words) + "\n")
    return path


class Kept:
    """A run that has begun on a corpus, as its workdir tells of it; nothing is trained."""

    def __init__(self, workdir, corpus, **values):
        self.workdir, self.lines = workdir, []
        run = self._run(corpus, values)
        opened = open_corpus(run, None, self._display())
        self.run = settled(run, None, opened)
        place = {"fingerprint": opened.fingerprint, "path": str(opened.path.resolve())}
        prints = {"tokenizer": opened.tokenizer.fingerprint}
        if self.run.init_from:
            prints["init_from"] = origin_fingerprint(self.run.init_from)
        workdir.mkdir()
        opened.tokenizer.save(workdir / "tokenizer")
        write_json(workdir / "config.json", config_record(self.run, place, {}, prints))

    def _run(self, corpus, values):
        config = default_config()
        config.data.corpus = str(corpus)
        config.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=2, learning_rate=1e-3, warmup_steps=1)
        config.model.vocab_size = 200
        for name, value in values.items():
            *sections, key = name.split("__")
            node = config
            for section in sections:
                node = node[section]
            node[key] = value
        return resolve(config)

    def _display(self):
        return Display(self.lines.append)

    def again(self, corpus, old_record=False, **values):
        """The corpus with which it goes on; raises where it may not."""
        recorded = json.loads((self.workdir / "config.json").read_text())
        if old_record:
            del recorded["fingerprints"]
        run = self._run(corpus, values)
        check_same_run(recorded, run, self.workdir, BY_CONTENT)
        opened = open_corpus(run, recorded, self._display())
        assert identity_fingerprint(settled(run, recorded, opened)) == recorded["identity_fingerprint"]
        return opened


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("own_cache")
def test_another_spelling_of_a_text_is_the_same_run(text, tmp_path, monkeypatch):
    kept = Kept(tmp_path / "run", text)
    (tmp_path / "link").symlink_to(text.parent)
    (tmp_path / "copy.txt").write_bytes(text.read_bytes())
    monkeypatch.chdir(text.parent)
    monkeypatch.setenv("HOME", str(text.parent))
    for spelled in ("own.txt", "./own.txt", "~/own.txt", tmp_path / "link" / "own.txt", tmp_path / "copy.txt", "*.txt"):
        kept.again(spelled)
    (tmp_path / "other.txt").write_text(text.read_text() + "\n\nOne more document.\n")
    with pytest.raises(ConfigError, match=r"data.corpus \(there \['.*own.txt'\], here \['.*other.txt'\]\)"):
        kept.again(tmp_path / "other.txt")
    with pytest.raises(ConfigError, match=r"data.corpus .*nowhere.txt"):
        kept.again(tmp_path / "nowhere.txt")
    with pytest.raises(ConfigError, match=r"data.corpus .*installed-docs"):
        kept.again("installed-docs")


def test_a_text_that_has_changed_is_said_and_without_its_corpus_refused(text, own_cache, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_bytes(text.read_bytes())
    kept = Kept(tmp_path / "run", mine)
    kept.again(mine)
    assert not any("has changed since" in line for line in kept.lines)
    mine.write_text(text.read_text() + "\n\nOne more document.\n")
    kept.again(mine)
    assert any("mine.txt has changed since" in line for line in kept.lines)
    shutil.rmtree(own_cache)
    with pytest.raises(ConfigError, match="the corpus has changed since this run began"):
        kept.again(mine)


@pytest.mark.usefixtures("own_cache")
def test_a_prepared_corpus_may_move_but_not_change(text, tmp_path):
    prepare([text], tmp_path / "a", vocab_size=200)
    kept = Kept(tmp_path / "run", tmp_path / "a")
    kept.again(f"{tmp_path}/a/")
    (tmp_path / "a").rename(tmp_path / "b")
    assert kept.again(tmp_path / "b").path == tmp_path / "b"
    kept.again(text)  # what it was prepared from, too, is found out when it is prepared again
    prepare([text], tmp_path / "a", vocab_size=150)
    with pytest.raises(ConfigError, match=r"the corpus has changed since|model.vocab_size"):
        kept.again(tmp_path / "a")
    with pytest.raises((ConfigError, DataError), match="corpus"):
        kept.again(tmp_path / "gone")


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("old_record", [False, True])
def test_a_tokenizer_is_compared_by_what_it_does(old_record, text, tmp_path, monkeypatch):
    prepared = prepare([text], tmp_path / "a", vocab_size=200)
    shutil.copytree(prepared.path / "tokenizer", tmp_path / "t")
    given = {"model__vocab_size": prepared.tokenizer.vocab_size}
    kept = Kept(tmp_path / "run", text, data__tokenizer=str(tmp_path / "t"), **given)
    shutil.copytree(tmp_path / "t", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for spelled in ("t", "./t", f"{tmp_path}/t/", "moved", "moved/vocab.txt", "a"):
        kept.again(text, old_record, data__tokenizer=spelled, **given)
    # The files say whether they lowercase, so that the key says nothing.
    kept.again(text, old_record, data__tokenizer="moved", data__lowercase=False, **given)
    words = (tmp_path / "moved" / "vocab.txt").read_text().split("\n")
    words[20], words[21] = words[21], words[20]
    for left in (tmp_path / "moved").iterdir():
        left.unlink()
    (tmp_path / "moved" / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ConfigError, match=r"data.tokenizer \(there '.*/t', here 'moved'\)"):
        kept.again(text, old_record, data__tokenizer="moved", **given)
    with pytest.raises(ConfigError, match=r"data.tokenizer \(there '.*/t', here 'wordpiece'\)"):
        kept.again(text, old_record, data__tokenizer="wordpiece", **given)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("old_record", [False, True])
def test_what_the_first_weights_come_from_is_compared_by_content(old_record, text, tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    (start / "model.safetensors").write_bytes(b"weights")
    kept = Kept(tmp_path / "run", text, init_from=str(start))
    shutil.copytree(start, tmp_path / "copy")
    for spelled in (f"{start}/", tmp_path / "copy"):
        kept.again(text, old_record, init_from=str(spelled))
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"others!")
    for other in (tmp_path / "copy", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"init_from \(there '.*start', here '"):
            kept.again(text, old_record, init_from=str(other))
    with pytest.raises(ConfigError, match=r"init_from \(there '.*start', here None\)"):
        kept.again(text, old_record)
    shutil.rmtree(start)  # once the run has begun, nobody reads it
    kept.again(text, old_record, init_from=str(start))


def test_more_steps_name_the_way_to_go_on(config, finished):
    config.phases.phase2.steps = 400
    with pytest.raises(ConfigError, match=r"phase2.steps \(there 4, here 400\).*--config.init_from=") as caught:
        bertjax.train.run(config, finished, say=lambda line: None)
    assert str(finished) in str(caught.value)
    config.phases.phase2.steps = 2
    with pytest.raises(ConfigError, match=r"phase2.steps \(there 4, here 2\); use --workdir=ANOTHER_DIR$"):
        bertjax.train.run(config, finished, say=lambda line: None)


@pytest.mark.usefixtures("own_cache")
def test_a_prepared_corpus_is_described_by_itself(text, tmp_path):
    """It brings tokenizer, case, kind, share and vocabulary size; what is set and disagrees comes in one message."""
    corpus = prepare(
        [text], tmp_path / "a", tokenizer="sentencepiece", vocab_size=300, lowercase=False, sentencepiece_type="bpe",
        held_out_fraction=0.1,
    )  # fmt: skip
    config = default_config()
    config.data.corpus = str(tmp_path / "a")
    config.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=2, learning_rate=1e-3, warmup_steps=1)
    run = settled(resolve(config), None, open_corpus(resolve(config), None, Display(print)))
    assert (run.model.vocab_size, run.data.tokenizer) == (corpus.tokenizer.vocab_size, "sentencepiece")
    assert (run.data.lowercase, run.data.sentencepiece_type, run.data.held_out_fraction) == (False, "bpe", 0.1)
    assert resolve(to_dict(run)).model == run.model
    config.model.vocab_size = 30522
    config.data.update(tokenizer="wordpiece", lowercase=True, sentencepiece_type="unigram", held_out_fraction=0.02)
    with pytest.raises(ConfigError) as caught:
        open_corpus(resolve(config), None, Display(print))
    (line,) = str(caught.value).split("\n")
    overrides = [word.rstrip(",") for word in line.split() if word.startswith("--config.")]
    assert len(overrides) == 5
    for override in overrides:
        key, value = override.removeprefix("--config.").split("=")
        section, name = key.split(".")
        kind = type(config[section][name])
        config[section][name] = value == "True" if kind is bool else kind(value)
    assert settled(resolve(config), None, open_corpus(resolve(config), None, Display(print))).data == run.data


@pytest.mark.usefixtures("own_cache")
def test_a_corpus_with_a_tokenizer_of_another_kind_gets_the_right_advice(text, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train([str(text)], tokenizers.trainers.BpeTrainer(vocab_size=120, special_tokens=special))
    (tmp_path / "own").mkdir()
    made.save(str(tmp_path / "own" / "tokenizer.json"))
    corpus = prepare([text], tmp_path / "a", tokenizer=tmp_path / "own")
    assert corpus.tokenizer.kind == "tokenizers"
    config = default_config()
    config.data.corpus = str(tmp_path / "a")
    config.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=2, learning_rate=1e-3, warmup_steps=1)
    run = settled(resolve(config), None, open_corpus(resolve(config), None, Display(print)))
    assert run.model.vocab_size == corpus.tokenizer.vocab_size
    assert load_tokenizer(run.data.tokenizer).fingerprint == corpus.tokenizer.fingerprint
    config.data.tokenizer = "wordpiece"
    with pytest.raises(ConfigError, match="a tokenizers tokenizer, not wordpiece") as caught:
        open_corpus(resolve(config), None, Display(print))
    advised = next(w for w in str(caught.value).split() if w.startswith("--config.data.tokenizer=")).rstrip(",")
    config.data.tokenizer = advised.partition("=")[2]
    open_corpus(resolve(config), None, Display(print))


@pytest.mark.usefixtures("own_cache")
def test_the_model_follows_a_given_tokenizer(text, tmp_path):
    prepared = prepare([text], tmp_path / "a", vocab_size=200)
    config = default_config()
    config.data.corpus, config.data.tokenizer = str(text), str(tmp_path / "a")
    config.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=2, learning_rate=1e-3, warmup_steps=1)
    run = resolve(config)
    assert settled(run, None, open_corpus(run, None, Display(print))).model.vocab_size == prepared.tokenizer.vocab_size
    config.data.tokenizer = None  # a vocabulary that is learned has what is asked for, 30522 at most
    run = resolve(config)
    assert settled(run, None, open_corpus(run, None, Display(print))).model.vocab_size == 30522
