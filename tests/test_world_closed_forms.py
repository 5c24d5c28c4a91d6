"""Published closed forms, read off the world within the standard error at fixed keys.

The expected time of a barrier is held in `test_validate`, over the same fleets.
"""

import numpy as np
import pytest
from helpers.worlds import (
    EXPONENTIAL,
    failing,
    lognormal,
    moments_of,
    plan_of,
    run,
    seconds,
    stack,
    world_knobs,
)

from jaxwan.world.durations import LAWS

RUNS = 32
FREE = {"update_bits": 0.0, "dense_bits": 0.0}


def near(samples, expected, bias=0.0):
    """Assert that independent samples average to the expected value within 3 standard errors.

    `bias` bounds what the start of the run may add.
    """
    samples = np.asarray(samples, np.float64)
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    assert error < 0.03 * abs(expected), "too few samples to tell"
    assert abs(samples.mean() - expected) < 3 * error + bias, (samples.mean(), expected, error)


ARRIVALS, N = 1200, 8


@pytest.fixture(scope="module")
def async_ages():
    """Ages of accepted arrivals [law, run, tick] after the start-up transient, no bound."""
    laws = (EXPONENTIAL, lognormal(0.3), lognormal(1.0))
    rows = [world_knobs(N, compute_noise=law, **FREE) for law in laws for _ in range(RUNS)]
    plan = plan_of("events", N, 1, ARRIVALS)
    moments, outcome = run(plan, stack(rows), np.arange(len(rows)))
    assert np.all(outcome.totals.accepted == ARRIVALS)
    ages = moments.tick.base_age[:, :, 0].T.reshape(len(laws), RUNS, ARRIVALS)
    return ages[:, :, 30 * N :].astype(np.float64)


@pytest.mark.parametrize("law", range(3))
def test_staleness_averages_n_minus_one_under_any_law(async_ages, law):
    near(async_ages[law].mean(axis=1), N - 1)


def test_exponential_staleness_is_geometric(async_ages):
    near(((async_ages[0] - (N - 1)) ** 2).mean(axis=1), N * (N - 1))
    ages = async_ages[0].ravel()
    for age in range(4):
        near((async_ages[0] == age).mean(axis=1), (1 - 1 / N) ** age / N)
    assert ages.max() > 3 * N


def test_less_noise_means_less_spread(async_ages):
    """Lognormal σ = .3 is close to round-robin, so its spread is far below the geometric one."""
    assert async_ages[1].var() < 0.5 * N * (N - 1)


@pytest.mark.parametrize("law", LAWS)
def test_availability_is_the_share_of_uptime(law):
    """Up 6 s, down 2 s on average: a long run is up 3/4 of its time, whatever the law."""
    up, down = LAWS[law].cast(6.0, 0.7), LAWS[law].cast(2.0, 0.7)
    knobs = world_knobs(N, outages=failing((up, down)), step_s=2.0)
    plan = plan_of("events", N, 1, ARRIVALS)
    runs = 3 * RUNS
    _, outcome = run(plan, stack([knobs] * runs), np.arange(runs))
    assert outcome.status.max() == 0
    share = (outcome.up_s / seconds(outcome.now)[:, None]).mean(axis=1)
    near(share, 0.75, bias=6.0 / seconds(outcome.now).min())


def test_two_workers_without_bound_share_evenly():
    """A worker twice as fast ends twice as many cycles."""
    knobs = world_knobs(N, 2, speed=[2.0] + [1.0] * (N - 1), compute_noise=EXPONENTIAL, **FREE)
    plan = plan_of("events", N, 1, ARRIVALS)
    runs = 3 * RUNS
    moments, outcome = run(plan, stack([knobs] * runs), np.arange(runs))
    near(outcome.totals.arrivals[:, 0] / ARRIVALS, 2 / 3)
    assert moments_of(moments, 0).tick.worker.max() == 1
