"""Aggregators and pre-aggregators against NumPy, closed forms and their own facts."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.members import aggregate, fixed
from helpers.twins import PRE_TWINS, TWINS, Cases, drawn

from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS, trim_count

CASES, DIM, FEW, MANY = 100, 5, 12, 64
aggregators = pytest.mark.parametrize("name", AGGREGATORS)


@cache
def program(name: str, static: tuple[tuple[str, Any], ...]) -> Any:
    """Return the member over a batch of cases; one program per shape and static arguments."""

    def one(knobs: Any, updates: Any, weights: Any) -> Any:
        return aggregate(name, dict(knobs) | dict(static), updates, weights)

    return jax.jit(jax.vmap(one))


def settings(name: str, told: Any = ()) -> tuple[dict[str, float], dict[str, Any]]:
    """Return knobs and static arguments: the defaults, and what is told."""
    member = AGGREGATORS[name]
    everything = {knob: facts.default for knob, facts in member.knobs.items()}
    everything = everything | fixed(member.static) | dict(told)
    knobs = {knob: float(everything[knob]) for knob in member.knobs}
    return knobs, {arg: everything[arg] for arg in member.static}


def over(name: str, rolls: Any, static: Any, rows: Any, weights: Any, slots: int = FEW) -> Any:
    """Aggregate a few small cases, padded to the shape that is compiled anyway."""
    rows, weights = np.asarray(rows, np.float32), np.asarray(weights, np.float32)
    count = len(rows)
    pad = ((0, CASES - count), (0, slots - rows.shape[1]))
    rows = np.pad(rows, (*pad, (0, 0)), constant_values=np.nan)
    weights = np.pad(weights, pad)
    rolls = [*rolls, *[rolls[-1]] * (CASES - len(rolls))]
    knobs = {knob: jnp.float32([roll[knob] for roll in rolls]) for knob in rolls[0]}
    return np.asarray(program(name, tuple(static.items()))(knobs, rows, weights))[:count]


def normals(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def steady(name: str, knobs: Any, rows: Any, w: Any, wanted: Any) -> bool:
    """Tell whether the reference itself survives rounding of its input to float32."""
    if name not in ("caf", "dnc"):  # all others compare sums of squares, which are exact here
        return True
    draw = np.random.default_rng(0)
    near = [TWINS[name](knobs, rows + 1e-6 * draw.normal(size=rows.shape), w) for _ in range(4)]
    return bool(np.abs(np.array(near) - wanted).max() < 2e-5)


@aggregators
@pytest.mark.parametrize("slots", [FEW, MANY])
def test_aggregators_match_numpy_on_random_cases(name: str, slots: int) -> None:
    member = AGGREGATORS[name]
    if member.most is not None and slots > member.most:
        slots = FEW
        told: Any = member.against(2, slots)
    else:
        told = ()
    cases, (_, static) = Cases(21 + slots, CASES, slots), settings(name, told)
    rolls = [drawn(member, cases.draw, slots) for _ in range(CASES)]
    if not member.knobs:
        rolls = [{}] * CASES
    found = over(name, rolls, static, cases.sent, cases.weights, slots)
    unsteady = 0
    for index, roll in enumerate(rolls):
        rows, w = cases.one(index)
        knobs = {knob: float(np.float32(value)) for knob, value in roll.items()} | static
        wanted = TWINS[name](knobs, rows, w)
        if steady(name, knobs, rows, w, wanted):
            np.testing.assert_allclose(found[index], wanted, rtol=1e-5, atol=1e-5)
        else:
            unsteady += 1
    assert unsteady <= CASES / 10


@aggregators
def test_nobody_present_gives_zeros_and_one_is_the_identity(name: str) -> None:
    member, (knobs, static) = AGGREGATORS[name], settings(name)
    rows = normals(0, 2, 7, DIM)
    rows[1] = rows[0]
    rows[:, 1] = np.nan
    weights = np.zeros((2, 7))
    weights[1, 3] = 0.37
    nobody, alone = over(name, [knobs], static, rows, weights)
    np.testing.assert_array_equal(nobody, np.zeros(DIM))
    if member.identity:
        np.testing.assert_array_equal(alone, rows[1, 3])
    else:
        large = over(name, [knobs], static, 100 * rows, weights)[1]
        assert np.abs(large - 100 * rows[1, 3]).max() > 1


@aggregators
def test_is_mean_tells_the_truth(name: str) -> None:
    """Of several ages and token counts, each three times longer: none is the mean by chance."""
    member, (knobs, static) = AGGREGATORS[name], settings(name)
    sizes = (1, 2, 3, 5, 9, 10)
    for told in ({}, member.against(0, 10)):
        knobs, static = settings(name, told)
        rows = 100 * normals(1, 4 * len(sizes), 10, DIM) * 3.0 ** np.arange(10)[:, None]
        weights = np.zeros((4 * len(sizes), 10), np.float32)
        for index, size in enumerate(np.repeat(sizes, 4)):
            weights[index, :size] = member.weigh(
                knobs, jnp.ones(size), jnp.arange(size), 1 + jnp.arange(size, dtype=float)
            )
        found = over(name, [knobs], static, rows, weights)
        for index, size in enumerate(sizes):
            four = slice(4 * index, 4 * index + 4)
            same = np.allclose(found[four], rows[four, :size].mean(axis=1), rtol=1e-4, atol=1e-2)
            assert same == member.is_mean(knobs | static, size), (told, size)
        assert member.needs(knobs | static) >= 1


@aggregators
def test_robust_aggregators_shrug_off_two_of_seven(name: str) -> None:
    """A geometric median strays by 2(1 − a)/(1 − 2a) radii at most (Minsker 2015, lemma 2.1)."""
    member, poisons = AGGREGATORS[name], (np.nan, np.inf, -np.inf, 1e30)
    knobs, static = settings(name, member.against(2, 7))
    rows = np.repeat(normals(8, 1, 7, DIM), len(poisons), axis=0)
    others = np.delete(rows[0], [1, 5], axis=0)
    for index, poison in enumerate(poisons):
        rows[index, [1, 5]] = poison
    found = over(name, [knobs], static, rows, np.ones((4, 7)))
    centre = others.mean(axis=0)
    radius = np.linalg.norm(others - centre, axis=1).max()
    stray = np.linalg.norm(found.astype(np.float64) - centre, axis=1)
    assert np.all((stray <= 10 / 3 * radius) == member.robust)


@pytest.mark.parametrize("name", [name for name, rule in AGGREGATORS.items() if rule.robust])
def test_broken_senders_count_but_are_never_chosen(name: str) -> None:
    member = AGGREGATORS[name]
    knobs, static = settings(name, member.against(2, 11))
    rows = normals(3, 2, 11, DIM)
    rows[0, 2, 1], rows[0, 7] = np.nan, [np.inf, -np.inf, np.inf, 0, 1]
    rows[1] = np.nan
    broken, hopeless = over(name, [knobs], static, rows, np.ones((2, 11)))
    honest = np.delete(rows[0], [2, 7], axis=0)
    if member.identity:
        assert np.all((broken >= honest.min(axis=0)) & (broken <= honest.max(axis=0)))
    assert np.isfinite(broken).all()
    if name not in ("median", "trimmed_mean"):  # by coordinate, NaN is +infinity there
        np.testing.assert_array_equal(hopeless, np.zeros(DIM))


@pytest.mark.parametrize(
    ("name", "factor", "more"),
    [("krum", 2, 3), ("multi_krum", 2, 3), ("bulyan", 4, 3), ("mda", 2, 1), ("caf", 2, 1),
     ("dnc", 2, 1), ("mean_around_median", 2, 1)],
)  # fmt: skip
def test_published_bounds(name: str, factor: int, more: int) -> None:
    for f in range(12):
        assert AGGREGATORS[name].needs({"f": f, "m": 0, "c": 1.0}) == factor * f + more


def test_trim_count_survives_float_rounding() -> None:
    for slots in range(1, 200):
        for cut in range((slots - 1) // 2 + 1):
            assert trim_count(cut / slots, slots) == cut
    traced = jax.jit(trim_count)
    assert int(traced(jnp.float32(2 / 7), jnp.int32(7))) == 2
    assert int(traced(jnp.float32(0.4999), jnp.int32(1))) == 0


def test_age_and_tokens_become_weights() -> None:
    ones, age, tokens = jnp.array([1.0, 2.0, 0.0]), jnp.array([0, 3, 8]), jnp.array([4.0, 8, 2])
    stale = AGGREGATORS["staleness_mean"].weigh({"power": jnp.float32(0.5)}, ones, age, tokens)
    np.testing.assert_allclose(stale, [1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(AGGREGATORS["token_mean"].weigh({}, ones, age, tokens), [4, 16, 0])


def test_centered_clipping_goes_on_from_its_last_aggregate() -> None:
    rule, rows, key = AGGREGATORS["centered_clipping"], 5 * normals(4, 6, DIM), jax.random.key(0)
    once = {"radius": jnp.float32(2), "iterations": jnp.float32(1)}
    step = jax.jit(partial(rule.apply, {}))
    first, memory = step(once, rule.init({}, DIM), key, rows, jnp.ones(6))
    np.testing.assert_array_equal(first, memory)
    second, memory = step(once, memory, key, rows, jnp.ones(6))
    both = once | {"iterations": jnp.float32(2)}
    twice, _ = step(both, rule.init({}, DIM), key, rows, jnp.ones(6))
    np.testing.assert_allclose(second, twice, rtol=1e-6)
    nobody, kept = step(once, memory, key, rows, jnp.zeros(6))
    np.testing.assert_array_equal(nobody, np.zeros(DIM))
    np.testing.assert_array_equal(kept, memory)


def test_dnc_sees_an_outlier_in_one_coordinate_only_where_it_samples_it() -> None:
    """Of 40 rounds with one coordinate each, some see it: what every round keeps is honest."""
    rows = 0.01 * normals(5, 9, 8)
    rows[4, 6] = 50
    rule, knobs = AGGREGATORS["dnc"], {"f": jnp.float32(1), "c": jnp.float32(1)}

    def kept(iterations: int, runs: int) -> np.ndarray:
        apply = partial(rule.apply, {"iterations": iterations, "sample": 1}, knobs, ())
        over_luck = jax.jit(jax.vmap(lambda key: apply(key, rows, jnp.ones(9))[0][6]))
        return np.asarray(over_luck(jax.random.split(jax.random.key(0), runs)))

    assert np.all(np.abs(kept(60, 10)) < 0.1)
    goes = np.abs(rows - rows.mean(axis=0)).argmax(axis=0)  # in a round with that coordinate
    chance = np.mean(goes != 4)
    assert abs(np.mean(kept(1, 100) > 1) - chance) < 3.5 * np.sqrt(chance * (1 - chance) / 100)


# Pre-aggregators


@cache
def before(name: str) -> Any:
    return jax.jit(partial(PRE_AGGREGATORS[name].apply, {}))


@pytest.mark.parametrize("name", PRE_TWINS)
@pytest.mark.parametrize("slots", [FEW, MANY])
def test_pre_aggregators_match_numpy_on_random_cases(name: str, slots: int) -> None:
    member, cases = PRE_AGGREGATORS[name], Cases(22 + slots, CASES, slots)
    rolls = [drawn(member, cases.draw, slots) for _ in range(CASES)]
    knobs = {knob: jnp.float32([roll[knob] for roll in rolls]) for knob in member.knobs}
    program = jax.jit(jax.vmap(partial(member.apply, {}), (0, None, 0, 0)))
    found, weights = program(knobs, jax.random.key(0), cases.sent, cases.weights)
    np.testing.assert_array_equal(weights, cases.weights)
    for index, roll in enumerate(rolls):
        plain = {knob: float(np.float32(value)) for knob, value in roll.items()}
        wanted = PRE_TWINS[name](plain, cases.one(index)[0])
        here = np.asarray(found)[index, cases.present[index]]
        np.testing.assert_allclose(here, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PRE_AGGREGATORS)
def test_what_a_pre_aggregator_leaves_is_told(name: str) -> None:
    member, rows = PRE_AGGREGATORS[name], normals(5, 9, DIM)
    for size in (1, 2, 3, 4, 9):
        settings = {knob: min(size, facts.high) for knob, facts in member.knobs.items()}
        knobs = {knob: jnp.float32(value) for knob, value in settings.items()}
        for present in (0, 1, 4, 7, 9):
            there = jnp.float32(np.arange(9) < present)
            _, weights = before(name)(knobs, jax.random.key(0), rows, there)
            assert np.sum(np.asarray(weights) > 0) == member.leaves(settings, present)


def test_bucketing_partitions_the_present_at_random() -> None:
    """Update i is the i-th unit vector, so a bucket's mean tells who is in it."""
    runs, slots = 400, 12
    draw = np.random.default_rng(6)
    size = draw.integers(1, 6, runs)
    weights = (draw.uniform(size=(runs, slots)) < 0.8) * 1.0
    weights[: runs // 2], size[: runs // 2] = 1, 3
    weights[:, 0] = 1
    units = np.where(weights[:, :, None] > 0, np.eye(slots), np.nan)
    apply = jax.jit(jax.vmap(partial(PRE_AGGREGATORS["bucketing"].apply, {})))
    lucks = jax.random.split(jax.random.key(1), runs)
    means, total = map(np.asarray, apply({"s": jnp.float32(size)}, lucks, units, weights))
    for run in range(runs):
        n = int(weights[run].sum())
        wanted = [min(size[run], n - done) for done in range(0, n, size[run])]
        np.testing.assert_array_equal(total[run], wanted + [0] * (slots - len(wanted)))
        member = means[run, : len(wanted)] > 0
        np.testing.assert_array_equal(member.sum(axis=0), weights[run])
        np.testing.assert_allclose(means[run].max(axis=1)[: len(wanted)], 1 / np.array(wanted))
    together = np.mean([means[: runs // 2, bucket, 0] * means[: runs // 2, bucket, 5] > 0
                        for bucket in range(4)], axis=1).sum()  # fmt: skip
    chance = 2 / 11
    assert abs(together - chance) < 3.5 * np.sqrt(chance * (1 - chance) / (runs // 2))
    whole = apply({"s": jnp.float32(size)}, lucks, np.nan_to_num(units), weights)
    np.testing.assert_allclose(
        np.einsum("rb,rbd->rd", np.asarray(whole[1]), np.asarray(whole[0])), weights, atol=1e-5
    )


def test_a_broken_sender_breaks_its_bucket_only() -> None:
    rows = normals(7, 9, DIM)
    rows[3, 1] = np.nan
    knobs = {"s": jnp.float32(3)}
    luck, ones = jax.random.key(0), jnp.ones(9)
    means, weights = before("bucketing")(knobs, luck, rows, ones)
    means = np.asarray(means)
    broken = np.isnan(means[:3]).all(axis=1)
    assert broken.sum() == 1
    assert np.isfinite(means[:3][~broken]).all()
    np.testing.assert_array_equal(weights, [3, 3, 3, 0, 0, 0, 0, 0, 0])
    for name in PRE_TWINS:
        member = PRE_AGGREGATORS[name]
        usual = {knob: jnp.float32(facts.default) for knob, facts in member.knobs.items()}
        after, _ = before(name)(usual, luck, rows, ones)
        np.testing.assert_array_equal(np.isfinite(after).all(axis=1), np.arange(9) != 3)


def test_mixing_pulls_a_colluding_pair_towards_the_honest() -> None:
    """Allouah et al. 2023: mixed updates are closer together than those that came."""
    rows = normals(9, 9, DIM)
    rows[:2] = 6
    mixed, _ = before("nnm")({"f": jnp.float32(2)}, jax.random.key(0), rows, jnp.ones(9))
    honest = rows[2:].mean(axis=0)
    spread = [np.square(x[2:] - honest).sum() for x in (rows, np.asarray(mixed))]
    assert spread[1] < 0.5 * spread[0]
    assert np.linalg.norm(mixed[0] - honest) < np.linalg.norm(rows[0] - honest)
