"""Attackers that begin later: honest until then, and without a trace if the run ends before."""

import jax
import numpy as np
import pytest
from helpers.worlds import compiled_run, plan_of, stack, world_knobs

from jaxwan.api import simulate
from jaxwan.core import clock
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment

ONSET_S = 6.5


def attacked(protocol):
    """Run four workers of 1 s a step without noise or network; two of them attack from 6.5 s."""
    knobs = world_knobs(
        4, attacker=[False, True, False, True], onset_s=ONSET_S, compute_noise=(1.0, 0.0, 0.0),
        update_bits=0.0, dense_bits=0.0, speed=[1.0, 1.0, 1.0, 0.25],
    )  # fmt: skip
    plan = plan_of(protocol, 4, 4 if protocol == "barrier" else 1, 40)
    moments, _ = compiled_run(plan, stack([knobs]), np.zeros(1, np.uint32))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], moments)


def test_an_arrival_is_an_attack_from_the_onset_on():
    moments = attacked("events")
    when = np.asarray(clock.to_seconds(moments.now))
    malicious = np.isin(moments.tick.worker[:, 0], (1, 3)) & (when >= ONSET_S)
    np.testing.assert_array_equal(moments.tick.attacker[:, 0], malicious)
    assert malicious.any()
    assert (np.isin(moments.tick.worker[:, 0], (1, 3)) & ~malicious).any()


def test_within_a_round_each_worker_counts_by_its_own_arrival():
    """Rounds last 4 s: in the second, worker 1 is done at 5 s and worker 3 at 8 s."""
    attacker = attacked("barrier").tick.attacker
    assert attacker[0].tolist() == [False] * 4
    assert attacker[1].tolist() == [False, False, False, True]
    assert (attacker[2:] == [False, True, False, True]).all()


def experiment(**changes):
    """Return a short run under two attackers of five."""
    base = {"scenario": "simple", "challenge": "byzantine", "strategy": "sync", "steps": 20,
            "aggregator": "mean", "compressor": "none",
            "learning": {"eval_points": 20}}  # fmt: skip
    return Experiment(**base | changes)


@pytest.fixture(scope="module")
def runs():
    """Run without attack, with one from the middle, with one that comes too late, and always."""
    without = experiment(attack="none")
    middle = experiment(failures={"byzantine": {"onset_s": 12.0}})
    late = experiment(failures={"byzantine": {"onset_steps": 1e6}})
    return simulate([without, middle, late, experiment()], seeds=2)


@pytest.mark.optimized
def test_until_the_onset_the_run_is_one_without_attack_bit_for_bit(runs):
    ids = runs.frame.set_index(["config_index", "seed"])["run_id"]
    curve = runs.curves.set_index("run_id")
    for seed in range(2):
        none, middle, late, always = (curve.loc[ids[i, seed]] for i in range(4))
        before = middle["time_s"].to_numpy() < 12.0
        assert 3 < before.sum() < 18
        for name in ("loss", "time_s"):
            same = none[name].to_numpy() == middle[name].to_numpy()
            assert same[before].all()
            np.testing.assert_array_equal(none[name], late[name])
        changed = none["loss"].to_numpy() != middle["loss"].to_numpy()
        assert changed[~before].all()
        assert (none["loss"].to_numpy() != always["loss"].to_numpy())[1:].all()


@pytest.mark.optimized
def test_only_attackers_that_attacked_are_counted(runs):
    counts = runs.frame.groupby("config_index")["failures_byzantine"].unique()
    assert [list(found) for found in counts] == [[0], [2], [0], [2]]


def test_the_onset_is_read_in_both_units():
    def onset(**byzantine):
        return resolve(experiment(failures={"byzantine": byzantine})).failures.onset_s

    assert onset() == 0.0
    assert onset(onset_s=3.0) == 3.0
    assert onset(onset_steps=10) == pytest.approx(0.5)  # the scenario's step takes 0.05 s
    with pytest.raises(InputError, match="onset_s and onset_steps"):
        onset(onset_s=1.0, onset_steps=1)
    with pytest.raises(InputError, match=r"onset_s: -1\.0"):
        onset(onset_s=-1.0)
    with pytest.raises(InputError, match="did you mean 'onset_s'"):
        onset(onset=1.0)
