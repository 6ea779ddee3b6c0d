import dataclasses

import jax
import numpy as np
import pytest

from bertjax.attention_kernels import KERNELS
from bertjax.benchmarking import attention_cases, attention_speed
from bertjax.benchmarking.attention_cases import Case, differences, forward_and_backward, random_arrays
from bertjax.model.precision import FLOAT32, precision_named

CASE = Case(rows=2, length=32, heads=2, head_size=16, examples=3, rate=0.1, window=None)


def test_its_figures(figures):
    answer = figures("attention", "--seconds=0.01", "--rows=2", "--window=8")
    assert [phase["phase"] for phase in answer["phases"]] == ["phase1", "phase2"]
    for phase, length in zip(answer["phases"], (32, 64), strict=True):
        assert (phase["rows"], phase["sequence_length"], phase["heads"], phase["head_size"]) == (2, length, 2, 16)
        cases = {(case["dropout"], case["window"]): case for case in phase["cases"]}
        assert set(cases) == {(0.1, None), (0.1, 8), (0.0, None), (0.0, 8)}
        for (rate, window), case in cases.items():
            kernels = {row["kernel"]: row for row in case["kernels"]}
            assert set(kernels) == set(KERNELS) and case["auto"] == "explicit"
            ran = {name for name, row in kernels.items() if row["cannot"] is None}
            assert ran == ({"explicit"} if rate or window else {"explicit", "dot_product"})
            for name in ran:
                row = kernels[name]
                assert row["forward_seconds"] > 0 and row["forward_backward_seconds"] > 0
                assert row["output_difference"] < 2e-6 and row["gradient_difference"] < 1e-5
            assert kernels["explicit"]["speedup"] == 1 and kernels["explicit"]["output_difference"] == 0
            assert "no version for a cpu" in kernels["fused"]["cannot"]


def test_a_kernel_for_other_devices_is_compared_in_the_interpreter(measured):
    code, out, err = measured("attention", "--seconds=0.01", "--rows=1", "--kernels=fused")
    assert code == 0, err
    fused = [line for line in out.splitlines() if line.startswith("    fused ")]
    assert len(fused) == 4 and all("in Pallas's interpreter, not timed; float32 differs by" in line for line in fused)
    assert not [line for line in out.splitlines() if line.startswith("    dot_product ")]


def test_a_wrong_kernel_is_told_by_its_difference(monkeypatch):
    """One that lets examples see each other."""
    right = attention_cases.kernel

    def leaky(name, precision, backend):
        attend = right("explicit", precision, backend)
        if name == "explicit":
            return attend
        return lambda query, key, value, segments, window, dropout: attend(query, key, value, None, window, dropout)

    monkeypatch.setattr(attention_cases, "kernel", leaky)
    case = dataclasses.replace(CASE, rate=0.0)
    rows = attention_speed.compare(case, (), FLOAT32, "cpu", 0.001)["kernels"]
    wrong = next(row for row in rows if row["kernel"] == "dot_product")
    assert wrong["float32"]["output_difference"] > 0.1 and wrong["float32"]["gradient_difference"] > 0.1


def test_a_kernel_that_fails_is_reported_and_the_others_go_on(monkeypatch):
    right = attention_cases.kernel

    def failing(name, *rest):
        if name == "dot_product":
            raise RuntimeError("no such\ninstruction")
        return right(name, *rest)

    monkeypatch.setattr(attention_cases, "kernel", failing)
    case = dataclasses.replace(CASE, rate=0.0)
    found = {row["kernel"]: row for row in attention_speed.compare(case, (), FLOAT32, "cpu", 0.001)["kernels"]}
    assert found["dot_product"]["cannot"] == "it fails: RuntimeError: no such instruction"
    assert found["explicit"]["cannot"] is None


def test_lower_precisions_say_what_rounding_costs_and_what_float32_differs_by():
    case = dataclasses.replace(CASE, rate=0.0)
    rows = attention_speed.compare(case, (), precision_named("bfloat16", "cpu"), "cpu", 0.001)["kernels"]
    explicit = next(row for row in rows if row["kernel"] == "explicit")
    assert 1e-4 < explicit["output_difference"] < 0.05
    assert explicit["float32"]["output_difference"] < 2e-6


def test_rows_are_packed_and_padded():
    ids = np.asarray(random_arrays(dataclasses.replace(CASE, rows=50, length=128)).ids)
    assert set(np.unique(ids)) == {0, 1, 2, 3}
    assert all((row[1:] >= row[:-1])[: np.count_nonzero(row) - 1].all() and row[-1] == 0 for row in ids)


def test_the_reference_is_a_softmax_over_the_example_alone():
    """Against numpy, without dropout."""
    case = dataclasses.replace(CASE, rate=0.0, window=8)
    arrays = random_arrays(case)
    q, k, v, ids = (np.asarray(x, np.float64) for x in (*arrays[:3], arrays.ids))
    scores = np.einsum("bqnd,bknd->bnqk", q, k) / 4.0
    places = np.arange(case.length)
    near = np.abs(places[:, None] - places[None]) <= 4
    scores = np.where((ids[:, None, :, None] == ids[:, None, None]) & near, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    wanted = np.einsum("bnqk,bknd->bqnd", weights / weights.sum(-1, keepdims=True), v)
    found = forward_and_backward("explicit", case, FLOAT32)(arrays)
    np.testing.assert_allclose(np.asarray(found.output), wanted, atol=2e-6)
    assert differences(found, jax.tree.map(lambda x: x + 1, found)) == pytest.approx(
        {"output_difference": 1, "gradient_difference": 1}, abs=1e-5
    )
