"""report.html as its readers get it: whole, without network, whatever the workdir holds."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest

from bertjax.cli.progress import describe
from bertjax.reporting import refresh_report, write_report

VOID = {"meta", "link"}
LARGEST_PAGE = 2 << 20  # bytes


class Page(HTMLParser):
    """Elements as (tag, attributes), text by what it stands in, and headings."""

    def __init__(self, path):
        super().__init__()
        self.source, self.elements, self.text, self.open = path.read_text("utf-8"), [], "", []
        self.scripts, self.headings = [], []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        match self.open[-1] if self.open else "":
            case "script":
                self.scripts[-1] += data
            case "h2":
                self.headings.append(data)
            case "style":
                pass
            case _:
                self.text += data

    def of_class(self, name):
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]

    def charts(self):
        return [attrs["aria-label"].split(".")[0] for attrs in self.of_class("plot")]

    def drawn(self, name):
        """The path of each element of the charts that is drawn in a group of this class, numbers rounded."""
        found, inside = [], False
        for tag, attrs in self.elements:
            if tag == "g":
                inside = name in (attrs.get("class") or "").split()
            elif tag == "path" and inside:
                found.append(re.sub(r"[\d.]+", lambda number: f"{float(number[0]):.1f}", attrs["d"]).strip())
                inside = False
        return found


def place(step, value=None, last=1000, ends=(0, 1)):
    """Where a step and a value lie in a chart's drawing."""
    x = f"{36 + 336 * step / last:.1f}"
    return x if value is None else f"{x} {18 + 166 * (1 - (value - ends[0]) / (ends[1] - ends[0])):.1f}"


def report(workdir, ended=None):
    return Page(write_report(workdir, ended))


def test_a_finished_pretraining_run(pretraining):
    page = report(pretraining())
    assert ("html", {"lang": "en"}) in page.elements
    assert page.headings == ["Learning", "Training", "Events", "Config", "Environment"]
    assert page.charts() == [
        "Masked-LM loss",
        "Masked-LM accuracy",
        "Next-sentence loss",
        "Next-sentence accuracy",
        "Learning rate",
        "Gradient norm",
        "Throughput, tokens a second",
        "Padding",
    ]
    assert "finished" in page.text and "small-run" in page.text
    for figure in ("5.200", "unigram 6.400", "80.0%", "chance 51.0%", "4.47M", "5 min 43 s", "0.70%", "1.17 GB"):
        assert figure in page.text
    assert "beta2" in page.text and "0.98" in page.text and "4364a9" in page.text


def test_phases_are_bands_and_events_are_marks_in_every_chart(pretraining):
    page = report(pretraining())
    charts = len(page.charts())
    left, right = place(900), place(1000)
    assert page.drawn("band") == [f"M {left} 184.0L {right} 184.0L {right} 18.0L {left} 18.0z"] * charts
    for kind, step in (("resumed", 280), ("skipped", 466), ("rollback", 550)):
        assert page.drawn(kind) == [f"M {place(step)} 184.0L {place(step)} 18.0"] * charts
    for text in (">phase1<", ">R<", ">S<", ">B<"):
        assert page.source.count(text) >= charts
    assert "8 steps in a row were bad" in page.text and "bad_batches/step-466.npz" in page.text


def test_the_held_out_line_has_a_dot_for_each_evaluation_at_its_place(pretraining):
    page = report(pretraining())
    losses = {200: 6.0, 400: 5.5, 600: 5 + 1 / 3, 800: 5.25, 1000: 5.2}
    places = [place(step, loss, ends=(4, 9)) for step, loss in losses.items()]
    assert page.drawn("held-out")[0] == "M " + "L ".join(places)
    dots = [f"{float(attrs['x']):.1f} {float(attrs['y']):.1f}" for tag, attrs in page.elements if tag == "use"]
    assert dots[:5] == places
    loss = page.of_class("plot")[0]
    assert loss["data-range"] == "4.0 9.0" and loss["data-last"] == "1000" and loss["data-box"] == "36 18 336 166"
    assert json.loads(loss["data-names"]) == ["training", "held out", "unigram"]
    assert loss["role"] == "img" and "held out: 6.000 at step 200, 5.200 at step 1,000." in loss["aria-label"]


def test_a_run_that_goes_on_and_one_that_was_stopped(pretraining):
    workdir = pretraining(finished=False, steps=640)
    page = report(workdir)
    assert "at step 640 of 1,000" in page.text and ("progress", {"value": "640", "max": "1000"}) in page.elements
    assert "phase2" not in page.text[: page.text.index("All keys")]
    (workdir / "checkpoints" / "643").mkdir(parents=True)  # not every step has a row
    page = report(workdir, ended="stopped at step 643; <all> is saved")
    assert "ended at step 643 of 1,000" in page.text and "stopped at step 643; <all> is saved" in page.text


