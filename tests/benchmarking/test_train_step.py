import math


def test_its_figures(figures):
    answer = figures("train", "--seconds=0.1")
    assert (answer["benchmark"], answer["config"]) == ("train", "mini")
    assert [phase["phase"] for phase in answer["phases"]] == ["phase1", "phase2"]
    for phase, places in zip(answer["phases"], (8 * 32, 4 * 64), strict=True):
        tokens = phase["tokens_per_second"] * phase["step_seconds"]
        assert math.isclose(tokens, places * (1 - phase["padding_fraction"]))
        assert phase["mfu"] is None  # of a CPU no peak is known
        assert phase["compile_seconds"] > phase["step_seconds"] > 0
        assert 0 < phase["loss"] < 2 * math.log(500)


def test_its_lines(measured):
    code, out, _ = measured("train", "--seconds=0.1")
    assert code == 0
    assert "\nphase1: 8 rows of 32 tokens\n" in out and "real tokens a second on 2 x cpu" in out
