"""Doors: a command refuses by option, value and remedy before it does any work."""

import os
from io import StringIO

import pandas as pd
import pytest
from frames import rows_and_curves
from rich.console import Console
from typer.testing import CliRunner

from jaxwan.analysis.humane import count
from jaxwan.analysis.tables import render_summary
from jaxwan.cli import app
from jaxwan.commands.shell import file_target
from jaxwan.experiment.errors import InputError
from jaxwan.merge import merge
from jaxwan.results import Results
from jaxwan.rounds import round_folder
from jaxwan.store import Store

TIMING = """seeds = 8
steps = 6
[grid]
scenario = "simple"
timing_only = true
strategy = ["sync", "async"]
"""


def stored(home, runs, chunks, **sweep):
    """Store runs in as many chunks as are named; only the first of them is there."""
    size = len(runs[0]) // chunks
    plan = [{"name": f"c{place}", "runs": size} for place in range(chunks)]
    configs = sorted(set(runs[0]["config_id"]))
    store = Store.open(home, {"sweep": {"configurations": configs, **sweep}, "chunks": plan})
    rows = runs[0].iloc[:size]
    store.write("c0", rows, runs[1][runs[1]["run_id"].isin(rows["run_id"])])
    return home


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Store a finished sweep that names no network."""
    frame, curves = rows_and_curves(seeds=3, challenges=("wan_bandwidth",))
    runs = frame.assign(network=None, reached=False, time_to_target_s=float("nan"))
    return stored(tmp_path_factory.mktemp("doors") / "grid", (runs, curves), 1)


@pytest.fixture
def sweep(tmp_path):
    file = tmp_path / "tim.toml"
    file.write_text(TIMING)
    return file


@pytest.fixture(autouse=True)
def idle(monkeypatch):
    """Fail where anything is run."""
    def ran(*_args, **_fields):
        pytest.fail("work was done before the refusal")

    for place in ("decide.race.run_in_memory", "decide.recommend.recommend", "adaptive.plan_job",
                  "decide.calibrate.calibrate"):  # fmt: skip
        monkeypatch.setattr(f"jaxwan.{place}", ran)


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words):
    done = call(*words)
    assert isinstance(done.exception, InputError), done.output
    assert done.stdout == ""
    return str(done.exception)


def test_a_bad_path_is_refused_before_any_work(folder, tmp_path):
    ask = ["recommend", "--model", "1B", "--fleet", "baseline"]
    by = ["compare", folder, "--by", "compressor", "--metric", "time_s"]
    assert "--plot: 'x.fnord' has another ending than .png" in refused(
        "phase", folder, "--plot", "x.fnord")  # fmt: skip
    assert "has another ending" in refused("tornado", folder, "--plot", "x.pdf")
    assert "has another ending" in refused(*by, "--plot", "x")
    file = tmp_path / "file"
    file.write_text("")
    for words in (["report", folder], ["calibrate", "log.csv"], ask):
        assert f"--out: '{tmp_path}' is a folder" in refused(*words, "--out", tmp_path)
        assert f"{file} is a file" in refused(*words, "--out", file / "below" / "x.toml")


def test_a_path_needs_the_right_to_write(tmp_path, monkeypatch):
    new = tmp_path / "new" / "x.png"
    assert file_target(new, "--plot", ".png") == new
    assert file_target(None, "--plot") is None
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(InputError, match=f"--out: .*no right to write to {tmp_path}"):
        file_target(new, "--out")


def test_a_refusal_names_option_value_and_remedy(folder, sweep, tmp_path):
    best = ["best", folder, "--metric", "time_s"]
    ask = ["recommend", "--model", "1B", "--fleet", "baseline"]
    for words, option, value, remedy in (
        ([*best, "--confidence", "1"], "--confidence", "'1'", "below 1"),
        ([*best, "--delta", "0"], "--delta", "'0'", "above 0"),
        ([*best, "--choose", "fnord"], "--choose", "'fnord'", "compressor"),
        ([*best, "--over", "chalenge"], "--over", "'chalenge'", "did you mean 'challenge'"),
        ([*best, "--over", "network"], "--over", "'network' is set in no run",
         "what varies is compressor"),
        (["best", sweep, "--metric", "time_s", "--most", "1"], "--most", "1", "2 or more"),
        (["best", folder, "--metric", "seed"], "metric", "'seed'", "time_s"),
        ([*ask, "--most", "1"], "--most", "1", "2 or more"),
        ([*ask[:-1], "nofleet"], "--fleet", "'nofleet'", "TOML or CSV file"),
        (["calibrate", "x.csv", "--reference-s", "-1"], "--reference-s", "-1", "above 0"),
        (["best", folder], "time_to_target_s", "no run reached", "loss_final, or more steps"),
        (["best", sweep], "--metric", "time_to_target_s", "throughput_ratio"),
        (["sweep", sweep, "--out", tmp_path / "o", "--until", "time_to_target_s: 20%"],
         "--until", "time_to_target_s", "throughput_ratio"),
    ):  # fmt: skip
        told = refused(*words)
        assert all(part in told for part in (option, value, remedy)), told
        assert "\n" not in told
        assert len(told) < 900
    assert "did you mean" not in refused(*best, "--choose", "fnord")
    assert "did you mean" not in refused("best", folder, "--metric", "seed")
    assert not (tmp_path / "o").exists()


def test_a_decision_on_a_part_of_a_sweep_says_so(tmp_path):
    frame, curves = rows_and_curves(seeds=3, challenges=("wan_bandwidth",))
    names = {"link.bandwidth_bps": [1e6, 1e8] * 3, "link.delay_s": [0.01, 0.01, 0.1] * 2}
    frames = [frame.assign(**{name: values[k] for name, values in names.items()},
                           config_id=frame["config_id"] + f"-{k}", run_id=frame["run_id"] + f"-{k}")
              for k in range(6)]  # fmt: skip
    whole = pd.concat(frames, ignore_index=True)
    home = stored(tmp_path / "half", (whole, curves), 2)
    told = f"warning {home} is unfinished: 18 of 36 runs, 6 of 12 configurations missing; what is"
    metric = ["--metric", "throughput_ratio"]
    for words in (["best", home], ["compare", home, "--by", "compressor"], ["phase", home],
                  ["tornado", home]):  # fmt: skip
        done = call(*words, *metric)
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert done.stderr.startswith(told)
    assert told in call("report", home, *metric, "--text").stderr
    done = call("best", home, *metric, "--json")
    assert done.stdout.startswith("{")


def test_one_is_no_plural():
    assert [count(n, "run") for n in (0, 1, 2, 1024)] == ["0 runs", "1 run", "2 runs", "1,024 runs"]
    frame, curves = rows_and_curves(seeds=1)
    out = StringIO()
    Console(file=out, width=200).print(render_summary(Results(frame, curves).summary()))
    assert "all: 1 run ·" in out.getvalue()


def test_a_damaged_round_is_named_with_what_helps(sweep, tmp_path):
    runs = rows_and_curves(seeds=3, challenges=("wan_bandwidth",))
    home = stored(round_folder(tmp_path / "until", 0), runs, 1)
    (home / "manifest.json").write_text("{}")
    told = refused("sweep", sweep, "--until", "time_s: 5%", "--out", tmp_path / "until")
    assert told.startswith(f"{home}/manifest.json is damaged (it has no sweep); move {home} and")


def test_rounds_are_not_merged_and_it_is_said(tmp_path):
    runs = rows_and_curves(seeds=3, challenges=("wan_bandwidth",))
    stored(round_folder(tmp_path / "until", 0), runs, 1)
    with pytest.raises(ValueError, match=r"until holds rounds \(--until\), which cannot be merged"):
        merge(tmp_path / "all", [tmp_path / "until"])
    assert not (tmp_path / "all").exists()