def test_a_finished_fine_tuning_run(fine_tuning):
    page = report(fine_tuning(3))
    assert page.headings == [
        "Learning",
        "Scores",
        "Confusion matrix",
        "Classes",
        "Errors",
        "Training",
        "Config",
        "Environment",
    ]
    assert page.charts()[:4] == ["Loss", "accuracy", "f1 macro", "mcc"]
    assert "± 0.0100" in page.text and "0.8947" in page.text and "93.0%" in page.text
    # The main score first; a row for each run, one for their mean, one for their spread.
    words = " ".join(page.text.split())
    assert re.search("learning rateepochsseed ?accuracymcc", words)
    assert words.count("5e-53") == 3 and re.search("mean ?0.9100 ?0.8000", words) and re.search("spread ?0.0100", words)
    assert "epoch 1 to step 200" in page.text and "epoch 3 to step 600" in page.text


def test_the_loss_of_numbers_is_not_in_nats(fine_tuning):
    workdir = fine_tuning(2)
    assert report(workdir).charts()[0] == "Loss"
    recorded = json.loads((workdir / "config.json").read_text())
    recorded["config"]["task"] = "regression"
    (workdir / "config.json").write_text(json.dumps(recorded))
    page = report(workdir)
    assert page.charts()[0] == "Loss, squared error" and "nats" not in page.text


def test_a_search_shows_the_best_run_among_the_others(fine_tuning):
    workdir = fine_tuning(3)
    summary = json.loads((workdir / "summary.json").read_text()) | {
        "learning_rate": 5e-5,
        "epochs": 3,
        "best_step": 400,
    }
    for seed in (0, 1, 2):
        own = workdir / "runs" / f"seed-{seed}"
        own.mkdir(parents=True)
        (own / "summary.json").write_text(json.dumps(summary | {"seed": seed}))
        rows = (workdir / "metrics.jsonl").read_text().replace('"accuracy": 0.9', f'"accuracy": 0.{90 + seed}')
        (own / "metrics.jsonl").write_text(rows)
        (own / "config.json").write_text(json.dumps({"config": {"name": "search", "seed-key": seed}}))
    (workdir / "metrics.jsonl").unlink()
    (workdir / "config.json").unlink()
    (workdir / "summary.json").write_text(json.dumps(summary | {"seed": 1}))
    page = report(workdir)
    assert "3 runs; curves and config are those of runs/seed-1" in page.text and "seed-key1" in page.text
    accuracy = page.charts().index("accuracy")
    assert accuracy == 1 and len(page.drawn("other-line")) == 2 * 4
    best = place(400, last=600)
    assert page.drawn("best") == [f"M {best} 184.0L {best} 18.0"] * len(page.charts())


def test_a_search_of_many_runs_shows_the_best_wherever_it_is(fine_tuning):
    workdir = fine_tuning(3)
    rows = (workdir / "metrics.jsonl").read_text()
    summary = {"learning_rate": 5e-5, "epochs": 3, "seed": 69}
    for seed in range(70):
        own = workdir / "runs" / f"seed-{seed}"
        own.mkdir(parents=True)
        (own / "summary.json").write_text(json.dumps(summary | {"seed": seed}))
        (own / "metrics.jsonl").write_text(rows)
    (workdir / "metrics.jsonl").unlink()
    (workdir / "summary.json").write_text(json.dumps(summary))
    page = report(workdir)
    assert "70 runs; curves and config are those of runs/seed-69" in page.text
    assert len(page.drawn("other-line")) == 60 * 4


def test_the_best_evaluation_is_marked_before_a_later_event(pretraining):
    workdir = pretraining()
    summary = json.loads((workdir / "summary.json").read_text())
    for best, stars in ((400, 1), (1001, 0)):
        (workdir / "summary.json").write_text(json.dumps(summary | {"best_step": best}))
        page = report(workdir)
        assert len(page.drawn("best")) == stars * len(page.charts()) and page.text.count("best evaluation") == stars


