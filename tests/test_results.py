"""Results: what a summary claims about each configuration, and the files it writes."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from frames import rows_and_curves

from jaxwan.analysis.best import best
from jaxwan.columns import COLUMNS, identity_columns, keyed, typed, varying
from jaxwan.results import Results, records
from jaxwan.rounds import round_folder
from jaxwan.stats.intervals import mean_interval, wilson_interval
from jaxwan.store import Store
from jaxwan.streamed import StoredResults


@pytest.fixture
def results():
    frame, curves = rows_and_curves(seeds=8)
    frame["ratio"] = frame["compressor"].map({"none": np.nan, "topk": 0.01})
    return Results(frame, curves, question="Which one?")


def test_summary_has_one_row_per_configuration_in_order(results):
    shuffled = results.frame.iloc[::-1].reset_index(drop=True)
    summary = Results(shuffled).summary()
    assert summary["config_id"].tolist() == ["config-3", "config-2", "config-1", "config-0"]
    assert summary["n"].tolist() == [8, 8, 8, 8]
    assert results.swept == ["ratio"]
    identity = identity_columns(results.frame)
    assert list(summary.columns[: 2 + len(identity)]) == ["config_id", *identity, "n"]
    assert summary["compressor"].tolist() == ["topk", "none", "topk", "none"]


def test_summary_reports_the_intervals_of_stats(results):
    row = results.summary(["throughput_ratio", "success"], confidence=0.9).iloc[1]
    mine = results.frame[results.frame["config_id"] == "config-1"]
    expected = mean_interval(mine["throughput_ratio"], 0.9)
    got = [row[f"throughput_ratio_{side}"] for side in ("mean", "lo", "hi")]
    np.testing.assert_allclose(got, expected[:3])
    np.testing.assert_allclose(
        [row[f"throughput_ratio_{q}"] for q in ("q05", "q50", "q95")],
        np.quantile(mine["throughput_ratio"], [0.05, 0.5, 0.95]),
    )
    share = wilson_interval(mine["success"].sum(), 8, 0.9)
    np.testing.assert_allclose([row[f"success_{s}"] for s in ("mean", "lo", "hi")], share[:3])
    assert "success_q50" not in row


def test_a_target_that_few_reach_has_an_infinite_median(results):
    frame = results.frame[results.frame["config_id"] == "config-0"].copy()
    frame["reached"] = np.arange(8) < 3
    frame["time_to_target_s"] = np.where(frame["reached"], 10.0, np.nan)
    row = Results(frame).summary().iloc[0]
    assert row["reached_mean"] == 3 / 8
    assert row["time_to_target_s_q05"] == 10
    assert row["time_to_target_s_q50"] == np.inf
    assert "time_to_target_s_mean" not in row


def test_one_run_has_a_mean_and_no_interval(results):
    row = Results(results.frame.iloc[:1]).summary().iloc[0]
    assert np.isfinite(row["time_s_mean"])
    assert np.isnan(row["time_s_lo"])


def test_an_unknown_metric_is_refused(results):
    with pytest.raises(ValueError, match="no numeric column 'loss_finl'"):
        results.summary(["loss_finl"])


def test_no_runs_make_an_empty_summary(results):
    assert Results(results.frame.iloc[:0]).summary().empty


def test_failed_criteria_are_counted_per_configuration(results):
    frame = results.frame.assign(failed_criteria="")
    frame.loc[frame.index[:3], "failed_criteria"] = "throughput_ratio,rejection_rate"
    frame.loc[frame.index[3], "failed_criteria"] = "rejection_rate"
    reasons = Results(frame.iloc[::-1]).success_reasons()
    assert reasons.loc["config-0"].to_dict() == {"rejection_rate": 4, "throughput_ratio": 3}
    assert reasons.drop("config-0").to_numpy().sum() == 0
    assert list(reasons.index) == [f"config-{index}" for index in (3, 2, 1, 0)]


def test_files_hold_every_run(tmp_path, results):
    parquet = pd.read_parquet(results.save(tmp_path / "new" / "runs.parquet"))
    pd.testing.assert_frame_equal(parquet, results.frame)
    csv = pd.read_csv(results.save(tmp_path / "runs.csv"))
    assert json.loads(csv["worker_acceptance_rate"].iloc[0]) == [1.0, 0.9, None, 1.0]
    np.testing.assert_array_equal(csv["time_s"], results.frame["time_s"])
    document = json.loads(results.save(tmp_path / "runs.json").read_text())
    assert document["question"] == "Which one?"
    assert len(document["runs"]) == 32
    assert document["runs"][0]["ratio"] is None
    assert len(document["summary"]) == 4
    with pytest.raises(ValueError, match=r"runs\.xls.*\.parquet, \.csv, \.json"):
        results.save(tmp_path / "runs.xls")


def test_records_are_plain_json():
    frame = pd.DataFrame({"a": [np.int64(1), 2], "b": [np.inf, np.nan], "c": [True, False]})
    frame["d"] = [np.array([1.0, np.nan]), np.array([])]
    assert records(frame) == [
        {"a": 1, "b": None, "c": True, "d": [1.0, None]},
        {"a": 2, "b": None, "c": False, "d": []},
    ]
    assert records(frame.iloc[:0]) == []


def test_load_reads_a_store_and_says_when_it_is_unfinished(tmp_path, results):
    chunks = [{"name": "a"}, {"name": "b"}]
    store = Store.open(tmp_path, {"sweep": {}, "chunks": chunks, "question": "Why?"})
    store.write("a", results.frame, results.curves)
    loaded = Results.load(tmp_path)
    assert loaded.question == "Why?"
    assert "1 of 2 chunks" in loaded.warnings[0]
    pd.testing.assert_frame_equal(loaded.frame, results.frame)
    store.write("b", results.frame.iloc[:0])
    assert Results.load(tmp_path).warnings == ()


def test_repr_is_brief(results):
    assert repr(results) == "Results(32 runs of 4 configurations, 384 curve points: Which one?)"


def test_columns_are_ordered_and_typed(results):
    shuffled = results.frame[sorted(results.frame.columns)]
    assert list(typed(shuffled).columns) == [*COLUMNS, "ratio"]
    assert all(column.meaning for column in COLUMNS.values())


def test_reading_results_never_starts_jax():
    code = "import jaxwan.results, jaxwan.analysis.tables, jaxwan.analysis.plots, sys; "
    code += "assert 'jax' not in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def stored(folder, settings):
    """Store four configurations in six chunks that cut across them, each with its own columns."""
    frame, curves = rows_and_curves(seeds=9)
    sweep = {"seeds": list(range(9)), "configurations": sorted(set(frame["config_id"]))}
    names = [f"c{start}" for start in range(6)]
    manifest = {"sweep": sweep, "chunks": [{"name": name} for name in names], "question": "Q?"}
    store = Store.open(folder, manifest)
    for start, name in enumerate(names):
        rows = frame.iloc[start::6]
        own = {config: settings[number] for number, config in enumerate(sweep["configurations"])}
        values = rows["config_id"].map(own)
        rows = rows.assign(odd=values) if values.notna().any() else rows
        some = rows["compressor"] == "topk"
        rows = rows.assign(**{"compressor.ratio": rows["seed"].where(some) * 0 + 0.5})
        store.write(name, rows, curves[curves["run_id"].isin(rows["run_id"])])
    return store


@pytest.mark.parametrize(
    "settings", [[1, 2, 3, 4], [1, None, 3, None], [3, "median", None, 2.5], ["a", None, "b", "a"]]
)
def test_what_is_read_part_by_part_says_what_the_whole_does(tmp_path, settings):
    store = stored(tmp_path, settings)
    whole, streamed = Results.load(tmp_path), StoredResults(tmp_path)
    pd.testing.assert_frame_equal(streamed.summary(), whole.summary())
    pd.testing.assert_frame_equal(streamed.summary(["time_s"], 0.9), whole.summary(["time_s"], 0.9))
    pd.testing.assert_frame_equal(
        streamed.success_reasons(), whole.success_reasons(), check_dtype=False
    )
    assert store.columns() == list(whole.frame.columns)
    assert (streamed.question, streamed.warnings) == (whole.question, whole.warnings)
    with pytest.raises(ValueError, match="no numeric column 'scenario'"):
        streamed.summary(["scenario"])


def test_the_picture_takes_few_columns(tmp_path):
    stored(tmp_path, [1, 2, 3, 4])
    one = Results.load(tmp_path).plot(tmp_path / "whole.png")
    assert StoredResults(tmp_path).plot(tmp_path / "few.png").read_bytes() == one.read_bytes()


def test_a_few_columns_of_a_store(tmp_path):
    stored(tmp_path, [1, 2, 3, 4])
    whole = Results.load(tmp_path)
    few = Results.load(tmp_path, columns=["config_id", "time_s", "odd"])
    pd.testing.assert_frame_equal(few.frame, whole.frame[["config_id", "time_s", "odd"]])
    assert (len(few.curves), few.question) == (0, "Q?")


@pytest.mark.parametrize("rounds", [False, True])
def test_a_decision_reads_only_what_it_needs_and_says_the_same(tmp_path, rounds):
    frame, curves = rows_and_curves(seeds=8)
    for number in range(1 + rounds):
        home = round_folder(tmp_path, number) if rounds else tmp_path
        more = frame.assign(seed=frame["seed"] + 8 * number, run_id=frame["run_id"] + str(number))
        store = Store.open(home, {"sweep": {}, "chunks": [{"name": "a"}], "warnings": ["odd"]})
        store.write("a", more, curves.assign(run_id=curves["run_id"] + str(number)))
    whole, few = Results.load(tmp_path), Results.load_for(tmp_path, "time_s")
    assert len(few) == 32 * (1 + rounds)
    assert not {"loss_final", "throughput_ratio", "worker_contributions"} & set(few.frame)
    assert not len(few.curves)
    assert few.warnings == whole.warnings
    pd.testing.assert_frame_equal(few.frame, whole.frame[list(few.frame)])
    tables = [best(each.frame, "time_s").table for each in (few, whole)]
    pd.testing.assert_frame_equal(*tables)
    empty = tmp_path / "empty"
    Store.open(empty, {"sweep": {}, "chunks": [{"name": "a"}]})
    assert not len(Results.load_for(empty, "time_s"))
    with pytest.raises(ValueError, match=r"did you mean 'time_s'.*loss_final"):
        Results.load_for(tmp_path, "time_z")
    with pytest.raises(ValueError, match=r"no metric 'compressor'.*loss_final"):
        Results.load_for(tmp_path, "compressor")


def test_rows_are_keyed_by_what_they_have():
    frame = pd.DataFrame({"a": [1.0, np.nan, 1.0, np.nan], "b": ["x", "y", "x", "z"]},
                         index=[5, 5, 7, 8])  # fmt: skip
    keys = keyed(frame, ["a", "b"])
    assert keys.tolist() == ["1.0\x1fx", "nan\x1fy", "1.0\x1fx", "nan\x1fz"]
    assert keys.index.tolist() == [5, 5, 7, 8]
    assert keyed(frame, []).tolist() == [""] * 4
    assert varying(frame.assign(c=np.nan), ["a", "b", "c"]) == ["a", "b"]
