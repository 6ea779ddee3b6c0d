import dataclasses
import hashlib
import json

import pytest

from bertjax import config as config_module
from bertjax import config_schema, config_sections
from bertjax.config import default_config, identity_fingerprint, identity_items, phase, resolve, to_dict
from bertjax.errors import ConfigError, ModelFileError
from bertjax.finetune import settings
from bertjax.train.pretraining_job import config_cautions as cautions
from bertjax.workdir.config_json import check_config, check_same_run


def valid():
    config = default_config()
    config.phases.phase1 = phase(sequence_length=128, batch_size=8, steps=3, learning_rate=1e-3, warmup_steps=1)
    config.phases.phase2 = phase(sequence_length=512, batch_size=8, steps=2)
    return config


def resolve_with(**changes):
    tree = valid().to_dict()
    for dotted, value in changes.items():
        *sections, key = dotted.split("__")
        node = tree
        for section in sections:
            node = node[section]
        node[key] = value
    return resolve(tree)


def test_resolves_with_phases_in_order():
    run = resolve(valid())
    assert list(run.phases) == ["phase1", "phase2"]
    assert run.total_steps == 5
    assert [run.phase_at(step) for step in range(6)] == [0, 0, 0, 1, 1, 1]
    assert run.phase_start(1) == 3
    assert to_dict(run)["phases"]["phase2"]["sequence_length"] == 512


