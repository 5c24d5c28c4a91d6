"""Attacks: what they may touch, and what the papers say of them."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import members
from helpers.members import defaults, fixed

from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.attacks.omniscient import DIRECTIONS

SLOTS, DIM = 9, 20
EVIL = np.isin(np.arange(SLOTS), [2, 5])
attacks = pytest.mark.parametrize("name", ATTACKS)


def normals(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@cache
def program(name: str, static: tuple[tuple[str, Any], ...] = (), defence: str = "") -> Any:
    """Return an attack, on the mean or on an aggregator that tolerates two."""

    def attack(knobs: Any, key: Any, updates: Any, attacker: Any, weights: Any) -> Any:
        settings = knobs | fixed(ATTACKS[name].static) | dict(static)
        server = partial(serve, defence, weights=weights) if defence else None
        return ATTACKS[name].corrupt(settings, key, updates, attacker, weights, server)

    return jax.jit(attack)


def serve(defence: str, updates: Any, weights: Any) -> Any:
    knobs = {"krum": {"f": jnp.float32(2)}}.get(defence, {})
    return members.aggregate(defence, knobs, updates, weights)


def send(
    name: str, updates: Any, attacker: Any = EVIL, weights: Any = None, static: Any = (),
    defence: str = "", seed: int = 0, **knobs: float,
) -> np.ndarray:  # fmt: skip
    weights = np.ones(SLOTS, np.float32) if weights is None else np.float32(weights)
    traced = defaults(ATTACKS[name].knobs) | {k: jnp.float32(v) for k, v in knobs.items()}
    attack = program(name, static, defence)
    return np.asarray(attack(traced, jax.random.key(seed), updates, np.asarray(attacker), weights))


@attacks
def test_an_empty_mask_changes_nothing_and_a_mask_only_its_rows(name: str) -> None:
    attack, updates = ATTACKS[name], normals(6, SLOTS, DIM)
    updates[0, 0] = -0.0
    bits = updates.view(np.int32)
    nobody = send(name, updates, np.zeros(SLOTS, bool))
    np.testing.assert_array_equal(nobody.view(np.int32), bits)
    found = send(name, updates)
    changed = (found.view(np.int32) != bits).any(axis=1)
    np.testing.assert_array_equal(changed, EVIL if attack.poison_batch is None else False)
    again = send(name, updates, seed=1)
    assert (again.view(np.int32) != found.view(np.int32)).any() == attack.random
    assert np.isfinite(found).all() == attack.finite


@attacks
def test_the_absent_do_not_matter_and_an_attacker_may_be_alone(name: str) -> None:
    updates, weights = normals(7, SLOTS, DIM), np.ones(SLOTS)
    weights[[4, 5]] = 0
    whole = send(name, updates, weights=weights)
    broken = updates.copy()
    broken[[4, 5]] = np.nan
    np.testing.assert_array_equal(send(name, broken, weights=weights)[2], whole[2])
    weights[:] = np.arange(SLOTS) == 2
    only = np.where(weights[:, None] > 0, updates, np.float32(np.nan))
    alone = send(name, only, weights=weights)[2]
    assert np.isfinite(alone).all() == ATTACKS[name].finite
    assert np.isfinite(send(name, updates * 0, weights=weights * 0)).all() == ATTACKS[name].finite


def test_zero_nan_inf_and_random_send_what_they_say() -> None:
    updates = 100 * normals(8, SLOTS, DIM)
    assert not send("zero", updates)[EVIL].any()
    assert np.isnan(send("nan", updates)[EVIL]).all()
    assert (send("inf", updates)[EVIL] == np.inf).all()
    wide = 0.01 * normals(8, SLOTS, 5000)
    found = send("random", wide, scale=3.0)[EVIL]
    assert np.abs(found).max() <= 3
    share = np.square(found).mean() / 3  # of a uniform, with variance 4/45 of the square's mean 1/3
    assert abs(share - 1) < 3.5 * np.sqrt(4 / 5 / found.size)
    assert not np.array_equal(*found)


def test_mimic_copies_one_honest_worker() -> None:
    updates, weights = normals(9, SLOTS, DIM), np.ones(SLOTS)
    updates[1, 0] = -0.0
    weights[0] = 0  # honest and present: 1, 3, 4, 6, 7, 8
    for target, slot in [(0, 1), (1, 3), (5, 8), (6, 1)]:
        found = send("mimic", updates, weights=weights, target=target)
        np.testing.assert_array_equal(found[2].view(np.int32), updates[slot].view(np.int32))
        np.testing.assert_array_equal(found[2], found[5])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["min_max", "min_sum"])
def test_the_constraint_of_min_max_and_min_sum_is_tight(name: str, direction: str) -> None:
    for seed in range(10):
        updates = normals(10 + seed, SLOTS, DIM) * (1 if seed % 2 else 1e20) + seed % 3
        sent = send(name, updates, static=(("direction", direction),)).astype(np.float64)
        honest = sent[~EVIL]
        apart = np.square(honest[:, None] - honest[None]).sum(axis=-1)
        away = np.square(sent[2] - honest).sum(axis=1)
        if name == "min_max":
            np.testing.assert_allclose(away.max(), apart.max(), rtol=1e-4)
        else:
            np.testing.assert_allclose(away.sum(), apart.sum(axis=1).max(), rtol=1e-4)
        mean = honest.mean(axis=0)
        wanted = {"std": honest.std(axis=0), "sign": np.sign(mean), "unit": mean}[direction]
        moved = mean - sent[2]
        cosine = moved @ wanted / np.linalg.norm(moved) / np.linalg.norm(wanted)
        assert cosine > 1 - 1e-4
        np.testing.assert_array_equal(sent[2], sent[5])


def test_label_flip_counts_labels_from_the_other_end() -> None:
    flip = ATTACKS["label_flip"].poison_batch
    assert flip is not None
    labels = jnp.arange(10)
    np.testing.assert_array_equal(flip(labels, 10), 9 - np.arange(10))
    np.testing.assert_array_equal(flip(flip(labels, 10), 10), labels)
    assert [name for name, attack in ATTACKS.items() if attack.poison_batch] == ["label_flip"]


@pytest.mark.parametrize("defence", ["mean", "median", "krum"])
@pytest.mark.parametrize("name", ["alie", "ipm"])
def test_the_searched_scale_harms_at_least_as_much(name: str, defence: str) -> None:
    """Nor does any of 60 others harm a third more: what Krum picks is not smooth in the scale."""
    made = jax.jit(lambda sent: serve(defence, sent, jnp.ones(SLOTS)))
    scale = {"alie": "z", "ipm": "tau"}[name]
    for seed in range(3):
        updates = normals(30 + seed, SLOTS, DIM) + 0.5
        mean = updates[~EVIL].mean(axis=0)

        def harm(sent: np.ndarray, mean: np.ndarray = mean) -> float:
            return float(np.linalg.norm(made(sent) - mean))

        found = harm(send(f"{name}_optimal", updates, defence=defence))
        assert found >= harm(send(name, updates)) * (1 - 1e-5)
        for tried in np.geomspace(0.05, 100, 60):
            assert harm(send(name, updates, **{scale: tried})) <= 4 / 3 * found


def test_without_an_aggregator_the_search_meets_the_mean() -> None:
    """Where nothing holds it back, the largest scale harms most."""
    updates = normals(40, SLOTS, DIM)
    for name, knob in (("alie", "z"), ("ipm", "tau")):
        largest = send(name, updates, **{knob: 7.0})
        np.testing.assert_allclose(send(f"{name}_optimal", updates, **{knob: 7.0}), largest, 1e-5)


def test_inner_products_turn_the_median_of_a_mean_close_to_zero() -> None:
    """Xie et al. 2020: where the honest spread is wide beside their mean, a small −tau·mean from
    f of n turns what the median makes of it against the gradient."""
    turned = 0
    evil = np.arange(SLOTS) < 4
    made = jax.jit(lambda sent: serve("median", sent, jnp.ones(SLOTS)))
    for seed in range(20):
        updates = 0.2 + normals(50 + seed, SLOTS, 200)
        sent = send("ipm", updates, evil, tau=0.5)
        turned += float(made(sent) @ updates[~evil].mean(axis=0)) < 0
    assert turned >= 15
