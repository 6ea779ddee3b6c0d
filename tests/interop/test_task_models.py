"""Models for tasks as folders: what transformers computes with ours, and we with theirs; what is refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bertjax
from bertjax.errors import ConfigError, ModelFileError
from bertjax.interop.task_config import ARCHITECTURES, from_task_values, to_task_values
from bertjax.interop.task_models import load_task_model, new_task_model, save_task_model
from bertjax.model.bert import merge_params, split_params
from bertjax.model.task import TaskConfig
from bertjax.text.vocabulary import train_tokenizer

# float32 on both sides; logits are of the order of 1.
WITHIN = 2e-5
LABELS = ("O", "B-PER", "I-PER", 'odd "name" é')
TASKS = {
    "classification": TaskConfig(
        "classification", LABELS[:3], max_length=32, classifier_dropout=0.25, positive_label=LABELS[0]
    ),
    "multi_label": TaskConfig("multi_label", LABELS, max_length=48),
    "regression": TaskConfig("regression", ("score",), max_length=48),
    "tagging": TaskConfig("tagging", LABELS, max_length=24),
    "answering": TaskConfig("answering", max_length=40, stride=7, max_question=9, max_answer=5, null_threshold=-1.5),
    "embedding": TaskConfig("embedding", max_length=48, pooling="cls", normalize=True),
}
AUTO = {
    "classification": "AutoModelForSequenceClassification",
    "multi_label": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "answering": "AutoModelForQuestionAnswering",
    "embedding": "AutoModel",
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", ["The quick brown fox jumps over the lazy dog."] * 5, 90, lowercase=True)


@pytest.fixture(scope="module")
def encoder(tokenizer, tmp_path_factory):
    """The folder of a pretrained model."""
    path = tmp_path_factory.mktemp("encoder") / "model"
    model = bertjax.create_model(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=48,
        initializer_range=0.1,
    )
    bertjax.save_model(model, path, tokenizer=tokenizer)
    return path


@pytest.fixture(scope="module")
def saved(encoder, tmp_path_factory):
    """``saved(kind)``: (model, its folder); biases are not what they start as, so that a mix-up of two shows."""
    made = {}

    def make(kind):
        if kind not in made:
            new, tokenizer = new_task_model(encoder, TASKS[kind], seed=3)
            graphdef, params = split_params(new)
            random = np.random.default_rng(1)
            moved = jax.tree.map(lambda x: np.asarray(x) + 0.1 * random.normal(size=x.shape).astype("f"), params)
            path = tmp_path_factory.mktemp(kind) / "model"
            save_task_model(merge_params(graphdef, moved), path, tokenizer)
            made[kind] = merge_params(graphdef, moved), path
        return made[kind]

    return make


@pytest.fixture
def folder(saved, tmp_path):
    """``folder(kind, tensors=..., **keys of config.json)``: a folder that is not as it should be."""

    def make(kind, tensors=lambda found: found, **values):
        path = tmp_path / "changed"
        # Without the files of sentence-transformers, which count for more than config.json.
        shutil.copytree(saved(kind)[1], path, ignore=shutil.ignore_patterns("modules.json", "*_bert_config*", "1_*"))
        config = json.loads((path / "config.json").read_text()) | values
        (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "none"}))
        found = load_file(path / "model.safetensors")
        save_file(tensors(found), path / "model.safetensors")
        return path

    return make


def rows(model):
    random = np.random.default_rng(0)
    mask = np.ones((3, 20), int)
    mask[1, 11:] = 0
    ids = random.integers(5, model.config.vocab_size, (3, 20))
    return {"input_ids": ids, "token_type_ids": random.integers(0, 2, (3, 20)), "attention_mask": mask}


def logits(model, inputs):
    output = model(**inputs)
    return np.asarray(output.embeddings if output.logits is None else output.logits)


def peer_logits(torch, peer, inputs):
    with torch.no_grad():
        out = peer(**{name: torch.tensor(value) for name, value in inputs.items()})
    if hasattr(out, "start_logits"):
        return np.stack([out.start_logits.numpy(), out.end_logits.numpy()], axis=-1)
    return out.logits.numpy() if hasattr(out, "logits") else out.last_hidden_state[:, 0].numpy()


def assert_same(ours, theirs, mask):
    if ours.ndim == 3:  # nobody reads what stands at padding
        ours, theirs = ours[mask > 0], theirs[mask > 0]
    assert np.ptp(ours) > 0.1
    np.testing.assert_allclose(ours, theirs, atol=WITHIN, rtol=0)


@pytest.mark.parametrize("kind", TASKS)
def test_it_comes_back(kind, saved):
    model, path = saved(kind)
    read, tokenizer = load_task_model(path)
    assert read.task == model.task == TASKS[kind] and tokenizer.vocab_size == read.config.vocab_size
    inputs = rows(model)
    np.testing.assert_allclose(logits(read, inputs), logits(model, inputs), atol=1e-6)
    names = set(load_file(path / "model.safetensors"))
    assert ("bert.pooler.dense.weight" in names) == (kind not in ("tagging", "answering"))
    head = {"embedding": None, "answering": "qa_outputs"}.get(kind, "classifier")
    assert {name for name in names if not name.startswith("bert.")} == (
        {f"{head}.weight", f"{head}.bias"} if head else set()
    )


@pytest.mark.parametrize("kind", TASKS)
def test_transformers_computes_the_same(kind, saved):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, path = saved(kind)
    peer, report = getattr(transformers, AUTO[kind]).from_pretrained(path, output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    inputs = rows(model)
    assert_same(logits(model, inputs), peer_logits(torch, peer.eval(), inputs), inputs["attention_mask"])
    if TASKS[kind].labels:
        assert tuple(peer.config.id2label.values()) == TASKS[kind].labels
        assert peer.config.label2id == {label: number for number, label in enumerate(TASKS[kind].labels)}
    problems = {"classification": "single_label_classification", "multi_label": "multi_label_classification"}
    assert peer.config.problem_type == problems.get(kind, "regression" if kind == "regression" else None)


@pytest.mark.parametrize(
    ("architecture", "settings", "task"),
    [
        ("BertForSequenceClassification", {}, TaskConfig("classification", ("LABEL_0", "LABEL_1"))),
        (
            "BertForSequenceClassification",
            {"num_labels": 3, "problem_type": "multi_label_classification"},
            TaskConfig("multi_label", ("LABEL_0", "LABEL_1", "LABEL_2")),
        ),
        ("BertForSequenceClassification", {"num_labels": 1}, TaskConfig("regression", ("score",))),
        (
            "BertForTokenClassification",
            {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}},
            TaskConfig("tagging", ("O", "B-X", "I-X")),
        ),
        ("BertForQuestionAnswering", {}, TaskConfig("answering")),
        ("BertModel", {}, TaskConfig("embedding")),
    ],
)
def test_what_transformers_saved_computes_the_same(architecture, settings, task, new_peer, torch, tokenizer, tmp_path):
    peer = new_peer(architecture, vocab_size=tokenizer.vocab_size, **settings)
    peer.save_pretrained(tmp_path / "peer")
    tokenizer.save(tmp_path / "peer")
    model, _ = load_task_model(tmp_path / "peer")
    assert model.task == dataclasses.replace(task, max_length=48)
    inputs = rows(model)
    theirs = peer_logits(torch, peer, inputs)
    if architecture == "BertModel":
        model.task = dataclasses.replace(model.task, pooling="cls")
    assert_same(logits(model, inputs), theirs, inputs["attention_mask"])


def test_a_new_head_is_the_seeds_and_the_encoder_the_folders(encoder):
    one, _ = new_task_model(encoder, TASKS["tagging"], seed=1)
    again, _ = new_task_model(encoder, TASKS["tagging"], seed=1)
    other, _ = new_task_model(encoder, TASKS["tagging"], seed=2)
    kernel = lambda model: np.asarray(model.classifier.kernel[...])
    np.testing.assert_array_equal(kernel(one), kernel(again))
    assert not np.array_equal(kernel(one), kernel(other)) and kernel(one).shape == (24, 4)
    pretrained = bertjax.load_model(encoder)
    inputs = rows(one)
    np.testing.assert_allclose(
        one.bert(**inputs).sequence_output, pretrained(**inputs).sequence_output, atol=1e-6, rtol=0
    )


def test_a_model_for_a_task_is_an_encoder_too(saved):
    model, path = saved("classification")
    inputs = rows(model)
    read = bertjax.load_model(path, for_pretraining=False)
    np.testing.assert_allclose(read(**inputs).sequence_output, model.bert(**inputs).sequence_output, atol=1e-6)
    again, _ = new_task_model(path, TASKS["answering"], seed=0)
    np.testing.assert_allclose(again.bert(**inputs).sequence_output, model.bert(**inputs).sequence_output, atol=1e-6)


def test_a_folder_without_pooler_gets_a_new_one_where_the_head_stands_on_it(saved):
    _, path = saved("tagging")
    with pytest.warns(UserWarning, match="has no pooler"):
        new_task_model(path, TASKS["regression"], seed=0)
    new_task_model(path, TASKS["answering"], seed=0)  # warnings are errors


def test_more_tokens_than_positions(encoder):
    with pytest.raises(ConfigError, match="max_length = 100 is more than the model's 48 positions"):
        new_task_model(encoder, TaskConfig("embedding", max_length=100), seed=0)


def test_saving_replaces_and_gives_equal_bytes(saved, tmp_path):
    model, path = saved("answering")
    _, tokenizer = load_task_model(path)
    save_task_model(saved("tagging")[0], tmp_path / "model", tokenizer)
    save_task_model(model, tmp_path / "model", tokenizer)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (path / name).read_bytes()
    (tmp_path / "model/thesis.txt").write_text("years of work")
    with pytest.raises(ModelFileError, match=r"holds thesis\.txt"):
        save_task_model(model, tmp_path / "model", tokenizer)


def without(*names):
    return lambda tensors: {name: value for name, value in tensors.items() if name not in names}


def with_labels(count):
    return {"id2label": {str(number): f"L{number}" for number in range(count)}}


@pytest.mark.parametrize(
    ("kind", "tensors", "values", "words"),
    [
        ("classification", without("classifier.weight"), {}, "has no classifier.weight"),
        ("tagging", without("classifier.bias"), {}, "has no classifier.bias"),
        ("answering", without("qa_outputs.weight", "qa_outputs.bias"), {}, "has no qa_outputs.weight"),
        ("classification", without("bert.pooler.dense.weight", "bert.pooler.dense.bias"), {}, "no weights of a pooler"),
        ("classification", None, with_labels(2), "id2label has 2 labels, the classifier 3 outputs"),
        ("tagging", None, with_labels(9), "id2label has 9 labels, the classifier 4 outputs"),
        ("classification", None, {"id2label": {"0": "a", "1": "b", "3": "c"}}, "no label for output 2"),
        ("classification", None, {"id2label": {"0": "a", "1": "b", "2": "a"}}, "label 'a' twice"),
        ("classification", None, {"id2label": ["a", "b", "c"]}, "id2label must be"),
        ("classification", None, {"id2label": {"0": 1, "1": 2, "2": 3}}, "id2label must be"),
        ("classification", None, {"problem_type": "ranking"}, "problem_type = 'ranking'; there are"),
        ("classification", None, {"problem_type": "regression"}, "a regression has one output, this one has 3"),
        ("classification", None, {"architectures": ["BertForMultipleChoice"]}, "unexpected tensors 'classifier.bias'"),
        ("embedding", None, {"architectures": ["BertForMaskedLM"]}, "is of a 'BertForMaskedLM'"),
        ("embedding", None, {"architectures": []}, "names no architecture"),
        ("answering", None, {"architectures": ["BertForTokenClassification"]}, "unexpected tensors 'qa_outputs.bias'"),
        ("answering", None, {"bertjax": {"max_length": 49}}, "max_length = 49, but the model has 48 positions"),
        ("answering", None, {"bertjax": {"stride": -1}}, "bertjax.stride = -1"),
        ("answering", None, {"bertjax": {"null_threshold": float("nan")}}, "bertjax.null_threshold = nan"),
        ("answering", None, {"bertjax": {"colour": 1}}, "unknown setting 'colour'"),
        ("answering", None, {"bertjax": 3}, "bertjax must be an object"),
        ("embedding", None, {"bertjax": {"pooling": "max"}}, "bertjax.pooling = 'max'"),
        ("tagging", None, {"classifier_dropout": 1.5}, "classifier_dropout = 1.5"),
        (
            "answering",
            lambda found: found | {"qa_outputs.weight": np.zeros((2, 23), "f")},
            {},
            "qa_outputs.weight has shape [2, 23], not [2, 24]",
        ),
        (
            "classification",
            lambda found: found | {"classifier.weight": np.zeros((3, 24), "i4")},
            {},
            "tensor classifier.weight holds integers",
        ),
        (
            "classification",
            lambda found: found | {"classifier.weight": np.full((3, 24), np.inf, "f")},
            {},
            "not finite",
        ),
    ],
)
def test_what_is_wrong_is_one_line(kind, tensors, values, words, folder, assert_one_line):
    path = folder(kind, tensors or (lambda found: found), **values)
    with pytest.raises(ModelFileError) as error:
        load_task_model(path)
    assert_one_line(error.value)
    assert words in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
    ],
)
def test_what_sentence_transformers_keeps_beside_a_model(modes, pooling, folder):
    path = folder("embedding", bertjax="none")
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling/config.json").write_text(json.dumps(modes))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    if pooling is None:
        with pytest.raises(ModelFileError, match="pooled otherwise than by mean or cls"):
            load_task_model(path)
    else:
        task = load_task_model(path)[0].task
        assert (task.pooling, task.max_length) == (pooling, 20)


def test_a_tokenizer_is_needed(saved, tmp_path):
    shutil.copytree(saved("tagging")[1], tmp_path / "bare")
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).unlink()
    with pytest.raises(ModelFileError, match="holds no tokenizer"):
        load_task_model(tmp_path / "bare")


def test_every_setting_of_a_task_is_written_and_read():
    for task in TASKS.values():
        values = json.loads(json.dumps(to_task_values(task)))
        assert from_task_values(values, len(task.labels), 48, "here") == task
    assert {kind for kinds in ARCHITECTURES.values() for kind in kinds} == set(TASKS)
    assert all(
        any(getattr(task, field.name) != field.default for task in TASKS.values())
        for field in dataclasses.fields(TaskConfig)
    )
