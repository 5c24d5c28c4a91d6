"""Weather: what time does to a link. Addressed by time, so every configuration meets the same.

The hour, the drift and the record's place are those at the start of a transfer: it keeps the hour
and the drift it began with, and follows the record from there. Whether it begins in a burst is
the weather's; how bursts go on meanwhile is its own luck.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxwan.core import clock, keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree
from jaxwan.world.tape import Reel, TapeKnobs, reels

# Interpolated noise of unit variance, between normals one cell apart and at a random phase, has
# autocorrelation 1/e after this share of a cell (numerical integration of its closed form).
CELL_SHARE = 0.9001688
SWITCHES = 12  # in one cell of bursts, of which there are at most 2 sqrt(2) on average
CELLS_BACK = 8  # looked at where there is none; at least sqrt(2) on average in each
_DRIFT, _SHIFT, _BURST = 0, 1, 2  # draws below a worker's key and a cell


@pytree
class WeatherKnobs:
    """The weather of one run; scalars but for the zones."""

    zone: jax.Array  # int32 [worker]; who shares a zone shares its hours
    depth: jax.Array  # of the daily dip, as a share of the bandwidth
    period_s: jax.Array
    phase: jax.Array  # when the dip is deepest, in periods
    spread: jax.Array  # of the zones' phases, in periods
    sigma: jax.Array  # of the logarithm of the drift
    cell_s: jax.Array  # correlation time / CELL_SHARE
    bad_share: jax.Array  # of the time
    switch_rate: jax.Array  # 1 / mean good + 1 / mean bad time, 1/s
    cell_log2: jax.Array  # int32; cells of bursts last 2**this clock ticks, about 2 / switch_rate
    bad_loss: jax.Array
    bad_factor: jax.Array  # on the bandwidth
    tape: TapeKnobs | None = None


class Sky(NamedTuple):
    """One worker's own constants."""

    key: jax.Array  # [2]
    phase: jax.Array  # of its hours, in periods
    shift: jax.Array  # of its drift, in cells
    reel: Reel | None


def skies(weather: WeatherKnobs, key: jax.Array) -> Sky:
    """Return all workers' constants `[worker]` from the key `[2]` of the run."""
    own = keys.worker_keys(key, "weather", weather.zone.shape[0])
    zones = keys.address(keys.stream(key, "weather.zone"), weather.zone.astype(jnp.uint32))
    word, _ = keys.threefry(zones, jnp.uint32(0), jnp.uint32(0))
    phase = weather.phase + weather.spread * keys.to_uniform(word)
    shift, _ = keys.threefry(own, jnp.uint32(0), jnp.uint32(_SHIFT))
    reel = None if weather.tape is None else reels(weather.tape)
    return Sky(own, phase, keys.to_uniform(shift), reel)


def calm(weather: WeatherKnobs) -> WeatherKnobs:
    """Return no weather at all."""
    zero, tape = jnp.zeros_like(weather.depth), weather.tape
    if tape is not None:
        tape = TapeKnobs(tape.start, tape.passed, tape.bps, tape.first, jnp.zeros_like(tape.count),
                         tape.period_s, tape.mean_bps)  # fmt: skip
    return WeatherKnobs(
        weather.zone, zero, weather.period_s, weather.phase, weather.spread, zero, weather.cell_s,
        zero, weather.switch_rate, weather.cell_log2, zero, jnp.ones_like(zero), tape,
    )  # fmt: skip


def diurnal(weather: WeatherKnobs, sky: Sky, at: Instant) -> jax.Array:
    """Return the factor of the hour, 1 - depth (1 + cos 2 pi (t / period - phase)) / 2."""
    turn = clock.since(at, clock.start_of_time()) / weather.period_s - sky.phase
    angle = (2.0 * math.pi) * (turn - jnp.floor(turn))
    return 1.0 - weather.depth * (0.5 + 0.5 * jnp.cos(angle))


def drift(weather: WeatherKnobs, sky: Sky, at: Instant) -> jax.Array:
    """Return the lognormal factor with mean 1: exp(sigma z - sigma^2 / 2), z normal and slow."""
    place = clock.since(at, clock.start_of_time()) / weather.cell_s + sky.shift
    low = jnp.floor(place)
    cell, up = low.astype(jnp.int32), place - low
    first, last = (
        keys.to_normal(keys.threefry(sky.key, at, jnp.uint32(_DRIFT))[0]) for at in (cell, cell + 1)
    )
    z = (first * (1.0 - up) + last * up) / jnp.sqrt((1.0 - up) ** 2 + up**2)
    return jnp.exp(weather.sigma * z - 0.5 * weather.sigma**2)


def factor(weather: WeatherKnobs, sky: Sky, at: Instant) -> jax.Array:
    """Return the factor on a link's bandwidth, bursts aside."""
    return diurnal(weather, sky, at) * drift(weather, sky, at)