def test_phases_run_in_the_order_of_the_config_not_of_their_names():
    config = default_config()
    config.phases.warm = phase(sequence_length=128, steps=3, learning_rate=1e-3, warmup_steps=1)
    config.phases.long = phase(sequence_length=512, steps=2)
    run = resolve(config)
    assert list(run.phases) == ["warm", "long"]
    swapped = dict(config.to_dict(), phases={name: run.phases[name].__dict__ for name in ("long", "warm")})
    swapped["optimizer"]["schedule_span"] = "phase"
    swapped["phases"]["long"] |= {"learning_rate": 1e-3, "warmup_steps": 1}
    assert identity_items(resolve(swapped))["phases"] == ["long", "warm"]


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve(valid()).model.hidden_size = 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__hiden_size": 64}, ["config.model.hiden_size", "'hidden_size'"]),
        ({"optimiser": {}}, ["config.optimiser", "'optimizer'"]),
        ({"phases__phase1__setps": 3}, ["config.phases.phase1.setps", "'steps'"]),
        ({"model__hidden_size": "768"}, ["config.model.hidden_size", "int", "str"]),
        ({"model__hidden_size": 768.0}, ["config.model.hidden_size", "int", "float"]),
        ({"data__packing": 1}, ["config.data.packing", "bool"]),
        ({"model__hidden_dropout_prob": float("nan")}, ["config.model.hidden_dropout_prob", "nan"]),
        ({"model__hidden_act": "gleu"}, ["config.model.hidden_act", "'gelu'"]),
        ({"precision": "bf16"}, ["config.precision", "bfloat16"]),
        ({"model__num_attention_heads": 7}, ["num_attention_heads = 7", "768", "6 would"]),
        ({"phases__phase2__sequence_length": 1024}, ["1024", "max_position_embeddings = 512"]),
        ({"phases__phase1__max_predictions": 200}, ["max_predictions"]),
        ({"phases__phase1__learning_rate": None}, ["phase1.learning_rate is not set"]),
        ({"phases__phase2__learning_rate": 1e-3}, ["phase2.learning_rate", "schedule_span"]),
        ({"phases": {}}, ["phases"]),
        ({"seed": -1}, ["config.seed"]),
        ({"model__attention": "dot_product"}, ["dot_product", "attention_probs_dropout_prob"]),
        ({"parallel__data": 0}, ["config.parallel"]),
        ({"optimizer__eps": 0.0}, ["config.optimizer.eps"]),
        ({"optimizer__beta2": 1.0}, ["config.optimizer.beta2"]),
        ({"phases__phase1__learning_rate": float("inf")}, ["phase1.learning_rate", "finite"]),
        ({"data__corpus": []}, ["config.data.corpus"]),
        ({"model": 3}, ["config.model", "section"]),
    ],
)
def test_bad_config_is_one_line_that_names_the_key(changes, words):
    with pytest.raises(ConfigError) as caught:
        resolve_with(**changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_several_corpora_as_list_or_commas():
    assert resolve_with(data__corpus=["a", "b"]).data.corpus == ("a", "b")
    assert resolve_with(data__corpus="a, b").data.corpus == ("a", "b")


def test_identity_is_changed_by_identity_keys_only():
    run = resolve(valid())
    assert identity_fingerprint(resolve_with(logging__every_steps=77)) == identity_fingerprint(run)
    assert identity_fingerprint(resolve_with(parallel__rows_per_device=2)) == identity_fingerprint(run)
    assert identity_fingerprint(resolve_with(seed=5)) != identity_fingerprint(run)
    assert identity_fingerprint(resolve_with(phases__phase1__steps=4)) != identity_fingerprint(run)
    assert identity_items(run)["phases.phase1.steps"] == 3


def test_schedule_of_its_own_in_each_phase():
    run = resolve_with(
        optimizer__schedule_span="phase", phases__phase2__learning_rate=1e-4, phases__phase2__warmup_steps=1
    )
    assert run.phases["phase2"].learning_rate == 1e-4


@pytest.mark.parametrize(
    ("length", "probability", "most"),
    [(128, 0.15, 20), (512, 0.15, 77), (128, 0.4, 52), (30, 0.1, 3), (8, 0.001, 1), (512, 0.9, 461), (8192, 0.3, 2458)],
)
def test_as_many_predictions_as_the_masking_needs(length, probability, most):
    run = resolve_with(
        phases__phase1__sequence_length=length,
        data__masked_lm_prob=probability,
        model__max_position_embeddings=max(length, 512),
    )
    assert run.phases["phase1"].max_predictions == most
    assert not cautions(run)


def test_a_stored_run_keeps_its_predictions():
    """A config.json holds what was resolved when it was written, such as the 20 that every length once had."""
    stored = to_dict(resolve(valid()))
    assert [p["max_predictions"] for p in stored["phases"].values()] == [20, 77]
    stored["phases"]["phase2"]["max_predictions"] = 20
    again = resolve(stored)
    assert again.phases["phase2"].max_predictions == 20
    assert again.unset == {
        "data.strip_accents",
        "data.language",
        "data.character_coverage",
    }  # None, which is what not set means
    assert identity_items(again)["phases.phase2.max_predictions"] == 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phases__phase2__max_predictions": 20}, ["phase2.max_predictions = 20", "3.9%", "max_predictions=77"]),
        ({"phases__phase2__max_predictions": 76}, ["phase2.max_predictions = 76", "max_predictions=77"]),
        (
            {
                "data__masked_lm_prob": 0.4,
                "phases__phase1__max_predictions": 20,
                "phases__phase2__max_predictions": 205,
            },
            ["phase1.max_predictions = 20", "masked_lm_prob = 0.4", "max_predictions=52"],
        ),
        ({"phases__phase1__warmup_steps": 5}, ["phase1.warmup_steps = 5", "5 steps"]),
        ({"phases__phase1__warmup_steps": 500}, ["phase1.warmup_steps = 500", "5 steps", "only rises"]),
        (
            {
                "optimizer__schedule_span": "phase",
                "phases__phase2__learning_rate": 1e-4,
                "phases__phase2__warmup_steps": 2,
            },
            ["phase2.warmup_steps = 2", "2 steps"],
        ),
    ],
)
def test_what_is_hardly_meant_is_said(changes, words):
    (line,) = cautions(resolve_with(**changes))
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"phases__phase1__max_predictions": 128, "phases__phase2__max_predictions": 77},
        {"phases__phase1__warmup_steps": 4},
        {"phases__phase1__warmup_steps": 0},
    ],
)
def test_nothing_is_said_of_what_is_usual(changes):
    assert cautions(resolve_with(**changes)) == []


def sections_of(kind):
    yield kind
    for f in config_schema.keys_of(kind):
        inner = f.default if f.default is not dataclasses.MISSING else f.default_factory()
        if dataclasses.is_dataclass(inner):
            yield from sections_of(type(inner))


@pytest.mark.parametrize("kind", [config_module.RunConfig, config_module.PhaseConfig, settings.FinetuneConfig])
def test_every_key_has_a_meaning_and_every_section_a_title(kind):
    for one in sections_of(kind):
        assert not one.__doc__.startswith(f"{one.__name__}("), f"{one.__name__} has no docstring"
        for f in config_schema.keys_of(one):
            meaning = f.metadata.get("meaning", "section")
            assert 5 < len(meaning) < 130 and not meaning.endswith("."), (one.__name__, f.name, meaning)


# Key and value names as an imagined run of before had them.
BEFORE = {
    "data.mask_share": "data.masked_lm_prob",
    "data.masking_share": "data.masked_lm_prob",
    "data.objective=both": "data.objective=mlm_nsp",
    "model.checkpointing": "model.attention",
    "model.attention=plain": "model.attention=explicit",
}


