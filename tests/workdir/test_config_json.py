import json

import pytest

from bertjax.config import default_config, phase, resolve
from bertjax.errors import ConfigError
from bertjax.workdir.config_json import check_same_run, config_record, recorded_config, write_json


def run(**model):
    config = default_config()
    config.model.update(model)
    config.phases.phase1 = phase(steps=1, learning_rate=1e-3, warmup_steps=0)
    return resolve(config)


def test_config_of_another_run_is_refused_by_key(tmp_path):
    recorded = json.loads(json.dumps(config_record(run(), {}, {}, {})))
    check_same_run(recorded, run(), tmp_path, {})
    with pytest.raises(ConfigError, match=r"model.hidden_size \(there 768, here 48\).*--workdir"):
        check_same_run(recorded, run(hidden_size=48), tmp_path, {})


def test_a_run_has_its_identity_from_its_first_checkpoint_on(tmp_path):
    recorded = {"identity": {}, "corpus": {"fingerprint": "f", "path": "p"}}
    write_json(tmp_path / "config.json", recorded)
    assert recorded_config(tmp_path) is None
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    assert recorded_config(tmp_path) == recorded
    for damaged in ("{", "{}", "[]", '{"identity": {}}', '{"identity": {}, "corpus": {}}'):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(ConfigError, match="cannot be read"):
            recorded_config(tmp_path)


def test_json_is_replaced_whole(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    write_json(tmp_path / "a.json", {"x": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
