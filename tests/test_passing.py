"""Passing settings: the cheapest one is found on the sweep's seeds and counted on fresh ones."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from jaxwan.cli import app
from jaxwan.decide import passing as module
from jaxwan.decide.passing import long_enough, passing
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import budget, config_id
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment

SWEEP = """
seeds = 4
[grid]
scenario = "simple"
challenge = ["unreliable", "churn"]
strategy = ["sync", { kind = "diloco", local_steps = [4, 16] }]
compressor = "none"
[overrides]
timing_only = true
"""


class Pretend:
    """Runs whose cost is their steps; at some settings a few fresh seeds fail."""

    def __init__(self, failing):
        self.failing, self.seeds = failing, []

    def __call__(self, job):
        rows = []
        for resolved in job.experiments:
            steps = resolved.strategy.static.get("local_steps", 1)
            bad = self.failing.get((resolved.challenge, steps), 0)
            for seed in self.given:
                success = seed < 4 or seed - 4 >= bad
                rows.append({
                    "config_id": config_id(resolved), "success": success, "cost_usd": steps,
                    "throughput_ratio": 0.5, "rejection_rate": 0.0,
                    "failed_criteria": "" if success else "min_throughput_ratio,status",
                })  # fmt: skip
        return pd.DataFrame(rows), pd.DataFrame()


@pytest.fixture
def search(monkeypatch, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP)

    def run(failing, **facts):
        runner = Pretend(failing)

        def plan(experiments, seeds):
            runner.given = seeds
            runner.seeds.append((seeds[0], seeds[-1]))
            return type("Job", (), {"experiments": experiments})

        monkeypatch.setattr(module, "plan_job", plan)
        monkeypatch.setattr(module, "run_in_memory", runner)
        found = passing(file, **facts)
        return found.table.set_index("challenge"), runner, found

    return run


def test_the_cheapest_that_passes_on_fresh_seeds_is_named(search):
    table, runner, found = search({("unreliable", 1): 2, ("churn", 1): 1, ("churn", 4): 1})
    assert runner.seeds == [(0, 3), (4, 67)]
    assert table.loc["unreliable", "setting"] == "diloco H=4, none"  # sync: 62 of 64
    assert table.loc["churn", "setting"] == "sync, none"  # 63 of 64 are enough
    assert table["passes"].all()
    assert table.loc["churn", "success"] == 63 / 64
    assert found.settings == 3
    assert table.loc["churn", "recommended"] == "async staleness 10, topk 0.01"


def test_where_nothing_passes_the_nearest_is_named_with_what_it_misses(search):
    bad = {("churn", 1): 40, ("churn", 4): 3, ("churn", 16): 9}
    table, _, found = search(bad)
    assert not table.loc["churn", "passes"]
    assert table.loc["churn", "setting"] == "diloco H=4, none"
    row = next(line for line in module.page_rows(found) if "churn" in line)
    assert "none; nearest misses min_throughput_ratio: diloco H=4" in row
    assert search(bad, share=0.8)[0].loc["churn", "passes"]


def test_runs_are_long_enough_for_the_updates_that_are_asked_for():
    for strategy, updates in (({"kind": "diloco", "local_steps": 8}, 250), ("async", 250)):
        one = long_enough(resolve(Experiment(scenario="simple", challenge="unreliable",
                                             strategy=strategy, steps=5)))  # fmt: skip
        assert budget(one).ticks >= updates * 1.25
        assert budget(one).ticks <= updates * 1.25 + len(one.workers)
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


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"share": 0.0}, {"seeds": 1}])
def test_wrong_numbers_are_refused(search, wrong):
    with pytest.raises(InputError):
        search({}, **wrong)
