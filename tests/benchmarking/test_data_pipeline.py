def test_its_figures(figures):
    answer = figures("data", "--seconds=0.01")
    assert (answer["benchmark"], answer["config"]) == ("data", "mini")
    assert [phase["phase"] for phase in answer["phases"]] == ["phase1", "phase2"]
    for phase, length, rows in zip(answer["phases"], (32, 64), (8, 4), strict=True):
        assert (phase["sequence_length"], phase["batch_size"]) == (length, rows)
        places = phase["batches"] * rows * length
        assert phase["real_tokens"] / places + phase["padding_fraction"] == 1
        assert phase["tokens_per_second"] > 0 and 0 < phase["shown_share"] <= 1


def test_its_lines(measured):
    code, out, _ = measured("data", "--seconds=0.01")
    assert code == 0
    assert "\nphase1: rows of 32 tokens, 8 a batch\n" in out and "real tokens a second in one thread" in out
