"""The workflows of the classic suite, end to end at tiny sizes."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

import jaxwan as jw
from jaxwan.experiment.catalog import challenges, scenarios
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.resolve import resolve
from jaxwan.harness import (
    ExperimentResult,
    ResultsAnalyzer,
    ResultsStore,
    SimulationTestHarness,
    get_challenge,
    get_scenario,
    recommended_settings,
)
from jaxwan.harness.analyzer import grouped
from jaxwan.harness.results import METRICS
from jaxwan.harness.runner import plan, request_of
from jaxwan.stats.intervals import mean_interval

STEPS, SEEDS = 5, 3
BATCH = ("wan_bandwidth", "wan_latency", "unreliable")
METHODS = ("none", "fp16", "quantize", "topk")
SIMPLE = {"scenario": "simple", "max_steps": STEPS}


def console_of(width=100):
    return Console(file=io.StringIO(), width=width)


def quiet():
    return SimulationTestHarness(verbose=False, seeds=SEEDS, console=console_of())


@pytest.fixture(scope="module")
def batch():
    """Run three challenges under each of the first scenarios, in one go."""
    names = [name for name in ("simple", "moderate") if name in scenarios()]
    harness = quiet()
    harness.run_experiment_batch(names, BATCH, max_steps=STEPS)
    return harness


@pytest.fixture(scope="module")
def variants():
    """Run one challenge with every compression and several bounds, in one go: few programs."""
    settings = SIMPLE | {"challenge": "wan_bandwidth", "aggregation_rule": "mean"}
    changes = [{"compression_method": method} for method in METHODS]
    changes += [{"max_staleness": bound} for bound in (0, 2)]
    return quiet().run_experiments([settings | change for change in changes])


@pytest.fixture(scope="module")
def compressions(variants):
    """Return the runs of each compression at the usual bound."""
    return variants[: len(METHODS)]


def test_a_single_experiment_says_what_ran_and_how_it_went():
    harness = SimulationTestHarness(verbose=True, seeds=SEEDS, console=console_of())
    result = harness.run_experiment("simple", "baseline", use_async=False,
                                    compression_method="none", max_steps=STEPS)  # fmt: skip
    metrics = result.metrics
    assert metrics.total_steps == STEPS
    assert metrics.total_gradients_submitted == metrics.total_gradients_accepted == 4 * STEPS
    assert metrics.total_gradients_rejected == metrics.rejection_rate == 0
    assert metrics.total_bytes_sent == 4 * STEPS * 4 * 235_146
    assert metrics.total_compression_ratio == 1
    assert metrics.bandwidth_saved_percent == 0
    assert metrics.steps_per_second == pytest.approx(
        np.mean(result.runs["steps"] / result.runs["time_s"])
    )
    assert metrics.worker_acceptance_rates == {f"worker-{i}": 1.0 for i in range(4)}
    assert metrics.active_workers == pytest.approx(4)
    assert metrics.total_failures == sum(metrics.failures_by_type.values()) == 0
    assert math.isfinite(metrics.final_loss)
    config = result.config_snapshot
    assert (config["scenario"], config["challenge"]) == ("simple", "baseline")
    assert (config["compression_method"], config["use_async"]) == ("none", False)
    assert (config["max_steps"], config["seeds"], len(result.runs)) == (STEPS, SEEDS, SEEDS)
    assert not result.success_criteria_met
    assert result.failure_reasons[0].startswith("5 optimizer steps; at least 50 needed")
    assert "cut to max_steps=5" in result.failure_reasons[0]
    assert "trimmed_mean of 4 gradients equals the mean" in config["aggregation_note"]
    printed = harness.console.file.getvalue()
    assert "simple · baseline" in printed
    assert "FAIL" in printed


def test_a_batch_crosses_scenarios_with_challenges_as_they_recommend(batch):
    names = [name for name in ("simple", "moderate") if name in scenarios()]
    got = [(result.scenario, result.challenge) for result in batch.results]
    assert got == [(scenario, challenge) for scenario in names for challenge in BATCH]
    for result in batch.results:
        own, config = get_challenge(result.challenge), result.config_snapshot
        assert config["use_async"] == own.recommended_async
        assert config["compression_method"] == own.recommended_compression
        assert config["compression_ratio"] == own.recommended_compression_ratio
        assert config["max_staleness"] == own.recommended_max_staleness
        assert config["aggregation_used"] == own.recommended_aggregation
        assert result.runs["challenge"].unique().tolist() == [result.challenge]
        assert len(result.runs) == SEEDS
    batch.console = console_of(80)
    batch.print_batch_summary()
    text = batch.console.file.getvalue()
    assert max(map(len, text.splitlines()[:30])) <= 80
    assert all(f"simple · {name}" in text for name in BATCH)


def test_results_are_those_of_simulate(batch):
    result = batch.results[1]
    own = jw.Experiment(scenario="simple", challenge="wan_latency", steps=STEPS)
    planned = plan(request_of(SIMPLE | {
        "challenge": "wan_latency", "compression_ratio": 0.05, "aggregation_rule": "mean"
    }))  # fmt: skip
    assert planned.resolved == resolve(own)
    assert result.metrics.total_time_s == pytest.approx(result.runs["time_s"].mean())
    expected = mean_interval(result.runs["loss_final"])
    np.testing.assert_allclose(result.interval("final_loss"), expected)
    assert expected.low < result.metrics.final_loss < expected.high
    with pytest.raises(ValueError, match="no metric 'speed'"):
        result.interval("speed")


def test_compressions_send_what_they_claim(compressions):
    sent = {r.config_snapshot["compression_method"]: r.metrics for r in compressions}
    assert list(sent) == list(METHODS)
    ratios = [sent[method].total_compression_ratio for method in METHODS]
    np.testing.assert_allclose(ratios, [1, 2, 4, 50], rtol=1e-3)
    np.testing.assert_allclose(
        [sent[method].bandwidth_saved_percent for method in METHODS], [0, 50, 75, 98], atol=0.01
    )
    assert sent["topk"].total_time_s < sent["fp16"].total_time_s < sent["none"].total_time_s
    assert [r.runs["compressor"].iloc[0] for r in compressions] == ["none", "fp16", "int8", "topk"]


def test_a_tighter_staleness_bound_rejects_more(variants):
    found = [*variants[len(METHODS) :], variants[len(METHODS) - 1]]
    bounds = [result.config_snapshot["max_staleness"] for result in found]
    assert bounds == [0, 2, 5]
    rates = [result.metrics.rejection_rate for result in found]
    assert rates[0] > rates[1] > rates[2] == 0
    assert all(result.runs["staleness_max"].max() <= result.config_snapshot["max_staleness"]
               for result in found)  # fmt: skip
    strict = found[0]
    assert strict.metrics.average_staleness == 0
    assert strict.metrics.total_gradients_rejected > 0
    assert any("gradients are rejected" in reason for reason in strict.failure_reasons)
    assert f"({SEEDS} of {SEEDS} runs)" in strict.failure_reasons[0]


def test_a_progressive_stress_test_ends_at_attackers():
    steps = sorted(("baseline", "byzantine"), key=lambda name: get_challenge(name).difficulty)
    harness = quiet()
    found = harness.run_experiment_batch(["simple"], steps, max_steps=STEPS)
    assert [result.metrics.failures_by_type["byzantine"] for result in found] == [0, 2]
    assert found[1].metrics.total_failures >= 2
    config = found[1].config_snapshot
    assert (config["aggregation_used"], config["aggregation_buffer"]) == ("median", 5)
    assert config["attack"] == "sign_flip"
    assert found[1].notes == []


@pytest.mark.parametrize(
    ("changes", "used", "note"),
    [
        ({}, "mean", "needs 3 gradients per update and the buffer of wan_bandwidth holds 1"),
        ({"use_async": False}, "mean", "trimmed_mean of 4 gradients equals the mean"),
        ({"use_async": False, "trim_ratio": 0.3}, "trimmed_mean", ""),
        ({"challenge": "byzantine", "trim_ratio": 0.2}, "trimmed_mean", ""),
        ({"challenge": "byzantine"}, "mean", "trimmed_mean of 5 gradients equals the mean"),
        ({"aggregation_rule": "mean"}, "mean", ""),
    ],
)
def test_the_rule_gives_way_to_the_mean_only_where_it_must_and_says_so(changes, used, note):
    planned = plan(request_of(SIMPLE | {"challenge": "wan_bandwidth"} | changes))
    assert planned.resolved.aggregator.kind == used
    assert note in planned.aggregation_note
    assert bool(planned.aggregation_note) == bool(note)


def test_no_step_budget_means_the_minimum_of_the_challenge():
    planned = plan(request_of({"scenario": "simple", "challenge": "churn"}))
    assert planned.resolved.steps == get_challenge("churn").min_steps == 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compression_method": "topp"}, "did you mean 'topk'"),
        ({"compression_ratio": 0.0}, "ratio"),
        ({"aggregation_rule": "medean"}, "did you mean 'median'"),
        ({"challenge": "wan_bandwith"}, "did you mean 'wan_bandwidth'"),
        ({"max_step": 3}, "did you mean 'max_steps'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(changes, message):
    with pytest.raises(InputError, match=message):
        quiet().run_experiments([SIMPLE | {"challenge": "wan_bandwidth"} | changes])


def test_json_holds_everything(batch, tmp_path):
    store = ResultsStore(tmp_path)
    path = store.save_batch_results(batch.results, "sub/x.json")
    document = json.loads(path.read_text())
    assert document["experiments"][0]["metrics"]["total_steps"] > 0
    again = store.load_batch_results("sub/x.json")
    for old, new in zip(batch.results, again, strict=True):
        assert new.config_snapshot == old.config_snapshot
        assert new.failure_reasons == old.failure_reasons
        for name in METRICS:
            np.testing.assert_array_equal(new.interval(name), old.interval(name))
        assert str(new.metrics) == str(old.metrics)
    (tmp_path / "y.json").write_text("{}")
    with pytest.raises(ValueError, match="no batch results"):
        store.load_batch_results("y.json")


def test_csv_has_a_line_per_experiment(batch, tmp_path):
    path = ResultsStore().save_results_csv(batch.results, tmp_path / "x.csv")
    frame = ResultsStore(tmp_path).load_results_csv("x.csv")
    assert path == tmp_path / "x.csv"
    assert frame["challenge"].tolist() == [result.challenge for result in batch.results]
    for name in METRICS:
        expected = [result.interval(name) for result in batch.results]
        np.testing.assert_allclose(frame[name], [found.mean for found in expected])
        np.testing.assert_allclose(frame[f"{name}_high"], [found.high for found in expected])
    assert frame["failures_transient"].tolist() == [
        result.metrics.failures_by_type["transient"] for result in batch.results
    ]


def test_statistics_and_comparisons_are_printed(batch, compressions):
    console = console_of(80)
    analyzer = ResultsAnalyzer([*batch.results, *compressions], console)
    analyzer.print_statistics()
    analyzer.print_comparison_by_scenario()
    analyzer.print_comparison_by_challenge()
    analyzer.print_comparison_by_compression()
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for piece in ("Statistics", *METRICS, "By scenario", "By challenge", "unreliable",
                  "By compression", "quantize", "topk 0.01", "±"):  # fmt: skip
        assert piece in text, piece
    with pytest.raises(ValueError, match="no results"):
        ResultsAnalyzer([])


def test_groups_are_compared_like_with_like(batch, compressions):
    def printed(results):
        console = console_of()
        ResultsAnalyzer(results, console).print_comparison_by_compression()
        return console.file.getvalue()

    assert "simple" not in printed(compressions)
    mixed = printed([batch.results[1], *compressions])
    assert "topk 0.05 · simple · wan_latency" in mixed
    assert "topk 0.01 · simple · wan_bandwidth" in mixed


def test_a_group_is_averaged_seed_by_seed(batch):
    own = batch.results[:3]
    by_seed = np.mean([result.runs["time_s"] for result in own], axis=0)
    np.testing.assert_allclose(grouped(own, "total_time_s"), mean_interval(by_seed))


def test_the_report_holds_statistics_comparisons_and_reasons(batch, tmp_path):
    path = ResultsAnalyzer(batch.results).generate_report(tmp_path / "deep" / "report.txt")
    text = path.read_text()
    for piece in ("meet their criteria", "Statistics", "By scenario", "By challenge",
                  "By compression", "Verdicts", "FAIL  simple · wan_bandwidth",
                  "at least 100 needed"):  # fmt: skip
        assert piece in text, piece
    assert "\x1b" not in text


def test_diverged_runs_are_never_averaged_away(batch, tmp_path):
    old = batch.results[0]
    runs = old.runs.copy()
    runs.loc[0, "status"] = "diverged"
    runs.loc[0, "failed_criteria"] = "status"
    result = ExperimentResult(old.config_snapshot, runs)
    assert result.metrics.final_loss == math.inf
    assert any("diverge" in reason for reason in result.failure_reasons)
    store = ResultsStore(tmp_path)
    store.save_batch_results([result], "d.json")
    assert store.load_batch_results("d.json")[0].metrics.final_loss == math.inf
    console = console_of()
    ResultsAnalyzer([result, *batch.results], console).print_statistics()
    assert "diverges" in console.file.getvalue()


def test_most_runs_decide_the_verdict(batch):
    old = batch.results[0]
    for successes, verdict in (([True, True, False], True), ([True, False, False], False)):
        runs = old.runs.assign(success=successes)
        result = ExperimentResult(old.config_snapshot, runs)
        assert result.success_criteria_met is verdict
        assert bool(result.failure_reasons) is not verdict
        assert result.success_rate.mean == pytest.approx(np.mean(successes))


def test_names_carry_the_catalog():
    simple = get_scenario("simple")
    assert (simple.parameters, simple.gradient_bytes, simple.batch_size) == (235_146, 940_584, 64)
    for name in challenges():
        own = get_challenge(name)
        assert own.recommended_compression in METHODS
        assert own.num_workers > 0
    latency = get_challenge("wan_latency")
    assert latency.recommended_async
    assert latency.recommended_compression == "topk"
    assert latency.recommended_compression_ratio == 0.05
    assert latency.recommended_max_staleness == 5
    assert not get_challenge("baseline").recommended_async
    with pytest.raises(InputError, match="did you mean"):
        get_challenge("bizantine")


def test_settings_go_to_a_real_trainer():
    class MainController:
        def __init__(self, use_async, max_staleness, aggregation_rule, trim_ratio, buffer_size):
            self.bound, self.rule, self.buffer = max_staleness, aggregation_rule, buffer_size

    class GradientCompressor:
        def __init__(self, compression_method, compression_ratio, error_feedback):
            self.ratio, self.memory = compression_ratio, error_feedback

    settings = recommended_settings("byzantine")
    controller = MainController(**settings.controller)
    compressor = GradientCompressor(**settings.compressor)
    assert (controller.bound, controller.rule, controller.buffer) == (5, "median", 5)
    assert (compressor.ratio, compressor.memory) == (0.05, True)
    assert json.loads(json.dumps(settings._asdict()))["controller"]["use_async"] is True
    assert not recommended_settings(get_challenge("baseline")).compressor["error_feedback"]


def test_an_empty_harness_says_so():
    harness = quiet()
    harness.print_batch_summary()
    assert "no experiments yet" in harness.console.file.getvalue()
    assert harness.run_experiments([]) == []