def _cell(weather: WeatherKnobs, at: Instant) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the number of the cell of bursts, its seconds, and those left in it."""
    high = jnp.maximum(weather.cell_log2 - 20, 0)
    low = jnp.minimum(weather.cell_log2, 20)
    number = ((at.seconds >> high) << (20 - low)) | (at.fraction >> low)
    whole = (at.seconds & ((1 << high) - 1)).astype(jnp.float32)
    part = (at.fraction & ((1 << low) - 1)).astype(jnp.float32)
    long_s = jnp.exp2((weather.cell_log2 - 20).astype(jnp.float32))
    return number, long_s, long_s - (whole + part * jnp.float32(1.0 / clock.FRACTION))


def is_bad(weather: WeatherKnobs, sky: Sky, at: Instant) -> jax.Array:
    """Tell whether a link is in a burst (Gilbert 1960; Elliott 1963), good and bad exponential.

    Such a chain is drawn anew from its stationary law at the points of a Poisson process of rate
    1 / good + 1 / bad. A cell's points are drawn backwards from its end, so that the latest one
    before an instant is in its own cell, or the last of an earlier one.
    """
    number, long_s, left_s = _cell(weather, at)
    among = jnp.exp(-weather.switch_rate * long_s)  # gaps add up where their exp(-rate) multiply
    ahead = jnp.exp(-weather.switch_rate * left_s)

    def look(
        turn: jax.Array, found: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        sure, bad, before = found
        own = turn < SWITCHES
        cell = jnp.where(own, number, number - (turn - SWITCHES + 1))
        gap, mark = keys.threefry(sky.key, cell, jnp.where(own, _BURST + turn, _BURST))
        before = keys.to_uniform(gap) * jnp.where(own, before, 1.0)
        point = (before > among) & (~own | (before <= ahead))
        drawn = keys.to_uniform(mark) < weather.bad_share
        return sure | point, jnp.where(sure, bad, drawn), before

    start = jnp.array(False), jnp.array(False), jnp.float32(1)
    return lax.fori_loop(0, SWITCHES + CELLS_BACK, look, start, unroll=1)[1]


def bad_over(weather: WeatherKnobs, bad: jax.Array, seconds: jax.Array) -> jax.Array:
    """Return the share of bad time to be expected over some seconds after a state."""
    turns = jnp.maximum(weather.switch_rate * seconds, 1e-6)
    return weather.bad_share + (bad - weather.bad_share) * -jnp.expm1(-turns) / turns


def blended(share: jax.Array, good_s: jax.Array, bad_s: jax.Array) -> jax.Array:
    """Return the seconds of work that advances at 1 / bad_s for a share of them, else 1 / good_s.

    What is not slower in a burst takes `good_s`.
    """
    mixed = 1.0 / ((1.0 - share) / jnp.maximum(good_s, 1e-30) + share / jnp.maximum(bad_s, 1e-30))
    return jnp.where(bad_s > good_s, mixed, good_s)


def expected_s(
    weather: WeatherKnobs, bad: jax.Array, good_s: jax.Array, bad_s: jax.Array
) -> jax.Array:
    """Return the seconds of a transfer that advances at the rate to be expected after a state.

    It takes `good_s` or `bad_s` if nothing changes, and ends at T where
    T ((1 - p) / good_s + p / bad_s) + ([bad] - p) (1 / bad_s - 1 / good_s) (1 - e^(-rT)) / r = 1,
    by Newton's method from the side where it converges. p is the share of bad time, r the rate.
    """
    p, r = weather.bad_share, weather.switch_rate
    good, poor = 1.0 / jnp.maximum(good_s, 1e-30), 1.0 / jnp.maximum(bad_s, 1e-30)
    steady, excess = (1.0 - p) * good + p * poor, (bad - p) * (poor - good)
    time_s = jnp.clip((1.0 - excess / r) / steady, good_s, bad_s)
    for _ in range(4):
        gone = -jnp.expm1(-r * time_s)
        error = steady * time_s + excess * gone / r - 1.0
        time_s = time_s - error / (steady + excess * (1.0 - gone))
    return jnp.where(bad_s > good_s, jnp.clip(time_s, good_s, bad_s), good_s)


def weathered_s(
    weather: WeatherKnobs, bad: jax.Array, good_s: jax.Array, bad_s: jax.Array,
    words: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Return the seconds of a transfer that begins in a state, and its share of bad time.

    It takes `good_s` or `bad_s` if nothing changes; what is not slower in a burst takes `good_s`.
    The rest of the present spell and the next ones are drawn, one of each word; what is left then
    advances at the rate to be expected.
    """
    none = bad_s <= good_s
    total_s, worst_s, left = jnp.float32(0), jnp.float32(0), jnp.float32(1)
    for word in words:
        leaving = weather.switch_rate * jnp.where(bad, 1.0 - weather.bad_share, weather.bad_share)
        spell_s = -jnp.log(keys.to_uniform(word)) / leaving
        rest_s = jnp.where(left > 0, left * jnp.where(bad, bad_s, good_s), 0.0)
        ends = rest_s <= spell_s
        spent_s = jnp.where(ends, rest_s, spell_s)
        total_s, worst_s = total_s + spent_s, worst_s + jnp.where(bad, spent_s, 0.0)
        gone = spell_s / jnp.maximum(jnp.where(bad, bad_s, good_s), 1e-30)
        left, bad = jnp.where(ends, 0.0, jnp.maximum(left - gone, 0.0)), bad ^ ~ends
    rest_s = jnp.where(left > 0, expected_s(weather, bad, left * good_s, left * bad_s), 0.0)
    worst_s = worst_s + bad_over(weather, bad, rest_s) * rest_s
    total_s = total_s + rest_s
    share = worst_s / jnp.maximum(total_s, 1e-30)
    return jnp.where(none, good_s, total_s), jnp.where(none, 0.0, share)
