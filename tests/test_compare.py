"""Comparisons: known truths, pairing, censored times, and how they read."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from frames import rows_and_curves
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from jaxwan.analysis.compare import compare, render_comparison
from jaxwan.analysis.compare_plot import plot_comparison
from jaxwan.cli import app
from jaxwan.commands.status import status_of
from jaxwan.experiment.errors import InputError
from jaxwan.stats.intervals import mean_interval
from jaxwan.stats.paired import (
    geometric_ratio,
    holm,
    restrict,
    share_difference,
    sign_test,
    t_test,
    variance_reduction,
)
from jaxwan.store import Store


def frame_of(n=16, gain=0.8, noise=0.05, seed=0, levels=("none", "topk"), **settings):
    """Make runs whose level i takes gainⁱ of the shared luck of their seed, times noise."""
    rng = np.random.default_rng(seed)
    luck = 100 * rng.lognormal(0, 0.5, n)
    parts = [
        pd.DataFrame({
            "seed": np.arange(n), "scenario": "simple", "challenge": "wan_bandwidth",
            "compressor": level, "status": "ok",
            "time_s": luck * gain**i * rng.lognormal(0, noise, n),
        }).assign(**settings)
        for i, level in enumerate(levels)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def with_targets(frame, times):
    """Let runs reach their target at `times`; None is never."""
    reached = [time is not None for time in times]
    return frame.assign(time_to_target_s=pd.Series(times, dtype=float), reached=reached)


def test_differences_and_ratios_are_paired_by_seed_whatever_the_order_of_rows():
    frame = frame_of()
    shuffled = pd.concat([
        frame[frame["compressor"] == "none"],
        frame[frame["compressor"] == "topk"].sample(frac=1, random_state=1),
    ])  # fmt: skip
    row = compare(shuffled, "compressor", "time_s").iloc[0]
    base, top = (frame[frame["compressor"] == c]["time_s"].to_numpy() for c in ("none", "topk"))
    expected = stats.ttest_rel(top, base)
    low, high = expected.confidence_interval(0.95)
    np.testing.assert_allclose(row["difference"], (top - base).mean())
    np.testing.assert_allclose([row["difference_lo"], row["difference_hi"]], [low, high])
    np.testing.assert_allclose(row["p"], expected.pvalue)
    np.testing.assert_allclose(row["ratio"], stats.gmean(top / base))
    assert row["ratio_lo"] < 0.8 < row["ratio_hi"]
    assert (row["level"], row["baseline"], row["n"]) == ("topk", "none", 16)
    spread = np.var(top, ddof=1) + np.var(base, ddof=1)
    np.testing.assert_allclose(row["variance_reduction"], spread / np.var(top - base, ddof=1))


def test_only_seeds_that_both_have_are_paired():
    frame = frame_of()
    fewer = frame[(frame["compressor"] == "none") | (frame["seed"] >= 10)]
    row = compare(fewer, "compressor", "time_s").iloc[0]
    assert (row["n"], row["dropped"]) == (6, 0)


def test_every_place_is_compared_on_its_own():
    slow = frame_of(gain=0.5, challenge="wan_latency", seed=1)
    frame = pd.concat([frame_of(), slow], ignore_index=True)
    table = compare(frame, "compressor", "time_s")
    assert table["challenge"].tolist() == ["wan_bandwidth", "wan_latency"]
    np.testing.assert_allclose(table["ratio"], [0.8, 0.5], rtol=0.1)
    assert "scenario" not in table
    assert "level" in compare(frame, "challenge", "time_s")


def test_settings_of_a_member_belong_to_its_levels():
    frame = pd.concat([
        frame_of(levels=("none",)),
        frame_of(levels=("topk",)).assign(**{"compressor.ratio": 0.1}),
        frame_of(levels=("topk",)).assign(**{"compressor.ratio": 0.01}),
    ], ignore_index=True)  # fmt: skip
    table = compare(frame, "compressor", "time_s")
    assert table["level"].tolist() == ["topk · ratio 0.1", "topk · ratio 0.01"]
    inner = compare(frame, "compressor.ratio", "time_s", baseline="0.01")
    assert inner["level"].tolist() == ["0.1"]
    assert inner["baseline"].tolist() == ["0.01"]


def test_a_baseline_may_be_chosen():
    table = compare(frame_of(levels=("none", "fp16", "topk")), "compressor", "time_s",
                    baseline="fp16")  # fmt: skip
    assert table["level"].tolist() == ["none", "topk"]
    np.testing.assert_allclose(table["ratio"], [1 / 0.8, 0.8], rtol=0.1)


def test_what_cannot_be_compared_is_said():
    frame = frame_of()
    with pytest.raises(ValueError, match="no runs"):
        compare(frame.iloc[:0], "compressor", "time_s")
    with pytest.raises(ValueError, match="no setting 'comp'"):
        compare(frame, "comp", "time_s")
    with pytest.raises(ValueError, match="no numeric column 'status'"):
        compare(frame, "compressor", "status")
    with pytest.raises(ValueError, match="single level"):
        compare(frame, "challenge", "time_s")
    with pytest.raises(ValueError, match="no level 'fp8'"):
        compare(frame, "compressor", "time_s", baseline="fp8")
    with pytest.raises(ValueError, match="tells them apart"):
        compare(pd.concat([frame, frame]), "compressor", "time_s")
    tied = frame.assign(strategy=frame["compressor"].map({"none": "sync", "topk": "async"}))
    with pytest.raises(ValueError, match="these change along with it: strategy") as said:
        compare(tied, "compressor", "time_s")
    assert "brings the settings recommended for it" in str(said.value)
    assert str(said.value).endswith('with each of them at one value, such as strategy = "sync"')
    apart = frame.assign(a=((frame["compressor"] == "topk") + frame["seed"]) % 2)
    with pytest.raises(ValueError, match=r"no two levels.*; these vary too: a; give"):
        compare(apart, "compressor", "time_s")


def test_intervals_of_differences_and_ratios_cover_the_truth():
    rng = np.random.default_rng(7)
    hits, trials, n = np.zeros(2), 2000, 12
    for _ in range(trials):
        luck = rng.lognormal(0, 1, n)
        a, b = 3 * luck * rng.lognormal(0, 0.2, n), luck
        ratio = geometric_ratio(a, b)
        gap = mean_interval(rng.normal(1, 2, n))
        hits += [ratio.low <= 3 <= ratio.high, gap.low <= 1 <= gap.high]
    bound = 4 * np.sqrt(0.95 * 0.05 / trials)
    np.testing.assert_allclose(hits / trials, 0.95, atol=bound)


def test_differences_of_paired_shares_cover_the_truth():
    rng = np.random.default_rng(8)
    hits, trials, n = 0, 2000, 30
    for _ in range(trials):
        luck = rng.random(n)
        found = share_difference(luck < 0.7, luck + rng.uniform(-0.2, 0.2, n) < 0.5)
        hits += found.low <= 0.2 <= found.high
    assert hits / trials >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / trials)


def test_no_difference_is_found_as_often_as_the_level_says():
    rng = np.random.default_rng(9)
    draws = rng.normal(size=(2000, 10))
    share = np.mean([t_test(row) < 0.05 for row in draws])
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)
    assert t_test([2.0, 2.0]) == 0
    assert t_test([0.0, 0.0]) == 1
    assert np.isnan(t_test([1.0]))


def test_sign_test_is_the_exact_binomial():
    a, b = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    assert sign_test(a, b) == pytest.approx(stats.binomtest(1, 6).pvalue)
    assert sign_test(a, a) == 1


def test_holm_is_the_published_procedure():
    np.testing.assert_allclose(holm([0.01, 0.04, np.nan, 0.03, 0.005]),
                               [0.03, 0.06, np.nan, 0.06, 0.02])  # fmt: skip
    assert holm([0.9, 0.8]).max() == 1
    table = compare(frame_of(levels=("none", "fp16", "topk"), gain=0.99), "compressor", "time_s")
    np.testing.assert_allclose(table["p_holm"], holm(table["p"]))


def test_pairing_is_worth_what_the_shared_luck_says():
    rng = np.random.default_rng(3)
    luck = rng.normal(0, 3, 20000)
    a, b = luck + rng.normal(size=20000), luck + rng.normal(size=20000)
    assert variance_reduction(a, b) == pytest.approx(10, rel=0.05)
    assert variance_reduction([1, 2], [2, 3]) == np.inf
    assert np.isnan(variance_reduction([1, 1], [2, 2]))


def test_restricted_times_cap_both_sides_where_the_first_unreached_run_ended():
    capped = restrict([4, 9, np.nan], [6, np.nan, 20], [10, 10, 8], [50, 50, 50])
    np.testing.assert_array_equal(capped.a, [4, 8, 8])
    np.testing.assert_array_equal(capped.b, [6, 8, 8])
    assert capped.horizon == 8
    assert restrict([4.0], [6.0], [1.0], [1.0]).horizon == 6


def test_unreached_targets_count_in_the_difference_and_not_in_the_ratio():
    frame = frame_of(n=3).assign(time_s=40.0)
    frame = with_targets(frame, [20.0, 30.0, None, 10.0, None, 30.0])
    row = compare(frame, "compressor", "time_to_target_s").iloc[0]
    counts = [row[name] for name in ("reached", "baseline_reached", "both_reached", "n")]
    assert counts == [2, 2, 1, 3]
    assert row["horizon_s"] == 40
    assert row["difference"] == pytest.approx(np.mean([10 - 20, 40 - 30, 30 - 40]))
    assert np.isnan(row["ratio"])  # one pair of three is the lucky few
    most = with_targets(frame, [20.0, 30.0, None, 10.0, 15.0, 30.0])
    assert compare(most, "compressor", "time_to_target_s").iloc[0]["ratio"] == pytest.approx(0.5)
    assert np.isnan(row["ratio_lo"])


def test_a_level_that_never_arrives_is_worse_and_not_missing():
    frame = frame_of(n=8).assign(time_s=100.0)
    frame = with_targets(frame, [*np.linspace(10, 20, 8), *[None] * 8])
    row = compare(frame, "compressor", "time_to_target_s").iloc[0]
    assert row["difference"] == pytest.approx(85)
    assert row["p"] < 1e-6
    assert np.isnan(row["ratio"])


def test_where_nobody_arrives_while_all_are_watched_there_is_no_difference():
    """One level arrives at 10 s, the other was watched until 5 s: reaching is all that differs."""
    frame = frame_of(n=8).assign(time_s=[12.0] * 8 + [5.0] * 8)
    frame = with_targets(frame, [*np.linspace(9, 11, 8), *[None] * 8])
    table = compare(frame, "compressor", "time_to_target_s")
    row = table.iloc[0]
    assert row[["difference", "difference_lo", "difference_hi", "p"]].isna().all()
    expected = share_difference(np.zeros(8), np.ones(8))
    assert (row["reach_difference"], row["reach_difference_hi"]) == (-1, expected.high)
    assert row["reach_p"] == pytest.approx(2 / 2**8)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_comparison(table))
    text = console.export_text()
    assert "0.00 s" not in text
    said = " ".join(text.split())
    assert "topk reaches the target in 0 of 8 runs, 'none' in 8: -100 points (-100 to" in said
    assert "p = 0.008" in said


def test_targets_that_nobody_reached_are_refused():
    frame = with_targets(frame_of(n=3).assign(time_s=40.0), [None] * 6)
    with pytest.raises(ValueError, match="run more steps, take an easier target"):
        compare(frame, "compressor", "time_to_target_s")
    with pytest.raises(ValueError, match=r"timing-only.*--metric time_s"):
        compare(frame.assign(timing_only=True), "compressor", "time_to_target_s")


def test_diverged_runs_are_dropped_and_counted():
    frame = frame_of(n=6).assign(loss_final=1.0)
    frame.loc[[0, 7], "status"] = "diverged"
    row = compare(frame, "compressor", "loss_final").iloc[0]
    assert (row["n"], row["dropped"], row["difference"]) == (4, 2, 0)


def test_flags_are_compared_as_shares():
    frame = frame_of(n=8)
    frame["success"] = frame["compressor"] == "topk"
    row = compare(frame, "compressor", "success").iloc[0]
    assert row["difference"] == 1
    assert row["p"] == pytest.approx(2 / 2**8)
    assert 0 < row["difference_lo"] < 1
    assert np.isnan(row["ratio"])


def test_the_table_fits_eighty_columns_and_says_how_times_were_capped():
    frame = pd.concat([
        frame_of(n=8, challenge=challenge, levels=("none", "fp16", "topk"))
        for challenge in ("wan_bandwidth", "heterogeneous")
    ], ignore_index=True)  # fmt: skip
    times = [None if i % 5 == 0 else 10.0 + i for i in range(len(frame))]
    table = compare(with_targets(frame, times), "compressor", "time_to_target_s")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_comparison(table))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for piece in ("difference from none", "heterogeneous", "fp16", "6/8", "capped at", "95 %"):
        assert piece in text


def test_the_picture_has_a_row_per_comparison(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: drawn.append(self) or save(
        self, *a, **k))  # fmt: skip
    table = compare(frame_of(levels=("none", "fp16", "topk")), "compressor", "time_s")
    assert plot_comparison(table, tmp_path / "a" / "b.png").read_bytes().startswith(b"\x89PNG")
    axis = drawn[0].axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["fp16", "topk"]
    assert axis.get_xscale() == "log"
    undefined = table.assign(ratio=np.nan)
    plot_comparison(undefined, tmp_path / "c.png")
    assert drawn[1].axes[0].get_xscale() == "linear"
    with pytest.raises(ValueError, match="no comparison"):
        plot_comparison(table.iloc[:0], tmp_path / "d.png")


@pytest.fixture
def folder(tmp_path):
    """Store half of a sweep."""
    frame, curves = rows_and_curves(seeds=6)
    names = [{"name": f"c{i}", "runs": 12} for i in range(2)]
    manifest = {"sweep": {}, "chunks": names, "runs": 24, "programs": 1, "question": "Which?"}
    store = Store.open(tmp_path / "store", manifest)
    store.write("c0", frame.iloc[:12], curves[curves["run_id"].isin(frame["run_id"][:12])])
    return store.path


def test_status_counts_what_is_there(folder):
    facts = status_of(folder)
    assert (facts["runs_done"], facts["runs_total"]) == (12, 24)
    assert (facts["chunks_done"], facts["chunks_total"]) == (1, 2)
    assert not facts["finished"]
    assert facts["versions"]["jaxwan"]
    assert facts["since_last_write_s"] < 3600
    shown = CliRunner().invoke(app, ["status", str(folder), "--json"])
    assert json.loads(shown.stdout)["runs_done"] == 12
    text = CliRunner().invoke(app, ["status", str(folder)]).stdout
    assert "12 of 24 (50 %)" in text
    assert "unfinished" in text
    with pytest.raises(InputError, match="no jaxwan results"):
        status_of(folder / "parts")


def test_compare_command_prints_json_table_and_picture(folder, tmp_path):
    base = ["compare", str(folder), "--by", "compressor", "--metric", "throughput_ratio"]
    picture = tmp_path / "p.png"
    shown = CliRunner().invoke(app, [*base, "--json", "--plot", str(picture)])
    facts = json.loads(shown.stdout)
    assert facts["comparisons"][0]["level"] == "topk"
    assert facts["comparisons"][0]["n"] == 6
    assert picture.exists()
    assert "topk" in CliRunner().invoke(app, base).stdout
    wrong = CliRunner().invoke(app, ["compare", str(folder), "--by", "colour"])
    assert isinstance(wrong.exception, InputError)
