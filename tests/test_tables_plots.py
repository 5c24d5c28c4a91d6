"""Tables at several widths, human numbers, and pictures that hold what they should."""

import io

import numpy as np
import pandas as pd
import pytest
from frames import rows_and_curves
from matplotlib.figure import Figure
from rich.console import Console

import jaxwan.analysis.plots as plots
from jaxwan.analysis.humane import duration, duration_spread, number, percent, spread
from jaxwan.analysis.plots import loss_versus_time
from jaxwan.analysis.tables import render_reasons, render_summary, summary_records
from jaxwan.results import Results

PNG = b"\x89PNG"


def text_of(summary, width, title=None):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_summary(summary, title=title))
    return console.export_text()


@pytest.fixture
def summary():
    frame, curves = rows_and_curves(seeds=8)
    frame["compressor.ratio"] = frame["compressor"].map({"none": np.nan, "topk": 0.01})
    return Results(frame, curves).summary()


@pytest.fixture
def figures(monkeypatch):
    """Collect the figures that are saved."""
    kept = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        kept.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(plots.Figure, "savefig", keep)
    return kept


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (0, "0.00"), (1234.5, "1234"), (9.9e7, "9.90e+07"), (1e-9, "1.00e-09"),
     (np.nan, "–"), (np.inf, "∞"), (-0.5, "-0.500")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (0.0021, "2.10 ms"), (3e-7, "0.300 µs"), (85, "85.0 s"), (600, "10.0 min"),
     (7199, "120 min"), (7200, "2.00 h"), (864000, "10.0 d"), (np.nan, "–"), (np.inf, "∞")],
)  # fmt: skip
def test_durations_choose_their_unit(seconds, text):
    assert duration(seconds) == text


def test_half_widths_follow_the_digits_of_the_mean():
    assert spread(0.4123, 0.0312) == ("0.412", "±0.031")
    assert spread(0.4123, 0.00002) == ("0.412", "±<0.001")
    assert spread(3.0, 0.0) == ("3.00", "±0")
    assert spread(3.0, np.nan) == ("3.00", "")
    assert duration_spread(600, 30) == ("10.0 min", "±0.5")
    assert percent(0.095, 1) == "9.5 %"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_table_fits_and_cuts_nothing(summary, width):
    text = text_of(summary.assign(n=4096), width, title="Which one?")
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert text.startswith("Which one?")
    for whole in ("wan_bandwidth", "unreliable", "no compressor", "topk", "to target\n", "under"):
        assert whole in text
    assert "all: 4096 runs" in text
    assert f"by {100 * summary['reached_mean'].iloc[-1]:.0f} %" in text


def test_what_all_rows_share_is_said_once(summary):
    text = text_of(summary, 120)
    assert text.count("typical_wan") == 1
    assert text.count("topk · ratio 0.01") == 2
    assert "all: 8 runs · scenario moderate · network typical_wan" in text


def challenges_apart(attack="sign_flip"):
    """Make a summary whose settings differ only between challenges."""
    frame, curves = rows_and_curves(seeds=8, compressors=("topk",))
    far = frame["challenge"] == "unreliable"
    frame["aggregator"] = np.where(far, "median", "mean")
    frame["attack"] = np.where(far, attack, "none")
    frame["status"] = np.where(far & (frame["seed"] < 2), "diverged", "ok")
    frame.loc[frame["status"] == "diverged", "loss_final"] = np.nan
    return Results(frame, curves)


def test_the_usual_goes_unsaid_where_it_tells_nothing_apart():
    text = text_of(challenges_apart().summary(), 120)
    assert "median · sign_flip" in text
    assert "mean" not in text
    assert "no attack" not in text