@pytest.mark.parametrize("classes", [2, 3, 30])
def test_the_confusion_matrix_has_a_cell_for_each_pair_of_classes(fine_tuning, classes):
    workdir = fine_tuning(classes)
    counts = json.loads((workdir / "summary.json").read_text())["confusion"]
    cells = [attrs for attrs in report(workdir).elements if attrs[0] == "td" and "--v" in attrs[1].get("style", "")]
    cells = [attrs for _, attrs in cells if "of the row" in attrs.get("title", "")]
    assert len(cells) == classes**2
    assert [cell["title"] for cell in cells[:2]] == [
        f"{count / sum(counts[0]):.1%} of the row" for count in counts[0][:2]
    ]
    diagonal = [cell for cell in cells if "right" in (cell.get("class") or "").split()]
    assert len(diagonal) == classes


def test_many_classes_get_their_commonest_confusions_instead(fine_tuning):
    page = report(fine_tuning(31))
    assert "31 classes: too many for a matrix" in page.text and not page.of_class("heat")
    assert "class-2 taken for class-0: 40 (" in page.text


def test_nothing_is_loaded_and_no_script_but_its_own_may_run(fine_tuning, pretraining):
    for workdir in (fine_tuning(3), pretraining()):
        page = report(workdir)
        for tag, attrs in page.elements:
            assert not {"src", "srcset", "data", "action", "onerror", "onload", "onclick"} & set(attrs)
            assert attrs.get("href") in (None, "data:,") and attrs.get("xlink:href", "#").startswith("#")
            assert tag not in ("img", "iframe", "object", "base", "form")
        assert "url(" not in page.source and "@import" not in page.source
        policy = next(attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs)
        assert len(page.scripts) == 1
        digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
        assert policy.startswith("default-src 'none'") and policy.endswith(f"script-src 'sha256-{digest}'")
        assert not re.search(r"fetch|XMLHttp|import|innerHTML|eval", page.scripts[0])


def test_texts_of_any_kind_are_text(fine_tuning):
    page = report(fine_tuning(3))
    assert '<script>alert("x")</script><img src=https://example.org/a.png onerror=alert(1)>' in page.text
    assert "هذا فيلم رائع (جدا) 2026" in page.text and "这部电影很精彩" in page.text
    assert "two\nlines \ufffd and a zero byte \ufffd" in page.text and "1,800 more characters" in page.text
    isolated = [attrs for tag, attrs in page.elements if tag == "bdi" and attrs.get("dir") == "auto"]
    assert len(isolated) == 15  # three of each example


def test_equal_files_give_equal_bytes(pretraining):
    workdir = pretraining()
    first = write_report(workdir).read_bytes()
    assert write_report(workdir).read_bytes() == first
    assert not list(workdir.glob("*.tmp"))


def test_torn_and_damaged_lines_are_passed_over_and_counted(pretraining):
    workdir = pretraining(finished=False)
    lines = (workdir / "metrics.jsonl").read_bytes().split(b"\n")
    lines[5], lines[7], lines[9] = b'{"kind": "train", "st', b"\xff\xfe\x00 no text", b'[{"step": 1}]'
    lines[11], lines[13] = b'{"kind": "train", "step": -3}', b"[" * 100_000
    (workdir / "metrics.jsonl").write_bytes(b"\n".join(lines)[:-9])  # the last one is being written
    page = report(workdir)
    assert "skipped 5 damaged lines of metrics.jsonl" in page.text
    assert "at step 1,000 of 1,000" in page.text
    assert len(page.charts()) == 8


def test_nulls_break_the_line_and_never_reach_the_page(pretraining):
    workdir = pretraining(finished=False)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().split("\n") if line]
    for row in rows:
        if row["kind"] == "train" and 300 <= row["step"] <= 400:
            row |= {"mlm_loss": None, "grad_norm": float("nan"), "learning_rate": 10**400, "padding_fraction": "?"}
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(workdir)
    lines = page.drawn("line")
    assert lines[0].count("M") == 2 and f"M {place(410)} " in lines[0] and f"L {place(290)} " in lines[0]
    assert not any(word in line for line in lines for word in ("nan", "inf"))
    assert "nan" not in page.text.lower()


@pytest.mark.parametrize("values", [(1e29, -1e29), (5e-324, 1e29), (-7.5,), (0, -0.0), (3, 3 + 1e-6), (1e-300, None)])
def test_numbers_of_any_size_are_drawn(tmp_path, values):
    steps = [0, 1, 1, 1 << 52]
    rows = [{"kind": "train", "step": step, "grad_norm": value} for value in values for step in steps]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(tmp_path)
    low, high = map(float, page.of_class("plot")[0]["data-range"].split())
    known = [value for value in values if value is not None]
    assert -1e30 < low <= min(known) and max(known) <= high < 1e31
    assert page.charts() == ["Gradient norm"] and not re.search("nan|inf", " ".join(page.drawn("line")))


