"""Energy, cost and memory against sums worked out by hand."""

import numpy as np
import pytest

from jaxwan.api import simulate
from jaxwan.experiment.devices import (
    DEVICES,
    EGRESS_USD_PER_GB,
    NETWORK_J_PER_BYTE,
    fits,
    memory_bytes,
)
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.learning.problems import PROBLEMS, with_defaults


def experiment(**changes):
    """Return a timing-only run on a network without failures."""
    base = {"scenario": "simple", "challenge": "wan_bandwidth", "steps": 10, "timing_only": True}
    return Experiment(**(base | changes))


def test_a_fleet_of_equal_devices_draws_and_costs_its_hours():
    frame = simulate([experiment(), experiment(compute={"device": "cpu"})], seeds=2).frame
    for kind, run in (("reference_gpu", frame.iloc[0]), ("cpu", frame.iloc[2])):
        device = DEVICES[kind]
        online = run["active_workers_mean"] * run["time_s"]
        busy = run["compute_utilization"] * online
        moved = run["bytes_sent"] + run["bytes_received"]
        energy = busy * device.busy_w + (online - busy) * device.idle_w + moved * NETWORK_J_PER_BYTE
        cost = online / 3600 * device.usd_per_hour + moved / 1e9 * EGRESS_USD_PER_GB
        assert run["energy_j"] == pytest.approx(energy, rel=1e-6)
        assert run["cost_usd"] == pytest.approx(cost, rel=1e-6)


def test_memory_adds_up():
    """Sync, sgd, no memory of errors: weights, gradients, a receive buffer, a dense update."""
    plain = resolve(experiment(strategy="sync", compressor="none", aggregator="mean"))
    count, batch, per_sample = 235_146, 64, 784 + 256 + 128 + 10
    assert memory_bytes(plain) == 4 * (3 * count + batch * per_sample) + 4 * count
    adam = resolve(
        experiment(strategy="sync", compressor="none", aggregator="mean", optimizer="adam")
    )
    assert memory_bytes(adam) - memory_bytes(plain) == 2 * 4 * count
    remembering = resolve(
        experiment(strategy="sync", compressor={"kind": "topk", "ratio": 1.0}, aggregator="mean")
    )
    assert memory_bytes(remembering) > memory_bytes(plain)


def test_a_billion_parameters_with_their_activations_do_not_fit():
    assert fits(resolve(experiment()))
    assert not fits(resolve(experiment(scenario="llm_scale")))


@pytest.mark.parametrize("kind", PROBLEMS)
def test_activations_are_counted_without_allocating(kind):
    count = PROBLEMS[kind].activations(with_defaults(kind, {}))
    assert isinstance(count, int | np.integer)
    assert count >= 0