@pytest.mark.parametrize("width", [64, 72, 80])
def test_a_narrow_table_leaves_figures_out_and_breaks_no_word(width):
    attack = "a_little_is_enough"
    text = text_of(challenges_apart(attack).summary(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for whole in ("wan_bandwidth", "unreliable", "success", "final", attack, "no room for"):
        assert whole in text
    assert "staleness_mean" in text


def test_a_loss_that_diverges_has_a_median_and_no_mean():
    summary = challenges_apart().summary()
    row = summary.iloc[1]
    assert row["diverged_mean"] == 0.25
    assert row["loss_final_mean"] == np.inf
    assert np.isfinite(row["loss_final_q50"])
    text = text_of(summary, 120)
    assert "25 % div." in text
    assert number(row["loss_final_q50"]) in text
    assert "∞" not in text
    assert summary_records(summary)[1]["loss_final_mean"] is None
    assert "diverges" in text_of(summary.assign(loss_final_q50=np.inf, diverged_mean=1.0), 120)


def test_a_record_says_why_a_value_is_null():
    figures = {"loss_final_q50": 1.0, "diverged_mean": 0.25, "reached_mean": 0.5}
    cases = {
        "reached": {}, "seldom": {"reached_mean": 0.25}, "never": {"reached_mean": 0.0},
        "diverged": {"loss_final_q50": np.inf, "diverged_mean": 0.5, "reached_mean": 0.0},
        "unknown": {"loss_final_q50": np.nan, "diverged_mean": 0.0, "reached_mean": 0.0},
    }  # fmt: skip
    rows = pd.DataFrame([figures | changed for changed in cases.values()])
    assert [record["status"] for record in summary_records(rows)] == list(cases)
    assert summary_records(pd.DataFrame([{"n": 4}]))[0]["status"] == "unknown"


def test_reasons_are_one_line_per_configuration_that_fails():
    results = challenges_apart()
    results.frame["failed_criteria"] = np.where(results.frame["seed"] < 3, "min_steps,status", "")
    results.frame.loc[results.frame["challenge"] == "wan_bandwidth", "failed_criteria"] = ""
    text = render_reasons(results.success_reasons(), results.summary()).plain
    assert text.splitlines() == [
        "runs that fail a criterion, of 8 each", "unreliable  min_steps 3 · status 3",
    ]  # fmt: skip
    results.frame["failed_criteria"] = ""
    assert render_reasons(results.success_reasons(), results.summary()) is None


def test_figures_in_the_table_are_those_of_the_summary(summary):
    row = summary.iloc[0]
    line = text_of(summary.iloc[[0, 1]], 120)
    assert number(row["throughput_ratio_mean"]) in line
    assert f"{100 * row['rejection_rate_mean']:.1f} %" in line
    assert duration(row["time_s_mean"]) in line
    assert duration(row["time_to_target_s_q50"]) in line
    assert f"by {100 * row['reached_mean']:.0f} %" in line
    assert f"{100 * row['success_lo']:.0f} – {100 * row['success_hi']:.0f}" in line


def test_a_target_most_runs_miss_has_no_time(summary):
    never = summary.iloc[:1].assign(time_to_target_s_q50=np.inf, reached_mean=0.12)
    assert "by 12 %" in text_of(never, 120)
    assert "∞" not in text_of(never, 120)


def test_timing_only_tables_have_no_learning_columns():
    frame, curves = rows_and_curves(seeds=4, timing_only=True)
    text = text_of(Results(frame, curves).summary(), 100)
    assert "loss" not in text
    assert "target" not in text
    assert "rejected" in text


def test_asked_for_metrics_and_single_rows_are_shown(summary):
    frame, _ = rows_and_curves(seeds=4)
    text = text_of(Results(frame).summary(["energy_j", "memory_fits"]), 80)
    assert "energy" in text
    assert "100 %" in text
    assert "moderate · wan_bandwidth" in text_of(summary.iloc[:1], 120)


def test_records_tell_unreached_from_unknown(summary):
    changed = summary.assign(time_to_target_s_q50=np.inf, reached_mean=0.0)
    first = summary_records(changed)[0]
    assert first["time_to_target_s_q50"] is None
    assert first["reached_mean"] == 0.0
    assert first["n"] == 8
    assert isinstance(first["n"], int)


def test_a_panel_per_challenge_and_a_line_per_configuration(tmp_path, figures):
    frame, curves = rows_and_curves(seeds=6)
    path = loss_versus_time(curves, frame, tmp_path / "new" / "loss.png", title="Which one?")
    assert path.read_bytes()[:4] == PNG
    (figure,) = figures
    assert [axis.get_title("left") for axis in figure.axes] == ["wan_bandwidth", "unreliable"]
    for axis, unit in zip(figure.axes, ("min", "h"), strict=True):
        _, labels = axis.get_legend_handles_labels()
        assert labels == ["no compressor", "topk", "floor of the task"]
        assert axis.get_xlabel() == f"simulated time ({unit})"
        assert 2 < max(line.get_xdata()[-1] for line in axis.get_lines()) < 60
        assert axis.get_yscale() == "log"


def test_a_line_is_the_mean_over_seeds(tmp_path, figures):
    frame, curves = rows_and_curves(seeds=2, challenges=("wan_bandwidth",), compressors=("none",))
    curves["time_s"] = curves["step"].astype(float)
    curves["loss"] = np.where(curves["run_id"] == "run-0-0", 1.0, 2.0)
    loss_versus_time(curves, frame.assign(loss_floor=np.nan), tmp_path / "loss.png")
    (line,) = figures[0].axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), 1.5)
    assert line.get_xdata()[-1] == 11


