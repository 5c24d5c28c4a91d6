"""The page: whole, escaped, readable without a network, and quiet in a browser."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from frames import rows_and_curves

import jaxwan.analysis.report.page as paging
from jaxwan.analysis.best import best
from jaxwan.analysis.report.breakdown import FAILURES, failures, numbers, pareto, pareto_points
from jaxwan.analysis.report.matter import decision, gather, verdict
from jaxwan.analysis.report.page import page
from jaxwan.analysis.report.picture import report_picture
from jaxwan.analysis.report.provenance import span, sweep_file
from jaxwan.analysis.report.text import report_text
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.results import Results

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"
ALL = ["decision", "results", "loss", "throughput", "trade", "failures", "sensitivity", "censored",
       "reproduce"]  # fmt: skip
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
MANIFEST = {
    "versions": {"jaxwan": "0.1.0", "jax": "0.10.2"}, "sweep_hash": "abc", "runs": 32,
    "sweep": {"name": "which one", "seeds": [0, 1, 2, 3], "steps": 50, "overrides": {},
              "grid": {"scenario": "simple", "strategy": ["sync", {"kind": "diloco",
                       "local_steps": [10, 25]}], "link": {"bandwidth_bps": [1e6, 1e7]}}},
}  # fmt: skip


def matter_of(frame, curves, question="Which compressor?", **more):
    results = Results(frame, curves, question)
    return gather(frame, curves, results.summary(), question, manifest=MANIFEST, source="results/x",
                  **more)  # fmt: skip


@pytest.fixture(scope="module")
def matter():
    frame, curves = rows_and_curves(seeds=8)
    shares = {"submitted": 100, "accepted": 80, "rejected": 15, "lost": 20, "staleness_max": 7.0}
    return matter_of(frame.assign(**shares, failures_transient=3), curves)


class Reader(HTMLParser):
    """Collect what a page would fetch, its sections, and whether its tags close."""

    void = ("meta", "link", "img", "br", "input", "hr")
    loose = ("p", "li", "td", "th", "tr", "dt", "dd", "tbody", "thead")

    def __init__(self):
        super().__init__()
        self.fetched, self.sections, self.open, self.wrong = [], [], [], []
        self.scripts, self.styles, self.cells = [], "", []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.fetched += [given[name] for name in ("src", "href", "action") if given.get(name)]
        self.styles += given.get("style") or ""
        if tag == "section":
            self.sections.append(given["id"])
        if tag == "script":
            self.scripts.append("")
        if tag == "td":
            self.cells.append("")
        if tag not in self.void + self.loose:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void + self.loose and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.cells and self.open and self.open[-1] != "script":
            self.cells[-1] += data
        if self.open and self.open[-1] == "style":
            self.styles += data
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def test_the_page_has_every_section_and_fetches_nothing(matter):
    found = read(page(matter))
    assert found.sections == ALL
    assert not found.wrong
    assert not found.open
    assert all(each.startswith(("#", "data:")) for each in found.fetched)
    assert not re.search(r"url\(|@import", found.styles)
    assert len(found.scripts) == 3
    figures = json.loads(found.scripts[0])
    assert len(figures) == 9  # 2 losses, throughput, 2 trades, 3 of failures, tornado
    assert "Plotly" in found.scripts[1]


def test_the_policy_forbids_the_network(matter):
    assert "default-src 'none'" in page(matter)
    assert "http" not in paging.POLICY


def test_names_and_questions_cannot_leave_their_place(monkeypatch, tmp_path):
    monkeypatch.setattr(paging, "_plotly", str)
    frame, curves = rows_and_curves(seeds=4, compressors=("none", EVIL))
    odd = matter_of(frame.assign(**{"x.size": frame["compressor"]}), curves, EVIL)
    odd = odd._replace(warnings=(EVIL,), source=EVIL)
    text = page(odd)
    found = read(text)
    assert not found.wrong
    assert len(found.scripts) == 3
    assert EVIL not in text
    assert "<img" not in text
    assert EVIL in json.dumps(json.loads(found.scripts[0]), ensure_ascii=False).replace('\\"', '"')
    assert sweep_file(odd).startswith("# </script>")


def test_figures_are_what_plotly_takes(matter, monkeypatch):
    graph = pytest.importorskip("plotly.graph_objects")
    monkeypatch.setattr(paging, "_plotly", str)
    text = read(page(matter)).scripts[0].replace("THEME_TEXT", "#000")
    for figure in json.loads(text):
        graph.Figure(figure)


def test_a_figure_shows_the_means_of_the_runs(matter):
    from jaxwan.analysis.report.figures import throughput

    for trace in throughput(matter).data:
        mine = matter.frame[matter.frame["_label"] == trace["name"]]
        means = mine.groupby("_place", sort=False)["throughput_ratio"].mean()
        np.testing.assert_allclose(trace["x"], means, rtol=1e-4)


def test_sections_without_data_vanish(monkeypatch):
    monkeypatch.setattr(paging, "_plotly", str)
    frame, curves = rows_and_curves(seeds=4, timing_only=True, challenges=("churn",),
                                    compressors=("none",))  # fmt: skip
    quiet = frame.assign(staleness_max=0.0, rejected=0, lost=0, success=True, failed_criteria="",
                         **{name: 0 for name in frame if name.startswith("failures")})  # fmt: skip
    found = read(page(matter_of(quiet, curves)))
    assert found.sections == ["results", "throughput", "trade", "failures", "censored", "reproduce"]


def test_a_long_axis_is_drawn_as_a_response(monkeypatch):
    monkeypatch.setattr(paging, "_plotly", str)
    parts = []
    for index, bandwidth in enumerate(np.geomspace(1e5, 1e9, 12)):
        frame, _ = rows_and_curves(seeds=2, challenges=("wan_bandwidth",))
        parts.append(frame.assign(**{"link.bandwidth_bps": bandwidth},
                                  config_id=frame["config_id"] + f"-{index}"))  # fmt: skip
    whole = pd.concat(parts, ignore_index=True)
    long = matter_of(whole, rows_and_curves(seeds=1)[1])
    text = page(long)
    found = read(text)
    assert "response" in found.sections
    assert "loss" not in found.sections
    assert "All 24 configurations" in text
    traces = json.loads(found.scripts[0])[0]["data"]
    assert sum("name" in trace for trace in traces) == 2


def test_the_file_of_the_page_is_the_sweep(matter, tmp_path):
    file = tmp_path / "again.toml"
    file.write_text(sweep_file(matter), encoding="utf-8")
    again = Sweep.from_toml(file)
    assert again.question == "Which compressor?"
    assert again.seeds == (0, 1, 2, 3)
    assert again.steps == 50
    assert len(again.expand()) == 6
    assert span([3]) == "3"
    assert span(list(range(9))) == "0 to 8 (9)"


def test_the_verdict_names_the_best_of_every_place(matter):
    assert verdict(matter) == (
        "Use topk: it is the best at all 2 places; "
        "others tie with it, or were not watched long enough, at 2."
    )
    cells = read(page(matter)).cells
    assert cells[:2] == ["wan_bandwidth", "topk"]
    assert cells[2].startswith("≥ ")
    assert "reached by" in cells[2]


def skewed(challenge, tail, seeds=24):
    """Make runs of three compressors: int8 has the best median, none the best mean, topk ties."""
    rng = np.random.default_rng(len(challenge))
    luck = rng.normal(1.0, 0.05, seeds)
    slow = np.where(np.arange(seeds) % 4 == 0, tail, 1.0)
    times = {"int8": 80 * luck * slow, "none": 100 * luck,
             "topk": 100 * luck + 0.1 + 4 * (np.arange(seeds) % 2 - 0.5)}  # fmt: skip
    frame, _ = rows_and_curves(seeds=seeds, challenges=(challenge,), compressors=tuple(times))
    return frame.assign(reached=True, time_to_target_s=np.concatenate(list(times.values())),
                        time_s=2000.0, config_id=challenge + frame["config_id"])  # fmt: skip


@pytest.mark.parametrize("places", [("churn",), ("churn", "unreliable")])
def test_a_report_names_the_winner_and_the_ties_that_best_names(places, monkeypatch):
    monkeypatch.setattr(paging, "_plotly", str)
    frame = pd.concat([skewed(place, tail=9.0) for place in places], ignore_index=True)
    own, found = matter_of(frame, rows_and_curves(seeds=1)[1]), best(frame)
    told = [choice.verdict for choice in own.choices.values()]
    assert [(one.winner, set(one.tied)) for one in told] == [
        (one.winner, set(one.tied)) for one in found.verdicts
    ]
    assert {one.winner for one in told} == {"no compressor"}
    assert all(one.tied == ["topk"] for one in told)
    assert verdict(own) == found.sentence
    assert [one.sentence for one in told] == [one.sentence for one in found.verdicts]
    text, cells = page(own), read(page(own)).cells
    assert found.sentence in html.unescape(text)
    tied = cells[cells.index("no compressor") + 3 :: 5]
    assert all(cell.startswith("topk") for cell in tied[: len(places)])
    assert found.sentence in " ".join(report_text(own).split())
    assert own.ranking[0] == "no compressor"


def test_a_single_configuration_says_what_it_attains():
    frame, curves = rows_and_curves(seeds=4, challenges=("churn",), compressors=("none",))
    assert verdict(matter_of(frame, curves)).startswith(
        "One configuration: mean time to the target loss "
    )
    apart = pd.concat([frame, rows_and_curves(seeds=4, challenges=("unreliable",),
                                              compressors=("topk",))[0]])  # fmt: skip
    apart = apart.assign(config_id=apart["challenge"], reached=True, time_to_target_s=9.0)
    own = matter_of(apart, curves)
    assert verdict(own) == (
        "One configuration at each of 2 places; it has a time to the target loss in 2 of them."
    )
    assert "decision" not in read(page(own)).sections
    assert "nothing to choose" not in report_text(own)
    never = frame.assign(reached=False)
    assert verdict(matter_of(never, curves, metric="time_to_target_s")) == (
        "No configuration reaches the target in the sweep."
    )


def all_diverged(**more):
    """Make runs of two attacks, equal but for their scale, all of which diverge."""
    frame, curves = rows_and_curves(seeds=4, challenges=("churn",), failures_transient=2)
    same = {"status": "diverged", "loss_final": np.nan, "reached": False, "compressor": "none",
            "time_to_target_s": np.nan, "time_s": 0.05, "cost_usd": 0.3}  # fmt: skip
    other = frame["config_index"].map({0: 1e3, 1: 1e5})
    return frame.assign(**{"attack.scale": other, **same, **more}), curves


def test_a_sweep_in_which_every_run_diverged_recommends_none(tmp_path):
    own = matter_of(*all_diverged())
    assert own.metric == "loss_final"
    assert verdict(own) == (
        "Every run diverged. No configuration has a final loss in the sweep."
    )
    assert decision(own)["places"][0] == {
        "place": own.places[0], "best": None, "tied": [], "status": "diverged"
    }  # fmt: skip
    assert not pareto_points(own)
    assert "trade" not in read(page(own)).sections
    assert "Every run diverged." in report_text(own)
    assert report_picture(own, tmp_path / "report.png").is_file()
    asked = matter_of(*all_diverged(), metric="samples_per_s")
    assert verdict(asked).startswith("Every run diverged. ")


def test_equal_points_share_a_number_and_one_alone_has_an_axis_from_zero():
    frame, curves = all_diverged(status="ok", loss_final=1.0)
    own = matter_of(frame, curves)
    (points,) = pareto_points(own).values()
    assert [point.best for point in points] == [True, True]
    assert numbers(points) == [1, 1]
    (figure,) = pareto(own)
    assert figure.data[0]["text"] == ["1", ""]
    assert figure.layout["xaxis"]["range"] == [0, pytest.approx(100.0)]
    assert figure.layout["yaxis"]["range"] == [0, pytest.approx(0.6)]
    apart = pareto(matter_of(frame.assign(cost_usd=frame["attack.scale"]), curves))[0]
    assert apart.data[0]["text"] == ["1", ""]
    assert "range" not in apart.layout["yaxis"]


def test_one_kind_of_failure_is_named(matter):
    kinds = {name: 0 for name in FAILURES} | {"failures_crash": 3}
    drawn = failures(matter._replace(frame=matter.frame.assign(**kinds)))
    assert [trace["name"] for trace in drawn.data] == ["crashes"]
    assert drawn.layout["showlegend"]


def test_text_and_picture_hold_the_same(matter, tmp_path):
    text = report_text(matter)
    for part in ("Which compressor?", "topk", "What to spend on", "reach the target", "jax 0.10.2",
                 "jaxwan sweep which-one.toml"):  # fmt: skip
        assert part in text
    assert max(map(len, text.split("\n"))) <= 100
    drawn = report_picture(matter, tmp_path / "report.png")
    assert drawn.read_bytes()[:4] == b"\x89PNG"


def test_no_runs_and_unknown_metrics_are_refused(matter):
    frame, curves = rows_and_curves(seeds=2)
    with pytest.raises(ValueError, match="no runs"):
        gather(frame.head(0), curves, frame.head(0))
    with pytest.raises(ValueError, match="no numeric column 'speed'"):
        matter_of(frame, curves, metric="speed")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; the page is checked as text above")
def test_a_browser_without_network_has_nothing_to_complain_of(matter, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(matter), encoding="utf-8")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
         "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=4000", "--window-size=1280,900", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert not [line for line in done.stderr.split("\n") if "CONSOLE" in line]
    assert 'data-ready="9"' in done.stdout
    assert done.stdout.count("main-svg") >= 9