@pytest.fixture
def before(monkeypatch):
    """(config as a nested dict, identity items, their fingerprint) of a run from before keys were renamed."""
    monkeypatch.setattr(config_schema, "RENAMED", BEFORE)
    run = resolve_with(model__attention="explicit")
    tree, items = to_dict(run), identity_items(run)
    tree["data"]["mask_share"] = tree["data"].pop("masked_lm_prob")
    tree["data"]["objective"] = "both"
    tree["model"]["checkpointing"] = {"explicit": "plain"}[tree["model"].pop("attention")]
    items["data.mask_share"] = items.pop("data.masked_lm_prob")
    items["data.objective"] = "both"
    return tree, items, hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()


def test_a_stored_run_with_old_names_is_read_and_keeps_its_fingerprint(before, tmp_path):
    tree, items, fingerprint = before
    run = resolve_with(model__attention="explicit")
    recorded = {"config": tree, "identity": items, "identity_fingerprint": fingerprint}
    new = config_schema.translated_record(recorded)
    assert resolve(new["config"]) == dataclasses.replace(run, unset=resolve(new["config"]).unset)
    assert list(new["config"]["phases"]) == ["phase1", "phase2"]
    assert new["identity"] == identity_items(run)
    assert config_schema.translated_record(new) == new
    assert (
        config_schema.fingerprint(items)
        == config_schema.fingerprint(new["identity"])
        == identity_fingerprint(run)
        == fingerprint
    )
    check_same_run(new, run, tmp_path, {})
    record = {"step": 3, "identity": fingerprint}
    check_config(recorded, run, record, tmp_path)
    check_config(recorded, None, record, tmp_path)  # as for fine-tuning, whose config is compared by name
    for other in (recorded | {"identity": items | {"seed": 5}}, new | {"config": tree, "identity": {}}):
        with pytest.raises(ModelFileError):
            check_config(other, run, record, tmp_path)
    with pytest.raises(ModelFileError, match=r"data\.masked_lm_prob"):
        check_config(
            recorded, dataclasses.replace(run, data=dataclasses.replace(run.data, masked_lm_prob=0.3)), record, tmp_path
        )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data__mask_share", 0.2, "config.data.mask_share is now called config.data.masked_lm_prob"),
        ("data__masking_share", 0.2, "config.data.masking_share is now called config.data.masked_lm_prob"),
        ("data__objective", "both", "config.data.objective = 'both' is now called 'mlm_nsp'"),
        ("model__checkpointing", "plain", "set config.model.attention = 'explicit'"),
    ],
)
def test_a_config_with_an_old_name_is_told_the_new_one(monkeypatch, key, value, message):
    monkeypatch.setattr(config_schema, "RENAMED", BEFORE)
    with pytest.raises(ConfigError) as caught:
        resolve_with(**{key: value})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_renamed_key_leads_to_one_of_today():
    names = {
        name
        for kind in (config_module.default_config(), settings.default_config("tagging"))
        for name in config_schema.leaves(kind.to_dict())
    }
    for old, new in config_schema.RENAMED.items():
        assert new.partition("=")[0] in names and ("=" in old) == ("=" in new)
        assert "=" in old or old not in names


def test_fine_tuning_shares_its_sections_and_refuses_old_names():
    config = settings.default_config("classification")
    config.data.too_long = "cut"
    with pytest.raises(ConfigError, match=r"config\.data\.too_long = 'cut' is now called 'truncate'"):
        settings.resolve(config)
    assert issubclass(settings.BestConfig, config_sections.CheckpointConfig)
    stored = {"config": {"data": {"too_long": "cut"}}, "identity": {"data.too_long": "cut"}}
    assert config_schema.translated_record(stored)["config"] == {"data": {"too_long": "truncate"}}
    assert config_schema.fingerprint({"data.too_long": "cut"}) == config_schema.fingerprint(
        {"data.too_long": "truncate"}
    )


def test_a_key_that_was_added_is_in_the_identity_only_if_it_is_set():
    assert "data.language" not in identity_items(resolve(valid()))
    assert identity_items(resolve_with(data__language="tr"))["data.language"] == "tr"


def test_the_stored_config_of_a_run_from_before_remat_is_read():
    tree = to_dict(resolve(valid()))
    del tree["model"]["remat"]
    tree["model"]["recompute"] = "all_but_products"
    assert resolve(config_schema.translated_tree(tree)).model.remat == "save_matmuls"
    with pytest.raises(ConfigError, match=r"config\.model\.recompute is now called config\.model\.remat"):
        resolve(tree)