def test_a_mean_ends_where_its_runs_begin_to_end(tmp_path, figures):
    frame, curves = rows_and_curves(seeds=2, challenges=("wan_bandwidth",), compressors=("none",))
    curves["time_s"] = curves["step"].astype(float)
    short = (curves["run_id"] == "run-0-0") & (curves["step"] > 5)
    loss_versus_time(curves[~short], frame.assign(loss_floor=np.nan), tmp_path / "loss.png")
    (line,) = figures[0].axes[0].get_lines()
    assert line.get_xdata()[-1] == 5


def test_diverged_runs_are_counted_not_hidden(tmp_path, figures):
    frame, curves = rows_and_curves(seeds=6, challenges=("wan_bandwidth",))
    bad = (curves["run_id"] == "run-1-0") & (curves["step"] > 5)
    curves.loc[bad, "loss"] = np.inf
    loss_versus_time(curves, frame, tmp_path / "loss.png")
    _, labels = figures[0].axes[0].get_legend_handles_labels()
    assert "topk (median; 1 of 6 diverge)" in labels


def test_a_panel_ends_at_three_times_the_initial_loss(tmp_path, figures):
    frame, curves = rows_and_curves(seeds=6, challenges=("wan_bandwidth",), compressors=("topk",))
    frame["status"] = np.where(frame["seed"] < 4, "diverged", "ok")
    late = curves["run_id"].isin(frame["run_id"][:4]) & (curves["step"] > 5)
    curves.loc[late, "loss"] = 1e21
    initial = curves.loc[curves["step"] == 0, "loss"].median()
    loss_versus_time(curves, frame, tmp_path / "loss.png")
    (axis,) = figures[0].axes
    assert axis.get_ylim()[1] == pytest.approx(3 * initial)
    _, labels = axis.get_legend_handles_labels()
    assert "async · topk (median; 4 of 6 diverge)" in labels


def test_timing_only_runs_get_bars(tmp_path, figures):
    frame, curves = rows_and_curves(seeds=6, timing_only=True)
    loss_versus_time(curves, frame, tmp_path / "bars.png")
    first = figures[0].axes[0]
    widths = [bar.get_width() for bar in first.patches]
    means = frame.groupby("config_id")["throughput_ratio"].mean()
    np.testing.assert_allclose(widths, means[["config-0", "config-1"]])


def test_results_plot_and_an_empty_frame(tmp_path):
    frame, curves = rows_and_curves(seeds=1)
    assert Results(frame, curves).plot(tmp_path / "one.png").read_bytes()[:4] == PNG
    assert Results(frame).plot(tmp_path / "no_curves.png").exists()
    with pytest.raises(ValueError, match="no runs"):
        Results(frame.iloc[:0]).plot(tmp_path / "x.png")