def test_a_score_that_only_some_evaluations_have_is_one_line(pretraining):
    workdir = pretraining()
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().split("\n") if line]
    for row in rows:
        if row["kind"] == "eval" and row["step"] % 400:
            row["blimp_accuracy"] = 0.5 + row["step"] / 10_000
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(workdir)
    assert "blimp accuracy" in page.charts()
    line = "M 103.2 [\\d.]+L 237.6 [\\d.]+L 372.0 [\\d.]+"  # steps 200, 600 and 1000
    assert len([drawn for drawn in page.drawn("held-out") if re.fullmatch(line, drawn)]) == 1


def test_a_single_row_is_a_dot(pretraining):
    workdir = pretraining(finished=False)
    first = (workdir / "metrics.jsonl").read_text().split("\n")[0]
    (workdir / "metrics.jsonl").write_text(first + "\n")
    page = report(workdir)
    assert any(tag == "use" for tag, _ in page.elements) and "at step 1 of 1,000" in page.text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"config": 3}', '{"config": {"phases": {"a": 1}}}', "\xff", "[" * 9000]
)
def test_configs_and_summaries_of_any_shape(tmp_path, text):
    for name in ("config.json", "summary.json"):
        (tmp_path / name).write_text(text, encoding="latin-1")
    page = report(tmp_path)
    assert tmp_path.name in page.text and "no metrics.jsonl" in page.text


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [[1, 2], [3]], [None], [{"label": None}], {"a": {"b": []}}])
def test_parts_of_a_summary_of_any_shape(fine_tuning, value):
    workdir = fine_tuning(2)
    (workdir / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 2.5}')  # a page with one chart
    summary = json.loads((workdir / "summary.json").read_text())
    for name in summary:
        (workdir / "summary.json").write_text(json.dumps(summary | {name: value}))
        assert "Learning" in report(workdir).headings


def test_a_summary_of_an_earlier_run_in_the_folder_is_not_shown(pretraining):
    workdir = pretraining(steps=500)
    page = report(workdir)
    assert "at step 500 of 1,000" in page.text and "an earlier run in this folder" in page.text


def test_a_long_run_is_thinned_but_keeps_its_extremes(pretraining):
    rows = 200_000
    workdir = pretraining(finished=False)
    row = json.loads((workdir / "metrics.jsonl").read_text().split("\n")[0])
    rest = json.dumps({name: row[name] for name in row if name not in ("step", "mlm_loss", "grad_norm")})[1:]
    with (workdir / "metrics.jsonl").open("w") as file:
        for step in range(1, rows + 1):
            loss = 9.0 if step == 123_457 else 5 + step % 97 / 97
            file.write(f'{{"step": {step}, "mlm_loss": {loss}, "grad_norm": {1.5 + step % 89 / 89}, {rest}\n')
    began = time.process_time()
    path = write_report(workdir)
    assert time.process_time() - began < 15  # some 3 s alone on a core
    assert path.stat().st_size < LARGEST_PAGE / 4
    line = Page(path).drawn("line")[0]
    assert f"{place(123_457, last=rows)} 18.0L" in line  # the one high value, at the top of the axis
    assert 1000 < line.count("L") < 2000


def test_an_ordinary_run_takes_no_time(pretraining):
    workdir = pretraining()
    write_report(workdir)
    began = time.process_time()
    write_report(workdir)
    assert time.process_time() - began < 1  # some 0.15 s


def test_a_report_that_cannot_be_written_is_one_line_and_no_error(pretraining):
    workdir, said = pretraining(), []
    (workdir / "report.html").mkdir()
    refresh_report(workdir, said.append)
    assert len(said) == 1 and said[0].startswith("warning: ") and "report.html" in said[0] and "\n" not in said[0]
    refresh_report(workdir / "nowhere", said.append)  # a workdir that is gone ends the run, which says so itself
    assert len(said) == 1 and not (workdir / "nowhere").exists()


def test_overrides_of_the_direction_are_spelled_out():
    from bertjax.reporting.wording import printable

    assert printable("safe\u202eexe.\u2066 \u202d") == "safe\\u202eexe.\\u2066 \\u202d"


