import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bertjax

CONTEXT = "The cat sat on the mat,\tand the  dog sat on the log. Paris is famous: naïve cafe\u0301s."
QUESTIONS = ["Who sat on the mat?", "What is famous?"]
ODD = list("a the cat İé日本🙂👩‍👧\u0301\u200b\u200d\ufeff\ufe0f½ﬁ\u00a0\t\n`'\"-.,")


@pytest.fixture(scope="module")
def reader(new_task_model):
    return new_task_model("answering", max_length=40, stride=8, max_question=12, max_answer=6)


def test_the_best_span_of_a_short_context(reader, tokenizer):
    """All spans by hand, of a context that fits in one row."""
    context = "the cat sat on the mat"
    found = bertjax.answer(reader, tokenizer, "who sat", context, n_best=4)
    question, ids = tokenizer.encode("who sat"), tokenizer.encode(context)
    row = bertjax.encode(tokenizer, ("who sat", context))
    logits = np.asarray(reader(**row).logits)[0]
    first = len(question) + 2
    scores = {
        (begin, end): logits[first + begin, 0] + logits[first + end, 1]
        for begin in range(len(ids))
        for end in range(begin, min(begin + 6, len(ids)))
    }
    begin, end = max(scores, key=lambda span: scores[span])
    spans = tokenizer.encode_with_offsets([context])[0].offsets
    assert (found.start, found.end) == (spans[begin][0], spans[end][1])
    assert found.text == context[found.start : found.end]
    assert found.score == pytest.approx(scores[begin, end], abs=1e-4)
    assert len(found.n_best) == 4 and found.n_best[0].text == found.text
    assert [c.score for c in found.n_best] == sorted((c.score for c in found.n_best), reverse=True)
    assert all(c.start is not None for c in found.n_best)


def test_long_contexts_and_several_questions(reader, tokenizer):
    long = CONTEXT * 5
    together = bertjax.answer(reader, tokenizer, QUESTIONS * 2, [CONTEXT, CONTEXT, long, long], batch_size=3)
    for question, context, found in zip(QUESTIONS * 2, [CONTEXT, CONTEXT, long, long], together, strict=True):
        assert context[found.start : found.end] == found.text != ""
        alone = bertjax.answer(reader, tokenizer, question, context)
        assert (alone.start, alone.end) == (found.start, found.end)
        assert alone.probability == pytest.approx(found.probability, rel=1e-3)
    assert [f.start for f in bertjax.answer(reader, tokenizer, QUESTIONS, CONTEXT)] == [f.start for f in together[:2]]


@settings(max_examples=40, deadline=None)
@given(context=st.text(st.sampled_from(ODD), max_size=60))
def test_offsets_are_into_the_callers_context(reader, tokenizer, context):
    found = bertjax.answer(reader, tokenizer, "who sat", context, batch_size=1)
    if found.start is None:
        assert found.text == "" and not tokenizer.encode(context)
    for candidate in found.n_best:
        if candidate.start is not None:
            assert context[candidate.start : candidate.end] == candidate.text == candidate.text.strip()


def test_no_answer(reader, tokenizer):
    ask = lambda threshold: bertjax.answer(
        _with(reader, null_threshold=threshold), tokenizer, "who sat", "the cat sat", n_best=30
    )
    surely, never = ask(-1e9), ask(1e9)
    assert (surely.text, surely.start, surely.end) == ("", None, None)
    assert never.start is not None
    for found in (surely, never):
        assert sum(candidate.start is None for candidate in found.n_best) == 1
        assert sum(candidate.probability for candidate in found.n_best) == pytest.approx(1, abs=1e-6)
    assert surely.n_best[0].start is None


def _with(model, **settings):
    from bertjax.model.bert import merge_params, split_params

    changed = merge_params(*split_params(model))
    changed.task = dataclasses.replace(model.task, **settings)
    return changed


def test_mistakes_are_named(reader, new_task_model, tokenizer):
    with pytest.raises(ValueError, match="context must be a string if question is one"):
        bertjax.answer(reader, tokenizer, "q", ["c"])
    with pytest.raises(ValueError, match="question has 2 texts, context 1"):
        bertjax.answer(reader, tokenizer, ["q", "r"], ["c"])
    with pytest.raises(ValueError, match=r"context\[1\] must be a string, not int"):
        bertjax.answer(reader, tokenizer, ["q", "r"], ["c", 3])
    with pytest.raises(ValueError, match=r"question\[0\] holds half a surrogate pair"):
        bertjax.answer(reader, tokenizer, "\ud800", "c")
    with pytest.raises(ValueError, match="n_best = 0"):
        bertjax.answer(reader, tokenizer, "q", "c", n_best=0)
    with pytest.raises(ValueError, match="model is for embedding, not answering; use embed or similarity"):
        bertjax.answer(new_task_model("embedding", max_length=40), tokenizer, "q", "c")


def test_transformers_gives_the_same(reader, tokenizer, tmp_path):
    """Its pipeline, where the context fits in a row; it looks at whole words alone."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    bertjax.save_task_model(reader, tmp_path / "model", tokenizer)
    peer = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model").eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    context = "The cat sat, and cafe\u0301 Paris."
    encoded = words("Who sat?", context, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    inside = [side == 1 for side in encoded.sequence_ids(0)]
    with torch.no_grad():
        out = peer(**encoded)
    start, end = (np.where(inside, logits[0].numpy(), -np.inf) for logits in (out.start_logits, out.end_logits))
    scores = np.tril(np.triu(start[:, None] + end[None, :]), 5) + np.where(
        np.tril(np.triu(np.ones((len(start),) * 2)), 5) > 0, 0, -np.inf
    )
    first, last = np.unravel_index(np.nanargmax(scores), scores.shape)
    assert encoded["token_type_ids"].sum() > 0
    found = bertjax.answer(reader, tokenizer, "Who sat?", context)
    assert found.score == pytest.approx(float(scores[first, last]), abs=1e-4)
    assert found.start <= offsets[first][1] and found.end >= offsets[last][1]
