"""Keys are JAX's own Threefry, and instants stay exact for decades."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxwan.core import clock, keys
from jaxwan.core.clock import FRACTION, NEVER_S, Instant

pytestmark = pytest.mark.optimized


MONTH_S = 30 * 86400


def instant(seconds, fraction=0):
    return Instant(jnp.asarray(seconds, jnp.int32), jnp.asarray(fraction, jnp.int32))


def ticks(point):
    return np.asarray(point.seconds, np.int64) * FRACTION + np.asarray(point.fraction, np.int64)


def test_threefry_is_jaxs_own():
    from jax.extend.random import threefry_2x32

    rng = np.random.default_rng(0)
    for _ in range(5):
        key = jnp.asarray(rng.integers(0, 2**32, 2, dtype=np.uint32))
        high, low = (jnp.asarray(rng.integers(0, 2**32, 64, dtype=np.uint32)) for _ in range(2))
        theirs = threefry_2x32(key, jnp.concatenate([high, low]))
        ours = jnp.concatenate(keys.threefry(key, high, low))
        np.testing.assert_array_equal(ours, theirs)


KNOWN = (  # Random123 1.14, tests/kat_vectors: counter and key, then the block of 13 rounds
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x9D1C5EC6, 0x8BD50731)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
)


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
def test_thirteen_rounds_give_the_published_blocks(counter, key, block):
    found = keys.threefry(jnp.array(key, jnp.uint32), *map(np.uint32, counter), rounds=13)
    assert tuple(map(int, found)) == block


def test_an_address_is_fold_in():
    """`fold_in(key, n)` is the Threefry block of counter (0, n), so `address` speaks its tongue."""
    key = keys.run_key(7)
    theirs = jax.random.key_data(jax.random.fold_in(keys.typed(key), 12345))
    np.testing.assert_array_equal(keys.address(key, 0, 12345), theirs)


def test_purposes_and_workers_have_keys_of_their_own():
    root = keys.run_key(3)
    many = [keys.worker_keys(root, purpose, 16) for purpose in ("compute", "link", "failure.churn")]
    assert len({tuple(key) for group in many for key in np.asarray(group).tolist()}) == 48
    np.testing.assert_array_equal(keys.worker_keys(root, "link", 4), many[1][:4])


def test_a_stream_takes_any_purpose_and_is_the_base_of_worker_keys():
    """Half of all purposes have a code above 2**31."""
    root = keys.run_key(3)
    for purpose in ("compute", "link", "data", "init", "failure.churn"):
        stream = keys.stream(root, purpose)
        np.testing.assert_array_equal(
            keys.address(stream, jnp.arange(4)), keys.worker_keys(root, purpose, 4)
        )


def test_worker_keys_survive_vmap_over_seeds():
    seeds = jnp.arange(5)
    rows = jax.vmap(lambda seed: keys.worker_keys(keys.run_key(seed), "link", 3))(seeds)
    for seed in range(5):
        np.testing.assert_array_equal(
            rows[seed], keys.worker_keys(keys.run_key(seed), "link", 3)
        )


@pytest.mark.parametrize("count", [1, 2, 7])
def test_words_have_the_asked_length(count):
    assert keys.words(keys.run_key(1), count).shape == (count,)


def test_uniforms_and_normals_have_their_distributions():
    words = keys.words(keys.run_key(11), 20_000)
    assert stats.kstest(np.asarray(keys.to_uniform(words)), "uniform").pvalue > 1e-3
    assert stats.kstest(np.asarray(keys.to_normal(words)), "norm").pvalue > 1e-3


@pytest.fixture(scope="module")
def bulk():
    """Return 2**23 normals `[address, draw]`: 8192 neighbouring addresses of 1024 draws."""
    draw = jax.jit(jax.vmap(lambda n: keys.normals(keys.address(keys.run_key(5), n), 1024)))
    return np.asarray(draw(jnp.arange(8192, dtype=jnp.uint32)))


def test_bulk_normals_have_the_moments_of_a_normal(bulk):
    """Compare four moments within four standard errors."""
    power = np.ones_like(bulk)
    for moment, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        power = power * bulk
        error = np.sqrt(variance / bulk.size)
        assert abs(power.mean(dtype=np.float64) - expected) < 4 * error, moment


def test_bulk_normals_fill_every_bin_and_both_tails(bulk):
    """Test 1000 bins on (-5, 5) by chi-square, and what lies beyond 4 and 4.8 as Poisson counts."""
    edges = np.linspace(-5, 5, 1001)
    place = np.clip(np.floor((bulk + 5) * 100).astype(np.int32) + 1, 0, 1001)
    counts = np.bincount(place.ravel(), minlength=1002)
    share = np.diff(np.concatenate([[0.0], stats.norm.cdf(edges), [1.0]]))
    enough = share * bulk.size > 10
    pooled = [np.append(x[enough], x[~enough].sum()) for x in (counts, share * bulk.size)]
    assert stats.chisquare(*pooled, sum_check=False).pvalue > 1e-3
    for beyond in (4.0, 4.8):
        for found in ((bulk > beyond).sum(), (bulk < -beyond).sum()):
            expected = stats.norm.sf(beyond) * bulk.size
            assert abs(found - expected) < 4 * np.sqrt(expected)


def test_bulk_normals_are_uncorrelated(bulk):
    """Correlate neighbouring addresses, neighbouring draws and the pairs of a block."""
    first, second = bulk[:, :512], bulk[:, 512:]
    pairs = ((bulk[:-1], bulk[1:]), (bulk[:, :-1], bulk[:, 1:]), (first, second))
    for a, b in pairs:
        assert abs(np.vdot(a, b)) < 4 * np.sqrt(a.size)
        assert abs(np.vdot(a * a - 1, b * b - 1)) < 4 * 2 * np.sqrt(a.size)
    for key in range(16):  # every draw of sixteen addresses with every other
        others = bulk[key + 1 : 17] @ bulk[key]
        assert np.all(np.abs(others) < 5 * np.sqrt(1024))


def test_a_pair_is_box_and_mullers():
    """Compare with double precision, at extreme words too."""
    draw = np.random.default_rng(3)
    extreme = np.array([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    words = np.concatenate([draw.integers(2**32, size=(2, 4096), dtype=np.uint32),
                            np.stack(np.meshgrid(extreme, extreme)).reshape(2, -1)], axis=1)
    found = keys.to_normal_pair(*map(jnp.asarray, words))
    uniform = ((words[0] >> 1).astype(np.float32) + np.float32(0.5)) * 2.0**-31
    radius = np.sqrt(-2 * np.log(uniform.astype(np.float64)))
    turn = np.pi / 2 * words[1].astype(np.int32) * 2.0**-31
    sign = np.where(words[0] & 1, -1, 1)
    for got, want in zip(found, (sign * radius * np.cos(turn), radius * np.sin(turn)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    assert 6.6 < np.abs(found).max() < 6.7


@pytest.mark.parametrize("count", [1, 2, 7])
def test_normals_have_the_asked_length_and_follow_their_key(count):
    here, there = (np.asarray(keys.normals(keys.run_key(seed), count)) for seed in (1, 2))
    assert here.shape == (count,)
    assert not np.any(here == there)


def test_extreme_words_give_finite_numbers():
    words = jnp.array([0, 2**32 - 1, 511, 512], jnp.uint32)
    uniform = keys.to_uniform(words)
    assert jnp.all((uniform > 0) & (uniform < 1))
    assert jnp.all(jnp.isfinite(keys.to_normal(words)))
    assert jnp.all(-jnp.log(uniform) > 0)


def test_a_month_and_fifty_milliseconds_are_told_apart():
    month = clock.add(clock.start_of_time(), jnp.float32(MONTH_S))
    later = clock.add(month, jnp.float32(0.05))
    assert clock.is_before(month, later)
    assert abs(float(clock.since(later, month)) - 0.05) < 1e-6
    steps = jax.lax.fori_loop(0, 1000, lambda _, t: clock.add(t, jnp.float32(0.05)), month)
    assert abs(float(clock.since(steps, month)) - 50.0) < 1e-3


def test_addition_is_exact_to_the_last_fraction():
    rng = np.random.default_rng(1)
    seconds = rng.integers(0, 2**29, 4000)
    fraction = rng.integers(0, FRACTION, 4000)
    duration = np.exp(rng.uniform(-16, 18, 4000)).astype(np.float32)
    got = clock.add(instant(seconds, fraction), jnp.asarray(duration))
    want = seconds * FRACTION + fraction + np.rint(duration.astype(np.float64) * FRACTION)
    np.testing.assert_array_equal(ticks(got), want.astype(np.int64))
    assert np.all((np.asarray(got.fraction) >= 0) & (np.asarray(got.fraction) < FRACTION))


@pytest.mark.parametrize("duration", [np.inf, 3e38, 2.0**30, 2.0**31])
@pytest.mark.parametrize("start", [(0, 0), (5, 17), (2**30 - 1, 9), (NEVER_S, 0)])
def test_what_lasts_for_ever_ends_never(start, duration):
    end = clock.add(instant(*start), jnp.float32(duration))
    assert bool(clock.is_never(end))
    assert int(ticks(end)) == NEVER_S * FRACTION


@pytest.mark.parametrize("duration", [0.0, -1.0, -np.inf, np.nan])
def test_no_duration_moves_time_back(duration):
    end = clock.add(instant(100, 7), jnp.float32(duration))
    assert int(ticks(end)) == 100 * FRACTION + 7


def test_never_absorbs_and_just_before_it_time_still_counts():
    last = instant(NEVER_S - 1, FRACTION - 1)
    assert not bool(clock.is_never(last))
    assert bool(clock.is_never(clock.add(last, jnp.float32(1e-6))))
    assert bool(clock.is_never(clock.add(clock.never(), jnp.float32(0.0))))


def test_orderings_agree_with_integers():
    rng = np.random.default_rng(2)
    seconds, fraction = rng.integers(0, 3, (2, 200)), rng.integers(0, 3, (2, 200))
    a, b = instant(seconds[0], fraction[0]), instant(seconds[1], fraction[1])
    np.testing.assert_array_equal(clock.is_before(a, b), ticks(a) < ticks(b))
    np.testing.assert_array_equal(ticks(clock.latest_of(a, b)), np.maximum(ticks(a), ticks(b)))
    assert int(clock.earliest(a)) == int(np.argmin(ticks(a)))
    assert int(ticks(clock.minimum(a))) == ticks(a).min()
    where = rng.random(200) < 0.3
    assert int(ticks(clock.latest(a, jnp.asarray(where)))) == ticks(a)[where].max()
    assert int(ticks(clock.latest(a, jnp.zeros(200, bool)))) == 0


def test_ties_go_to_the_lower_index():
    assert int(clock.earliest(instant([3, 2, 2], [0, 5, 5]))) == 1