def test_names_of_runs_phases_and_metrics_are_text_wherever_they_stand(pretraining):
    """Also in the drawings, which matplotlib writes, and in attributes."""
    workdir = pretraining(finished=False)
    name = '$x^2$ <b>"\u202e\0\ud800& \u4e2d</b>'
    shown = '$x^2$ <b>"\\u202e\ufffd\ufffd& \u4e2d</b>'
    (workdir / "config.json").write_text(
        json.dumps({"config": {"name": name, name: name, "phases": {name: {"steps": 1000}}}})
    )
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().split("\n") if line]
    rows += [{"kind": "eval", "step": step, name: step / 7} for step in (3, 900)]
    rows.append({"kind": "event", "step": 20, "event": name, name: name})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(workdir)
    assert page.source.count("</b>") == page.source.count("<b>") and "<b>&quot;" not in page.source
    words = page.text.replace("_", " ")
    # The heading, the title, the legend, a band's name in each chart, a chart's title, the config, and the event.
    assert words.count(shown) >= 5 + len(page.charts())
    assert any(attrs["aria-label"].startswith(shown) for attrs in page.of_class("plot"))
    assert not set(page.source) & set("\0\u202e")


def test_thousands_of_classes(tmp_path):
    """The most frequent confusions replace the matrix; odd entries are left out."""
    confused = {"label": "a<b", "predicted": "c", "count": 5, "share": 0.25}
    summary = {"labels": [str(n) for n in range(4000)], "confusion": [], "confusions": [confused, None, {"count": "x"}]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = report(tmp_path)
    assert "4,000 classes: too many for a matrix." in page.text
    assert "<bdi>a&lt;b</bdi> taken for <bdi>c</bdi>: 5 (25" in page.source and page.source.count("<li>") == 1
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"confusions": "x"}))
    assert "Confusion matrix" not in report(tmp_path).headings


def test_no_home_no_display_no_word_on_stderr(pretraining, tmp_path):
    """Of a process that has never drawn: matplotlib has no place for its cache, and settings of the user's own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "matplotlibrc").write_text("text.usetex: True\nsvg.fonttype: path\nfont.family: no-such-font\n")
    workdir = pretraining()
    expected = write_report(workdir).read_bytes()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG", "DISPLAY"))}
    environment |= {"HOME": "/proc/no-home", "MATPLOTLIBRC": str(home / "matplotlibrc"), "MPLBACKEND": "tkagg"}
    code = "import sys; from bertjax.reporting import write_report; write_report(sys.argv[1]); "
    code += "print(*[name for name in sys.modules if name.startswith(('matplotlib.pyplot', 'jax', 'torch'))])"
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code, workdir], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "")
    assert (workdir / "report.html").read_bytes() == expected


def test_what_was_said_before_the_first_step_is_in_the_table_and_not_in_the_curves(pretraining):
    workdir = pretraining()
    before = len(report(workdir).of_class("other"))
    log = workdir / "metrics.jsonl"
    said = {"kind": "event", "event": "data", "step": 0, "reason": "2 labels: neg 74 + 30, pos 76 + 30"}
    log.write_text(json.dumps(said) + "\n" + log.read_text())
    page = report(workdir)
    assert "2 labels: neg 74 + 30, pos 76 + 30" in page.text
    assert len(page.of_class("other")) == before + 1 and "other event" not in page.text


@pytest.mark.parametrize(("part", "words", "share"), [("sop", "Sentence-order", "in_order"), ("own", "Own", "left")])
def test_any_objective_brings_its_charts_and_figures_by_the_names_of_its_fields(tmp_path, part, words, share):
    """``own`` is a part of a loss that no code names."""
    values = {f"{part}_loss": 0.6, f"{part}_accuracy": 0.75, f"{part}_chance": 0.52}
    values |= {f"{part}_pairs": 1234.0, f"{part}_{share}_share": 0.48}
    rows = []
    for step in range(10, 101, 10):
        core = {"step": step, "phase": "phase1", "loss": 5.0 - step / 100, "mlm_loss": 4.0, "mlm_accuracy": 0.2}
        rows.append({"kind": "train", **core, f"{part}_loss": 0.7 - step / 1000, f"{part}_accuracy": 0.6 + step / 1000})
        rows.append({"kind": "eval", **core, "unigram_loss": 6.4, "blimp_score": 0.5 + step / 1000, **values})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.json").write_text(json.dumps({"config": {"name": "x"}}))
    page = report(tmp_path)
    learning = ["Masked-LM loss", "Masked-LM accuracy", f"{words} loss", f"{words} accuracy", "blimp score"]
    assert page.charts()[: len(learning)] == learning
    assert not any("pairs" in chart or "share" in chart or "chance" in chart for chart in page.charts())
    assert f"{words.lower()} accuracy" in page.text and "75.0%" in page.text
    assert f"chance 52.0% of 1,234 pairs, 48.0% {share.replace('_', ' ')}" in page.text
    described = describe(rows[0] | {"learning_rate": 1e-4})
    assert f"mlm 4.000  {part} 0.690" in described and "accuracy" not in described
