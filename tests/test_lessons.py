"""Learn once, price thousands: fewer learners, the same rows bit for bit."""

import numpy as np
import pandas as pd
import pytest

from jaxwan import engine
from jaxwan.executors.lessons import digests
from jaxwan.executors.local import Local
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.sweep import plan_job, run_in_memory

NETWORKS = ("lan", "fast_wan", "edge")
SEEDS = (0, 1, 2)


def job_of(strategy, **fields):
    runs = [
        Experiment(scenario="simple", challenge="heterogeneous", network=name, strategy=strategy,
                   compressor="none", steps=6, **fields)
        for name in NETWORKS
    ]  # fmt: skip
    return plan_job([resolve(run) for run in runs], SEEDS)


def both(job):
    """Return rows and curves of a job by executors that share curves and that do not."""
    found = []
    for share in (True, False):
        executor = Local(job, share)
        found.append((*run_in_memory(job, executor=executor), executor.tally))
    return found


@pytest.mark.optimized
def test_synchronous_runs_learn_once_for_all_networks():
    (frame, curves, tally), (every, all_curves, whole) = both(job_of("sync"))
    assert tally == (9, 3)
    assert whole == (9, 9)
    pd.testing.assert_frame_equal(frame, every, check_exact=True)
    pd.testing.assert_frame_equal(curves, all_curves, check_exact=True)
    assert frame.groupby("seed")["loss_final"].nunique().eq(1).all()
    assert frame.groupby("seed")["time_s"].nunique().eq(3).all()


@pytest.mark.optimized
def test_asynchronous_runs_share_nothing_that_differs():
    (frame, curves, tally), (every, all_curves, _) = both(job_of("async"))
    assert tally.wanted == 9
    assert tally.trained > 3
    pd.testing.assert_frame_equal(frame, every, check_exact=True)
    pd.testing.assert_frame_equal(curves, all_curves, check_exact=True)
    assert frame.groupby("seed")["loss_final"].nunique().gt(1).all()


def test_a_curve_is_kept_from_call_to_call():
    job = job_of("sync")
    executor = Local(job)
    once = list(executor.execute(job.chunks))
    before = len(engine.traces)
    again = list(executor.execute(job.chunks))
    assert executor.tally == (18, 3)
    assert len(engine.traces) == before
    for first, second in zip(once, again, strict=True):
        pd.testing.assert_frame_equal(first.rows, second.rows, check_exact=True)


def test_a_digest_tells_seeds_knobs_and_ticks_apart_up_to_the_end_of_the_run():
    knobs = {"lr": np.array([0.1, 0.1, 0.2, 0.1, 0.1], np.float32)}
    seeds = np.array([1, 2, 1, 1, 1], np.uint32)
    ticks = np.zeros((5, 4, 2), np.int32)
    ticks[3, 1, 1] = 1  # in the run
    ticks[4, 3, 0] = 1  # after its end
    names = digests(knobs, seeds, ticks, [3] * 5)
    assert len(set(names)) == 4
    assert names[0] == names[4]
