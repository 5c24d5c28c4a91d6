"""Passing settings: the cheapest one is found on the sweep's seeds and counted on fresh ones."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jaxwan.cli import app
from jaxwan.decide import passing_runs
from jaxwan.decide.passing import TRIES, chosen, hopeful, least_share, passing
from jaxwan.decide.passing_guess import guess
from jaxwan.decide.passing_runs import Seen, long_enough
from jaxwan.decide.passing_table import page_rows
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import budget, config_id
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment

SWEEP = """
seeds = 4
[grid]
scenario = "simple"
challenge = ["unreliable", "churn"]
strategy = ["sync", { kind = "diloco", local_steps = [4, 16, 64, 256] }]
compressor = "none"
[overrides]
timing_only = true
"""


def local_steps(resolved):
    return resolved.strategy.static.get("local_steps", 1)


class Pretend:
    """Runs whose cost is their local steps; at some settings a few fresh seeds fail, or diverge."""

    def __init__(self, failing, wild=(), idle=()):
        self.failing, self.wild, self.idle, self.jobs = failing, wild, idle, []

    def row(self, resolved, seed):
        place = (resolved.challenge, local_steps(resolved))
        diverged = not resolved.timing_only and place in self.wild
        success = seed < 4 or seed - 4 >= self.failing.get(place, 0)
        return {
            "config_id": config_id(resolved), "success": success, "cost_usd": place[1],
            "throughput_ratio": 0.5,
            "rejection_rate": 0.0, "steps": resolved.criteria.min_steps,
            "failed_criteria": "" if success else "min_throughput_ratio,status",
            "status": "diverged" if diverged else "ok", "loss_initial": 2.0,
            "loss_final": 1.9 if place in self.idle else 0.25,
        }  # fmt: skip

    def __call__(self, job):
        experiments, seeds = job
        self.jobs.append((experiments, seeds))
        rows = [self.row(resolved, seed) for resolved in experiments for seed in seeds]
        return pd.DataFrame(rows), pd.DataFrame()


@pytest.fixture
def search(monkeypatch, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP)

    def run(failing, wild=(), idle=(), **facts):
        runner = Pretend(failing, wild, idle)
        monkeypatch.setattr(passing_runs, "plan_job", lambda own, seeds: (own, seeds))
        monkeypatch.setattr(passing_runs, "run_in_memory", runner)
        found = passing(file, **facts)
        return found.table.set_index("challenge"), runner, found

    return run


def test_the_cheapest_that_passes_on_fresh_seeds_is_named(search):
    table, runner, found = search({("unreliable", 1): 2, ("churn", 1): 1, ("churn", 4): 1})
    assert [(seeds[0], seeds[-1]) for _, seeds in runner.jobs[:2]] == [(0, 3), (4, 67)]
    assert table.loc["unreliable", "setting"] == "diloco H=4, none"  # sync: 62 of 64
    assert table.loc["churn", "setting"] == "sync, none"  # 63 of 64 are enough
    assert table["passes"].all()
    assert table.loc["churn", "success"] == 63 / 64
    assert found.settings == 5
    assert table.loc["churn", "recommended_setting"] == "async staleness 10, topk 0.01"


def test_where_nothing_passes_the_nearest_is_named_with_what_it_misses(search):
    bad = {("churn", 1): 40, ("churn", 4): 3, ("churn", 16): 9}
    table, _, found = search(bad)
    assert not table.loc["churn", "passes"]
    assert table.loc["churn", "setting"] == "diloco H=4, none"
    row = next(line for line in page_rows(found.records()) if "churn" in line)
    assert "none; nearest (throughput 0.500 of 0.350): diloco H=4" in row
    assert search(bad, share=0.8)[0].loc["churn", "passes"]


def test_only_what_a_guess_puts_near_or_fast_is_run():
    facts = {"scenario": "simple", "challenge": "wan_bandwidth", "compressor": "none"}
    steps = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    own = [long_enough(resolve(Experiment(strategy={"kind": "diloco", "local_steps": h}, **facts)))
           for h in steps]  # fmt: skip
    ratios = np.array([guess(one).ratio for one in own])
    costs = [guess(one).cost for one in own]
    assert (np.diff(ratios) > 0).all()
    assert (np.diff(costs) > 0).all()
    near = next(h for h, ratio in zip(steps, ratios, strict=True) if ratio >= 0.9 * 0.7)
    assert 1 < near < 64
    cheapest, fastest = {near, 2 * near, 4 * near, 8 * near}, {64, 128, 256, 512}
    assert {local_steps(one) for one in hopeful(own)} == cheapest | fastest


def test_a_setting_whose_training_diverges_does_not_pass(search):
    table, runner, found = search({}, wild=[("unreliable", 1), ("churn", 1)])
    assert list(table["setting"]) == ["diloco H=4, none"] * 2
    assert list(table["loss_final"]) == [0.25] * 2
    trained = [sorted({one.challenge for one in own}) for own, _ in runner.jobs[2:]]
    assert trained == [["churn", "unreliable"]] * 3  # sync, then DiLoCo, then the recommended
    wild = [("churn", steps) for steps in (1, 4, 16)]
    table, _, found = search({}, wild=wild)
    assert not table.loc["churn", "passes"]
    row = next(line for line in page_rows(found.records()) if "churn" in line)
    assert "none; nearest (diverges): sync, none" in row
    assert "100 % diverge" in row
    table, *_ = search({}, idle=[("churn", 1), ("churn", 4)])
    assert table.loc["churn", "setting"] == "diloco H=16, none"
    table, runner, found = search({}, wild=wild, learn=False)
    assert table["passes"].all()
    assert len(runner.jobs) == 2
    assert "not checked" in page_rows(found.records())[-1]


def test_the_tries_of_a_place_keep_the_level_together():
    success = np.random.default_rng(0).binomial(64, 0.9, size=(20_000, TRIES))

    def wrongly(tail):
        passes = np.array([least_share(k, 64, tail) >= 0.9 for k in range(65)])
        return passes[success].any(axis=1).mean()

    assert wrongly(0.05 / TRIES) <= 0.05
    assert wrongly(0.05) > 0.08  # without sharing the error
    corrected = 0.05 / TRIES
    assert [least_share(k, 64, corrected) >= 0.9 for k in (62, 63, 64)] == [False, True, True]
    assert least_share(0, 64, corrected) == 0


def seen(strategy, cost, reach=1.5, success=4, compressor="topk"):
    facts = {"scenario": "simple", "challenge": "churn", "compressor": compressor}
    return Seen(resolve(Experiment(strategy=strategy, **facts)), success, 4, cost, 0.5, 0.0, 400.0,
                reach, "")  # fmt: skip


def test_tries_are_the_cheapest_one_with_room_and_one_that_coordinates_otherwise():
    edge, other = seen("async", 1, reach=1.01), seen("async", 1.5, reach=1.02)
    roomy, rounds = seen("async", 2), seen("sync", 9, compressor="int8")
    shaky = seen("sync", 0.5, success=3)
    alike = [seen("async", 3), seen("sync", 4), seen("async", 5, compressor="int8")]
    own = [rounds, *alike, roomy, other, edge, shaky]
    assert chosen(own) == [edge, roomy, rounds]
    assert chosen([edge, shaky, other]) == [shaky, edge, other]
    assert chosen([shaky]) == [shaky]
    assert chosen([one._replace(success=0) for one in own]) == [rounds._replace(success=0)]


def test_runs_are_long_enough_for_the_updates_that_are_asked_for():
    def length(strategy, challenge):
        facts = {"scenario": "simple", "challenge": challenge, "steps": 5}
        return budget(long_enough(resolve(Experiment(strategy=strategy, **facts)))).ticks

    for strategy in ({"kind": "diloco", "local_steps": 8}, "async"):
        assert 150 * 1.25 <= length(strategy, "wan_latency") <= 150 * 1.25 + 4
    assert length({"kind": "diloco", "local_steps": 8}, "unreliable") == 313  # a round, even so
    lossy = [length({"kind": "async_local_sgd", "local_steps": h}, "unreliable") for h in (1, 16)]
    assert 313 < lossy[0] < lossy[1] < 3 * 313
    long = resolve(Experiment(scenario="simple", challenge="baseline", strategy="sync", steps=900))
    assert long_enough(long).steps == 900


def test_the_command_prints_what_was_found(search, tmp_path):
    search({})
    file = str(tmp_path / "sweep.toml")
    shown = CliRunner().invoke(app, ["passing", file])
    assert "2 of 2 places have a setting that passes" in shown.output
    told = json.loads(CliRunner().invoke(app, ["passing", file, "--json"]).stdout)
    assert [row["setting"] for row in told["places"]] == ["sync, none"] * 2
    lines = CliRunner().invoke(app, ["passing", file, "--markdown"]).stdout.splitlines()
    assert len(lines) == 4


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"share": 0.0}, {"seeds": 38}])
def test_wrong_numbers_are_refused(search, wrong):
    with pytest.raises(InputError):
        search({}, **wrong)


def test_a_small_search_runs_to_its_end_and_finds_what_the_guess_says(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text('seeds = 12\nsteps = 1\n[grid]\nscenario = "moderate"\n'
                    'challenge = "wan_latency"\ncompressor = { kind = "topk", ratio = 0.01 }\n'
                    'strategy = { kind = "async_local_sgd", local_steps = 16 }\n'
                    '[overrides]\ntiming_only = true\n')  # fmt: skip
    row = passing(file, share=0.5, seeds=6, learn=False).records()[0]
    assert row["passes"]
    assert row["success"] == 1
    assert row["recommended_success"] == 0
    assert row["updates"] >= 150
    fields = {"strategy": {"kind": "async_local_sgd", "local_steps": 16}, "compressor": "topk"}
    own = resolve(Experiment(scenario="moderate", challenge="wan_latency", steps=1, **fields))
    expected = guess(long_enough(own))
    assert row["throughput_ratio"] == pytest.approx(expected.ratio, rel=0.1)
    assert row["cost_usd"] == pytest.approx(expected.cost, rel=0.1)
