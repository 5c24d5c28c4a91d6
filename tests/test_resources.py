"""Energy, cost and memory against sums worked out by hand."""

import numpy as np
import pytest

from jaxwan.api import simulate
from jaxwan.experiment.devices import fits, memory_bytes
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import compress_s
from jaxwan.experiment.prices import DEVICES, NETWORK_J_PER_BYTE, PROVIDERS
from jaxwan.experiment.resolve import resolve, resolve_and_warn
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
        cost = online / 3600 * device.usd_per_hour + moved / 1e9 * PROVIDERS["aws"].usd_per_gb
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


def test_spot_hours_and_free_traffic_are_cheaper():
    base = {"compute": {"device": "h100"}}
    changes = ({}, {"pricing": "spot"}, {"provider": "unmetered"}, {"provider": "gcp"})
    runs = [experiment(**base, **own) for own in changes]
    frame = simulate(runs, seeds=1).frame
    demand, spot, free, google = frame["cost_usd"]
    assert frame["time_s"].nunique() == 1
    hours = frame["active_workers_mean"][0] * frame["time_s"][0] / 3600
    gigabytes = (frame["bytes_sent"][0] + frame["bytes_received"][0]) / 1e9
    assert demand - spot == pytest.approx(hours * (2.69 - 0.81))
    assert demand - free == pytest.approx(gigabytes * 0.09)
    assert google - free == pytest.approx(gigabytes * 0.12)
    assert free == pytest.approx(hours * 2.69)


def test_each_worker_pays_its_own_providers_egress(tmp_path):
    """Two equal workers: half of the bytes leaves each."""
    worker = '[[worker]]\nnetwork = "lan"\nprovider = "{}"\n'
    (tmp_path / "two.toml").write_text(worker.format("aws") + worker.format("unmetered"))
    own = {"challenge": str(tmp_path / "two.toml"), "strategy": "sync", "aggregator": "mean"}
    frame = simulate([experiment(**own), experiment(**own, provider="unmetered")], seeds=1).frame
    moved = frame["bytes_sent"][0] + frame["bytes_received"][0]
    assert frame["cost_usd"][0] - frame["cost_usd"][1] == pytest.approx(moved / 2e9 * 0.09)


def speeds(path, text, **compute):
    """Return the workers' speeds of a fleet under some compute settings."""
    path.write_text(text)
    return [w.speed for w in resolve(experiment(challenge=str(path), compute=compute)).workers]


def test_a_device_sets_the_speed_unless_it_is_stated(tmp_path):
    fleet = "".join(
        f'[[worker]]\nnetwork = "lan"\n{line}\n'
        for line in ("", 'device = "h100"', 'device = "h100"\nspeed = 0.5', 'device = "cpu"')
    )
    found = speeds(tmp_path / "fleet.toml", fleet)
    assert found == pytest.approx([1.0, 989 / 312, 0.5, 1.0])
    assert speeds(tmp_path / "fleet.toml", fleet, precision="fp32")[1] == pytest.approx(67 / 19.5)
    own = speeds(tmp_path / "fleet.toml", fleet, device="rtx_4090")
    assert own == pytest.approx([s * 165.2 / 312 for s in (1.0, 1.0, 0.5, 1.0)])
    assert speeds(tmp_path / "fleet.toml", fleet, device="h100", speed=2.0) == [2.0] * 4
    assert speeds(tmp_path / "fleet.toml", fleet, device="reference_gpu") == [1.0, 1.0, 0.5, 1.0]


def test_every_figure_has_a_source_and_makes_sense():
    for entry in DEVICES.values():
        assert entry.source
        assert entry.busy_w > entry.idle_w > 0
        assert entry.usd_per_hour > entry.spot_usd_per_hour > 0
        assert entry.bf16_flops >= entry.fp32_flops > 0
    assert all(provider.source for provider in PROVIDERS.values())


def test_compression_takes_its_time_and_none_takes_none():
    rate = {"compression_bytes_per_s": 1e7}
    plain, slow = experiment(strategy="sync"), experiment(strategy="sync", compute=rate)
    extra = 4 * 235_146 / 1e7
    assert compress_s(resolve(slow)) == pytest.approx(extra)
    assert compress_s(resolve(plain)) == 0.0
    assert compress_s(resolve(experiment(compressor="none", compute=rate))) == 0.0
    frame = simulate([plain, slow], seeds=1).frame
    assert frame["time_s"][1] - frame["time_s"][0] == pytest.approx(10 * extra, rel=1e-4)


def test_a_model_that_does_not_fit_is_said_so():
    tight = experiment(scenario="llm_scale", compute={"device": "rtx_4090"})
    _, [warning] = resolve_and_warn(tight)
    assert "does not fit (rtx_4090 24 GB)" in warning
    assert warning.startswith("memory: llm_scale with ")
    assert resolve_and_warn(experiment())[1] == []
    results = simulate(tight, seeds=1)
    assert not results.frame["memory_fits"].any()


BAD = {
    "device": ({"compute": {"device": "h10"}}, ["compute.device", "did you mean 'h100'"]),
    "pricing": ({"pricing": "sport"}, ["pricing", "did you mean 'spot'"]),
    "provider": ({"provider": "awss"}, ["provider", "did you mean 'aws'"]),
    "precision": ({"compute": {"precision": "fp31"}}, ["compute.precision", "'fp32'"]),
    "rate": ({"compute": {"compression_bytes_per_s": 0.0}}, ["compression_bytes_per_s", "> 0"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_price_is_refused_in_one_line(case):
    fields, wanted = BAD[case]
    with pytest.raises(InputError) as caught:
        experiment(**fields)
    for part in wanted:
        assert part in str(caught.value)
