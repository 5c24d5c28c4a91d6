"""From a log of pings, transfers and steps to a fleet file: intervals that cover, and refusals."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxwan.cli import app
from jaxwan.decide.calibrate import calibrate
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment

TRUTH = {  # speed, up, down, one-way delay, jitter, loss
    "oslo": (1.0, 5e8, 9e8, 0.02, 0.001, 0.0),
    "lima": (0.5, 4e7, 8e7, 0.11, 0.004, 0.01),
    "pune": (0.8, 2e8, 2e8, 0.08, 0.002, 0.0),
}
STEP_S, SIGMA = 0.4, 0.15
FIELDS = ("speed", "up_bps", "down_bps", "delay_s", "jitter_s", "loss")


def log_of(seed, n=40):
    """Write a log of the fleet above: steps of mean 1 lognormal noise, normal one-way delays."""
    rng = np.random.default_rng(seed)
    lines = ["worker,kind,value"]
    for name, (speed, up, down, delay, jitter, loss) in TRUTH.items():
        ways = delay + jitter * rng.normal(size=(2, n))
        steps = STEP_S / speed * np.exp(SIGMA * rng.normal(size=n) - SIGMA**2 / 2)
        columns = {
            "rtt": ways.sum(axis=0), "step": steps,
            "up": up * np.exp(0.1 * rng.normal(size=n)),
            "down": down * np.exp(0.1 * rng.normal(size=n)),
        }  # fmt: skip
        if loss:
            columns["loss"] = rng.binomial(1000, loss, size=n) / 1000
        lines += [f"{name},{kind},{value!r}" for kind, values in columns.items()
                  for value in map(float, values)]  # fmt: skip
    return "\n".join(lines) + "\n"


def test_intervals_cover_the_fleet_that_made_the_log(tmp_path):
    """16 figures in each of 20 logs, at 95 %: within three standard errors."""
    file, hits, sigmas, total = tmp_path / "log.csv", 0, 0, 0
    for seed in range(20):
        file.write_text(log_of(seed))
        found = calibrate(file, STEP_S)
        for name, figures in found.workers.items():
            truth = dict(zip(FIELDS, TRUTH[name], strict=True))
            for field, own in figures.items():
                hits += own.low <= truth[field] <= own.high
                total += 1
        sigmas += found.sigma.low <= SIGMA <= found.sigma.high
    assert total == 20 * 16
    assert abs(hits / total - 0.95) < 3 * math.sqrt(0.95 * 0.05 / total)
    assert sigmas >= 16  # of 20 at 95 %: fewer with 0.03 %


def test_the_written_fleet_is_one_that_runs(tmp_path):
    log, fleet = tmp_path / "log.csv", tmp_path / "fleet.toml"
    log.write_text(log_of(1))
    done = CliRunner().invoke(app, ["calibrate", str(log), "--out", str(fleet)])
    assert done.exit_code == 0, done.output
    text = fleet.read_text()
    assert "compute.sigma = 0.1" in text
    assert "# 95 %: " in text
    resolved = resolve(Experiment(scenario="simple", challenge=str(fleet)))
    for worker in resolved.workers:
        speed, up, down, delay, jitter, loss = TRUTH[worker.name]
        np.testing.assert_allclose(
            [worker.speed, worker.up_bps, worker.down_bps, worker.delay_s],
            [speed, up, down, delay], rtol=0.1,
        )  # fmt: skip
        assert worker.jitter_s == pytest.approx(jitter, rel=0.5)
        assert worker.loss == pytest.approx(loss, abs=0.002)
    told = json.loads(CliRunner().invoke(app, ["calibrate", str(log), "--json"]).output)
    assert told["workers"]["lima"]["delay_s"]["n"] == 40


def test_units_regions_and_what_is_missing(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(
        "worker, kind, value, unit, region\n"
        "a,rtt,20,ms,north\na,rtt,22,ms,\na,up,100,Mbps,\nb,rtt,0.5,s,south\nb,down,2,Gbps,\n"
        "b,loss,1,%,\n"
    )
    found = calibrate(log)
    assert found.regions == {"a": "north", "b": "south"}
    assert found.workers["a"]["delay_s"].value == pytest.approx(0.0105)
    assert found.workers["a"]["up_bps"].value == found.workers["a"]["down_bps"].value == 1e8
    assert found.workers["b"]["loss"].value == pytest.approx(0.01)
    assert math.isnan(found.workers["b"]["delay_s"].low)
    assert found.sigma is None
    assert "a: no down was measured; it is taken to be as up" in found.notes
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(found.toml)
    assert resolve(Experiment(scenario="simple", challenge=str(fleet))).workers[1].region == "south"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "missing column 'worker'"),
        ("worker,kind,value\n", "no measurements"),
        ("worker,kind,value,hue\n", "unknown column 'hue'"),
        ("worker,kind,value\na,rtt\n", "line 2: the number of cells"),
        ("worker,kind,value\na,rtt,1\na,ping,1\n", "line 3: kind: unknown kind 'ping'"),
        ("worker,kind,value\na,rtt,fast\n", "line 2: value: expected a number, got 'fast'"),
        ("worker,kind,value\na,rtt,-1\n", r"line 2: value: '-1' is not allowed for rtt \(allowed"),
        ("worker,kind,value\na,up,nan\n", "line 2: value: 'nan' is not allowed"),
        ("worker,kind,value\na,loss,1\n", "allowed: 0 to below 1"),
        ("worker,kind,value,unit\na,rtt,1,Mbps\n", "line 2: unit: unknown unit 'Mbps'"),
        ("worker,kind,value\n,rtt,1\n", "line 2: worker: is empty"),
        ('worker,kind,value\n"a\nb",rtt,1\n', "line 3: worker: .* has characters"),
        ("worker,kind,value,region\na,rtt,1,x\na,rtt,1,y\n", "line 3: region: 'a' is in 'x'"),
        ("worker,kind,value\na,up,1\n", "worker 'a' has no rtt"),
        ("worker,kind,value\na,rtt,1\n", "neither up nor down"),
    ],
)  # fmt: skip
def test_malformed_logs_are_refused_with_their_place(tmp_path, text, problem):
    log = tmp_path / "log.csv"
    log.write_text(text)
    with pytest.raises(InputError, match=problem):
        calibrate(log)
