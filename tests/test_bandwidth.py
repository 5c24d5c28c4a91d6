"""Bandwidth for a compute utilization: the formula, the simulation, and where they must agree."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from jaxwan.bandwidth import (
    TARGETS,
    Fleet,
    Simulated,
    answers,
    crossing_bps,
    simulate,
)
from jaxwan.experiment.errors import InputError
from jaxwan.stats.intervals import Interval
from jaxwan.stats.maxima import exponential_first, geometric_max, harmonic, lognormal_max
from jaxwan.utilization import (
    Training,
    first_reaching,
    needed_bps,
    release_s,
    stalls_s,
    utilization,
)

ONE = Training(1e9, 24, 0.1, local_steps=100)


def test_the_backward_pass_releases_the_last_layer_first():
    ready = release_s(Training(1e9, 4, 3.0))
    assert ready == pytest.approx([3.0, 2.5, 2.0, 1.5])


def test_a_slow_link_is_never_idle_and_a_fast_one_never_stalls():
    slow, fast = 1e6, 1e15
    first = release_s(ONE).min()
    assert stalls_s(ONE, slow).sum() == pytest.approx(first + 16e9 / slow - 0.1)
    assert utilization(ONE, fast) == pytest.approx(1, abs=1e-6)
    streams = ONE._replace(fragments=8, overlap_steps=1)
    assert utilization(streams, fast) == 1


def test_streaming_sends_what_diloco_sends():
    slow = 1e6
    streams = ONE._replace(fragments=8)
    late = stalls_s(streams, slow)
    assert late.shape == (8,)
    assert late.sum() == pytest.approx(16e9 / slow, rel=1e-3)


def test_the_needed_bandwidth_is_the_least_that_reaches():
    for training in (ONE, ONE._replace(local_steps=1), ONE._replace(fragments=8, overlap_steps=1)):
        for target in TARGETS:
            bps = needed_bps(training, target)
            assert utilization(training, bps) >= target > utilization(training, 0.999 * bps)
    assert first_reaching(ONE, 0.99, np.array([1e3, 1e4])) == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"parameters": 0}, "parameters"), ({"step_s": math.inf}, "step_s"),
        ({"bits": math.nan}, "bits"), ({"fragments": 25}, "fragments"),
        ({"overlap_steps": -1}, "overlap_steps"),
        ({"fragments": 10, "overlap_steps": 10}, "overlap_steps"),
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        ONE._replace(**changes).check()


def test_expected_maxima():
    assert harmonic(8) == pytest.approx(2.7179, abs=5e-5)
    assert exponential_first(16, 16) == pytest.approx(3.3807, abs=5e-5)
    assert exponential_first(1, 8, rate=2.0) == pytest.approx(1 / 16)
    for n, sigma, wanted in ((8, 0.3, 1.4907), (64, 0.3, 1.9494), (8, 1.0, 3.0838)):
        assert lognormal_max(n, sigma) == pytest.approx(wanted, abs=5e-5)
    assert geometric_max(0.25, 1) == pytest.approx(4 / 3)
    assert geometric_max(0.0, 50) == 1


def test_simulation_without_luck_is_the_formula():
    """Many layers, no noise, a local network, nobody fails: nothing that the formula lacks."""
    training = ONE._replace(layers=1000)
    found = answers(training, simulate(training, Fleet(sigma=0.0, seeds=2, rounds=200)))
    for record in found[:4]:
        assert record["simulated_bps"] == pytest.approx(record["formula_bps"], rel=0.03)


def test_stragglers_lower_the_ceiling():
    quiet = simulate(ONE, Fleet(sigma=0.0, seeds=8))
    noisy = simulate(ONE, Fleet(sigma=0.3, seeds=8))
    assert quiet.ceiling.low > 0.99
    assert noisy.ceiling.high < 0.85
    mean = 1 / lognormal_max(4, 0.3)
    assert noisy.ceiling.low - 0.01 < mean < noisy.ceiling.high + 0.01


def test_a_crossing_lies_between_its_neighbours():
    grid = np.array([1e6, 1e8, 1e10, np.inf])
    assert crossing_bps(grid, [0.2, 0.4, 0.8, 0.9], 0.6) == pytest.approx(1e9)
    assert crossing_bps(grid, [0.7, 0.7, 0.8, 0.9], 0.6) == 1e6
    assert crossing_bps(grid, [0.7, 0.5, 0.7, 0.9], 0.6) == pytest.approx(1e9)
    assert crossing_bps(grid, [0.2, 0.4, 0.5, 0.6], 0.6) == math.inf
    assert crossing_bps(grid, [0.2, np.nan, 0.5, 0.55], 0.6) == math.inf


def test_an_interval_may_be_open_above():
    mean, low, high = np.array([[0.4, 0.6, 0.9], [0.3, 0.49, 0.8], [0.5, 0.7, 0.95]])
    share = Interval(mean, low, high, np.full(3, 9))
    found = answers(ONE, Simulated(np.array([1e9, 1e10, np.inf]), share, 4))[0]
    assert found["high_bps"] is None
    assert found["low_bps"] == 1e9 < found["simulated_bps"]
    assert found["of_ceiling_bps"] < found["simulated_bps"]


def test_seeds_and_rounds_are_checked():
    for fleet in (Fleet(seeds=1), Fleet(rounds=0), Fleet(workers=0), Fleet(challenge="nope")):
        with pytest.raises(InputError):
            simulate(ONE, fleet)


def told(*words):
    line = [sys.executable, "-m", "jaxwan.cli", "bandwidth", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_says_both():
    done = told("--seeds", 4, "--rounds", 10, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [record["utilization"] for record in facts["answers"]] == list(TARGETS)
    first = facts["answers"][0]
    assert first["formula_bps"] < first["low_bps"] <= first["simulated_bps"] <= first["high_bps"]


def test_a_scenario_brings_its_model(capsys, monkeypatch):
    from jaxwan.commands.bandwidth import bandwidth_command

    monkeypatch.setattr("jaxwan.bandwidth.simulate", lambda *_: None)
    bandwidth_command(scenario="moderate", fragments=8, overlap_steps=1, seeds=2, rounds=3,
                      layers=24, local_steps=100, bits=16, traffic=1.0, challenge="baseline")
    first = capsys.readouterr().out.splitlines()[1]
    assert "1B parameters" not in first
    assert "8 fragments, overlap 1" in first


@pytest.mark.parametrize(
    "words", [("--layers", 0), ("--scenario", "simpel"), ("--bits", "nan"), ("--seeds", 1)]
)
def test_a_wrong_number_is_one_line(words):
    refused = told(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.strip().splitlines()) == 1


def test_streaming_in_the_world_asks_for_what_the_formula_says():
    """Without noise, and with so many layers that the gradient leaves evenly."""
    streaming = ONE._replace(fragments=8, overlap_steps=2, layers=1000)
    simulated = simulate(streaming, Fleet(sigma=0.0, seeds=2, rounds=6))
    for record in answers(streaming, simulated)[:3]:
        assert 0.99 < record["simulated_bps"] / record["formula_bps"] < 1.02
    whole = simulate(ONE._replace(layers=1000), Fleet(sigma=0.0, seeds=2, rounds=6))
    (half, *_), (more, *_) = answers(streaming, simulated), answers(ONE, whole)
    assert half["simulated_bps"] < more["simulated_bps"]
