"""Aggregators by distance, and omniscient attacks, against closed forms, NumPy and SciPy."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import members
from scipy import optimize, stats

from jaxwan.learning.aggregators import AGGREGATORS
from jaxwan.learning.attacks import ATTACKS, little_z

DISTANCE = ("krum", "multi_krum", "geometric_median")
KNOBS: dict[str, dict[str, float]] = {
    "krum": {"f": 2},
    "multi_krum": {"f": 2, "m": 0},
    "geometric_median": {"nu": 1e-6},
}


@cache
def program(call: Any, name: str) -> Any:
    return jax.jit(partial(call, name))


def aggregate(name: str, rows: Any, weights: Any, **knobs: float) -> np.ndarray:
    traced = {knob: jnp.float32(value) for knob, value in {**KNOBS[name], **knobs}.items()}
    rule = program(members.aggregate, name)
    return np.asarray(rule(traced, np.float32(rows), np.float32(weights)))


def corrupt(name: str, rows: Any, attacker: Any, weights: Any, **knobs: float) -> np.ndarray:
    traced = {knob: jnp.float32(value) for knob, value in knobs.items()}
    attack = program(members.corrupt, name)
    return np.asarray(attack(traced, np.float32(rows), attacker, np.float32(weights)))


@pytest.mark.parametrize("name", DISTANCE)
def test_broken_senders_never_win_and_the_absent_do_not_matter(name: str) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    present = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1], np.float32)
    alone = aggregate(name, rows[present > 0], np.ones(7))
    found = aggregate(name, np.where(present[:, None] > 0, rows, np.nan), present)
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    broken = rows.copy()
    broken[0, 2], broken[3, 4], broken[5] = np.nan, np.inf, -np.inf
    found = aggregate(name, broken, present)
    honest = rows[[1, 4, 6, 8]]
    assert np.all((found >= honest.min(axis=0)) & (found <= honest.max(axis=0)))
    np.testing.assert_array_equal(aggregate(name, np.full((5, 2), np.nan), np.ones(5)), [0, 0])


def test_krum_is_an_honest_update_and_multi_krum_the_mean_of_the_best() -> None:
    """Six honest on a line at 0, 1, 3, 6, 10, 15 and two colluders at 1000: n − f − 2 = 4."""
    line = np.array([0.0, 1000, 1, 3, 6, 1000, 10, 15])[:, None]
    scores = {0: 146, 1: 115, 3: 71, 6: 86, 10: 171, 15: 446}
    order = sorted(scores, key=lambda place: scores[place])
    ones = np.ones(8)
    assert aggregate("krum", line, ones) == order[0] == 3
    for m in range(1, 7):
        np.testing.assert_allclose(aggregate("multi_krum", line, ones, m=m), np.mean(order[:m]))
    np.testing.assert_allclose(aggregate("multi_krum", line, ones), np.mean(order))


@pytest.mark.parametrize(("f", "needed"), [(0, 3), (1, 5), (2, 7), (10, 23)])
def test_krum_needs_two_f_and_three(f: int, needed: int) -> None:
    for name in ("krum", "multi_krum"):
        assert AGGREGATORS[name].needs({"f": f, "m": 0}) == needed


@pytest.mark.parametrize("shift", [3.0, 1e3, 1e30])
def test_geometric_median_is_near_the_least_sum_of_distances(shift: float) -> None:
    """Two of nine collude at a distance; SciPy minimises what is left of the sum."""
    draw = np.random.default_rng(2)
    rows, weights = draw.normal(size=(9, 3)), draw.uniform(0.5, 1.5, 9)
    rows[:2] = shift
    far = np.minimum(rows, 1e6)
    far = far if shift < 1e19 else far[2:]
    share = weights if shift < 1e19 else weights[2:]

    def total(point: np.ndarray) -> float:
        return float(share @ np.linalg.norm(far - point, axis=1))

    best = optimize.minimize(total, rows[2:].mean(axis=0), method="Nelder-Mead", tol=1e-9)
    found = aggregate("geometric_median", rows, weights)
    assert total(found) - best.fun < 1e-3 * share.sum()
    assert total(rows[2:].mean(axis=0)) - best.fun > 3e-3 * share.sum()


def test_smoothing_leads_from_the_geometric_median_to_the_mean() -> None:
    rows = np.array([[0.0], [1], [5]])
    np.testing.assert_allclose(aggregate("geometric_median", rows, np.ones(3)), [1], atol=1e-5)
    wide = aggregate("geometric_median", rows, np.ones(3), nu=100)
    np.testing.assert_allclose(wide, [2], rtol=1e-6)


def test_little_z_is_the_papers_quantile() -> None:
    program = jax.jit(little_z)
    for n in (3, 5, 7, 10, 20, 50):
        for m in range(1, n // 2 + 1):
            place = np.arange(n + 2)
            found = program(jnp.asarray(place < m), jnp.asarray(place < n, jnp.float32))
            s = n // 2 + 1 - m
            share = np.clip((n - m - s) / (n - m), 0.5, np.float32(1 - 1e-6))
            np.testing.assert_allclose(found, stats.norm.ppf(share), rtol=1e-4, atol=1e-6)
    published = program(jnp.arange(50) < 24, jnp.ones(50))
    np.testing.assert_allclose(published, stats.norm.ppf(24 / 26), rtol=1e-5)
    assert jnp.isfinite(program(jnp.ones(4, bool), jnp.ones(4)))


@pytest.mark.parametrize("z", [None, 0.0, 1.5])
def test_alie_sends_the_mean_less_z_deviations_of_the_honest(z: float | None) -> None:
    rows = np.random.default_rng(3).normal(size=(8, 5)).astype(np.float32)
    attacker, weights = np.isin(np.arange(8), [1, 4]), np.array([1, 1, 1, 1, 1, 0.3, 2, 0])
    knobs = {} if z is None else {"z": z}
    found = corrupt(
        "alie", np.where(weights[:, None] > 0, rows, np.nan), attacker, weights, **knobs
    )
    honest = rows[[0, 2, 3, 5, 6]].astype(np.float64)
    size = z or stats.norm.ppf((7 - 2 - 2) / 5)
    np.testing.assert_allclose(found[1], honest.mean(axis=0) - size * honest.std(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(found[1], found[4])
    np.testing.assert_array_equal(found[[0, 2, 3, 5, 6]], rows[[0, 2, 3, 5, 6]])


def test_ipm_turns_the_mean_of_the_honest() -> None:
    rows = np.random.default_rng(4).normal(size=(6, 5)).astype(np.float32)
    attacker, weights = np.isin(np.arange(6), [0, 3]), np.array([1, 1, 0, 1, 0.2, 1])
    found = corrupt("ipm", rows, attacker, weights, tau=0.7)
    np.testing.assert_allclose(found[0], -0.7 * rows[[1, 4, 5]].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found[0], found[3])


@pytest.mark.parametrize(("name", "factor"), [("alie", 1.0), ("ipm", -0.5)])
def test_an_attacker_alone_looks_at_itself(name: str, factor: float) -> None:
    own = np.float32([[1.0, -2.0]])
    knobs = {knob: float(facts.default or 0) for knob, facts in ATTACKS[name].knobs.items()}
    found = corrupt(name, own, np.ones(1, bool), np.ones(1), **knobs)
    np.testing.assert_allclose(found, factor * own)
    absent = corrupt(name, own * np.nan, np.ones(1, bool), np.zeros(1), **knobs)
    assert np.isfinite(absent).all()


def test_little_is_enough_to_stay_within_the_spread() -> None:
    """ALIE moves the mean less than it moves Krum, which it leads to pick the attackers."""
    draw, picked = np.random.default_rng(5), 0
    attacker = np.arange(20) < 8
    for _ in range(10):
        rows = draw.normal(size=(20, 50)).astype(np.float32)
        sent = corrupt("alie", rows, attacker, np.ones(20), z=0.5)
        picked += int(np.array_equal(aggregate("krum", sent, np.ones(20), f=8), sent[0]))
    assert picked == 10
