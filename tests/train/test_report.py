"""The page that a run leaves, also where it is stopped, and where the page cannot be made."""

import pytest

import bertjax.reporting.page
import bertjax.train


def test_a_stopped_run_says_so_and_a_page_that_fails_does_no_harm(config, tmp_path, monkeypatch):
    config.evaluation.every_steps = 2
    workdir, said = tmp_path / "run", []
    with pytest.raises(bertjax.train.Stopped):
        bertjax.train.run(config, workdir, should_stop=lambda step: step == 3, say=lambda line: None)
    page = (workdir / "report.html").read_text()
    assert "ended at step 3 of 10" in page and "all is saved" in page and "unigram" in page

    render = bertjax.reporting.page.render_page

    def broken_at_first(record, ended):
        if not record.summary:
            raise RuntimeError("no page\ntoday")
        return render(record, ended)

    monkeypatch.setattr(bertjax.reporting.page, "render_page", broken_at_first)
    summary = bertjax.train.run(config, workdir, say=said.append)
    assert summary["steps"] == 10
    warnings = [line for line in said if line.startswith("warning: ")]
    assert len(warnings) == 4 and "no page today" in warnings[0]  # after steps 4, 6, 8 and 10
    page = (workdir / "report.html").read_text()
    assert ">finished<" in page and ">R<" in page and page.count('class="band"') > 1
