"""What the studies in `docs/studies.md` claim, on fewer seeds."""

from pathlib import Path

import numpy as np
import pytest

from jaxwan.api import simulate
from jaxwan.experiment.sweepfile import Sweep

SWEEPS = Path(__file__).parents[1] / "sweeps"


@pytest.fixture(scope="module")
def staleness():
    """Time the staleness sweep: what is rejected does not depend on the gradients."""
    experiments = Sweep.from_toml(SWEEPS / "staleness.toml").expand()
    timed = [experiment.replace(timing_only=True) for experiment, _ in experiments]
    return simulate(timed, seeds=32).frame


def by_bound(frame, column):
    """Return one row per seed, one column per staleness bound in rising order `[seed, bound]`."""
    table = frame.pivot(index="seed", columns="strategy.max_staleness", values=column)
    assert list(table.columns) == [3, 5, 8, 10, 15]
    return table.to_numpy()


@pytest.mark.parametrize(("column", "sign"), [("rejection_rate", -1), ("staleness_mean", 1)])
def test_a_wider_bound_rejects_less_and_lets_staler_updates_in(staleness, column, sign):
    steps = sign * np.diff(by_bound(staleness, column), axis=1)
    assert (steps >= 0).all()
    error = steps.std(axis=0, ddof=1) / np.sqrt(len(steps))
    assert (steps.mean(axis=0) - 3 * error)[:2].min() > 0  # 3 to 5 and 5 to 8
    assert (steps[:, 2:] == 0).all()  # nobody is between 8 and 15 updates late: only far beyond


def test_a_wider_bound_delivers_more_samples_a_second(staleness):
    tight, wide = by_bound(staleness, "samples_per_s")[:, [0, 2]].T
    gain = wide - tight
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(len(gain))
