"""Read the table of TCP transfer times: a curve per link, once, then a few look-ups a transfer.

A curve holds log seconds at payloads and quantiles of its own, even steps apart, so that a look-up
is arithmetic and four reads. Payloads are placed by log2(1 + segments / 10): a flight of slow start
ends wherever that is whole, and the curve may jump there. Quantiles are placed on the scale of
Gumbel, -log(-log u).

Streams share the link: each has its part of the payload, of the bandwidth and of the buffer, they
are independent, and the slowest counts, so that the quantile u of n streams is the quantile
u**(1/n) of one: a shift by log n. A window limit caps a stream at window / round trip.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core import keys
from jaxwan.core.pytrees import row
from jaxwan.world.transports.flow import ALGORITHMS, CUBIC_BETA, CUBIC_C, INITIAL_WINDOW
from jaxwan.world.transports.generate import (
    FILE,
    LEAN_BUFFER,
    LEVEL,
    LOSS,
    PIPE,
    RICH_BUFFER,
    RTT_S,
    SEGMENTS,
    STEP,
)

SEGMENT_BITS = 1448 * 8  # payload of a segment, MTU 1500 with timestamps
WIRE_BITS = 1514 * 8  # what it occupies on the wire
HOST_S = 0.6e-3  # both hosts' part of a round trip ...
HOST_RTT_S = 2e-3  # ... less below round trips like this
SPREAD = 0.075  # of transfers that should take equally long: hosts, schedulers, cross traffic
UNEVEN = 0.015  # streams share unevenly: the slowest takes longer by streams ** UNEVEN
LEAST_LOSS = 1e-5
LEAST_RTT_S = 1e-3  # where segments are lost: timers exist without a distance, too
END = 1e9  # segments; the curve goes on to there by the rate at its end
JUMPS, PARTS, SLOPES = 7, 4, 6  # flights of slow start, steps within each; steps after them
ROWS = (PARTS + 1) * JUMPS + SLOPES + 2
LEVELS = 16
SIZE = ROWS * LEVELS
BEYOND = (0.5, 3.0)  # the scores go on so far before the first and after the last
_SCORES = -np.log(-np.log(np.asarray(LEVEL)))
_LOWEST, _HIGHEST = float(_SCORES[0]) - BEYOND[0], float(_SCORES[-1]) + BEYOND[1]
_LEVEL_STEP = (_HIGHEST - _LOWEST) / (LEVELS - 1)


class Path(NamedTuple):
    """One direction of a link."""

    bandwidth_bps: jax.Array
    delay_s: jax.Array  # one way
    loss: jax.Array
    jitter_s: jax.Array  # standard deviation of the delay
    streams: jax.Array  # float32
    window_bytes: jax.Array  # inf = no limit


def steady_window(algorithm: str, rtt_s: Any, loss: Any) -> Any:
    """Return the average congestion window in segments under random loss.

    CUBIC is RFC 9438 eq. 5 with its Reno-friendly region, Reno the same region, 1.2 / sqrt(p).
    """
    reno = 1.2 / jnp.sqrt(loss)
    if algorithm == "reno":
        return reno
    if algorithm == "bbr":
        return jnp.full_like(reno, jnp.inf)
    lift = (CUBIC_C * (3 + CUBIC_BETA) / (4 * (1 - CUBIC_BETA))) ** 0.25
    return jnp.maximum(lift * rtt_s**0.75 / loss**0.75, reno)


@cache
def _table() -> np.ndarray:
    """Return `[algorithm, buffer, rtt, loss, pipe, segments x level]`, int16.

    More segments take no less time, though a few may wait for a timer where more would not.
    """
    with lzma.open(FILE) as file:
        table = np.cumsum(np.load(file), axis=-1, dtype=np.int16)
    wire = np.log1p(np.divide.outer(np.asarray(SEGMENTS, float), PIPE))[..., None]  # over the rtt
    least = np.round(wire / STEP).astype(np.int16)
    table = np.moveaxis(np.maximum.accumulate(table + least, axis=4) - least, 5, 4)
    return np.ascontiguousarray(table.reshape(*table.shape[:5], -1))


def _between(nodes: np.ndarray, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the lower node's index and the weight of the upper one, clamped to the nodes."""
    grid = jnp.asarray(nodes, jnp.float32)
    index = jnp.clip(jnp.sum(x >= grid) - 1, 0, len(nodes) - 2)
    return index, jnp.clip((x - grid[index]) / (grid[index + 1] - grid[index]), 0.0, 1.0)


def _logs(nodes: Any, least: float = 0.0) -> np.ndarray:
    return np.log(np.asarray(nodes, np.float64) + least)


def round_trip_s(path: Path) -> jax.Array:
    """Return the round trip with the hosts' part."""
    rtt_s = jnp.maximum(2.0 * path.delay_s, jnp.where(path.loss > 0, LEAST_RTT_S, 0.0))
    return rtt_s + HOST_S * rtt_s / (rtt_s + HOST_RTT_S)


def stream_rate(path: Path, rtt_s: jax.Array) -> jax.Array:
    """Return one stream's segments per second: its share of the link, or its window's."""
    window = jnp.maximum(path.window_bytes * (8.0 / SEGMENT_BITS), 1.0)
    limit = jnp.where(rtt_s > 0, window / jnp.maximum(rtt_s, 1e-9), jnp.inf)
    return jnp.minimum(path.bandwidth_bps / (WIRE_BITS * path.streams), limit)


def _mixture(algorithm: str, path: Path, cell: Callable[[jax.Array, Any], jax.Array]) -> jax.Array:
    """Interpolate the table at a link; `cell(table, at)` picks what is wanted of one corner."""
    rtt_s = round_trip_s(path)
    rate = stream_rate(path, rtt_s)
    pipe = jnp.clip(jnp.where(rtt_s > 0, rate * rtt_s, 0.0), PIPE[0], PIPE[-1])
    lean = jnp.maximum(pipe, LEAN_BUFFER)
    buffer = jnp.clip(RICH_BUFFER / path.streams, lean, RICH_BUFFER)
    wide = jnp.log(buffer / lean) / jnp.maximum(jnp.log(RICH_BUFFER / lean), 1e-3)
    axes = (
        (jnp.int32(0), jnp.clip(wide, 0.0, 1.0)),
        _between(_logs(RTT_S), jnp.log(jnp.maximum(rtt_s, 1e-9))),
        _between(_logs(LOSS, LEAST_LOSS), jnp.log(path.loss + LEAST_LOSS)),
        _between(_logs(PIPE), jnp.log(pipe)),
    )
    table = jnp.asarray(_table()[ALGORITHMS.index(algorithm)])
    total = jnp.float32(0)
    for corner in np.ndindex(2, 2, 2, 2):
        at = tuple(index + up for (index, _), up in zip(axes, corner, strict=True))
        weight = math.prod(w if up else 1.0 - w for (_, w), up in zip(axes, corner, strict=True))
        total = total + weight * cell(table, at).astype(jnp.float32)
    return STEP * total


def _least_log_s(path: Path, segments: jax.Array) -> jax.Array:
    """Return the log seconds of a round trip and the segments on the wire."""
    rtt_s = round_trip_s(path)
    return jnp.log(jnp.clip(rtt_s + segments / stream_rate(path, rtt_s), 1e-30, 1e30))


def _end(algorithm: str, path: Path, last: jax.Array, before: jax.Array) -> jax.Array:
    """Return the log seconds of END segments from those of the last two rows of the table.

    A segment takes what it took between these, but at least what the steady window allows.
    """
    took = 1.0 - jnp.exp(jnp.minimum(before - last, -0.3))
    end = last + jnp.log(took) + math.log((END - SEGMENTS[-1]) / np.diff(_ROW_SEGMENTS)[-1])
    rtt_s = round_trip_s(path)
    law_s = rtt_s / steady_window(algorithm, rtt_s, jnp.maximum(path.loss, 1e-12))
    law = jnp.log(jnp.maximum(law_s, 1e-30) * (END - SEGMENTS[-1]))
    return jnp.maximum(end, law)


def _heights(segments: Any) -> np.ndarray:
    return np.log2(1.0 + np.asarray(segments, np.float64) / INITIAL_WINDOW)


_TOP, _PEAK = float(_heights(SEGMENTS[-1])), float(_heights(END))
_SLOPE = (_TOP - JUMPS) / SLOPES
_ROW_HEIGHTS = np.array(
    [flight + part / PARTS for flight in range(JUMPS) for part in range(PARTS + 1)]
    + [JUMPS + _SLOPE * step for step in range(SLOPES + 1)]
)  # the last row follows from the rate at the end
_ROW_HEIGHTS[0] = float(_heights(1.0))  # one segment is placed at 0, to be exact
_ROW_SEGMENTS = INITIAL_WINDOW * (2.0**_ROW_HEIGHTS - 1.0)


def _line(nodes: np.ndarray, x: float) -> tuple[int, float]:
    """Return the lower node of the straight line through the two nearest, and the upper's weight.

    The line goes on beyond the nodes.
    """
    low = int(np.clip(np.searchsorted(nodes, x, "right") - 1, 0, len(nodes) - 2))
    return low, float((x - nodes[low]) / (nodes[low + 1] - nodes[low]))


@cache
def _rows() -> tuple[np.ndarray, np.ndarray]:
    """Return the lower payload of the table for each row, and the weight of the next.

    No row looks across a jump.
    """
    nodes = _heights(SEGMENTS)
    flights = np.minimum(np.floor(nodes + 1e-9), JUMPS)
    below, weight = np.zeros(ROWS - 1, np.int32), np.zeros(ROWS - 1, np.float32)
    for index, height in enumerate(_ROW_HEIGHTS):
        own = np.flatnonzero(flights == min(index // (PARTS + 1), JUMPS))
        low, weight[index] = _line(nodes[own], height)
        below[index] = own[low]
    return below, weight


@cache
def _columns() -> np.ndarray:
    """Return the weights `[level of the table, level]`."""
    weights = np.zeros((len(LEVEL), LEVELS), np.float32)
    for index in range(LEVELS):
        low, above = _line(_SCORES, _LOWEST + _LEVEL_STEP * index)
        weights[low : low + 2, index] = 1.0 - above, above
    return weights


def _log_s(path: Path, rows: jax.Array, below: jax.Array, above: jax.Array) -> jax.Array:
    """Return log seconds `[row x level]` of some rows, given the table's payloads around them."""
    weight = jnp.asarray(_rows()[1])[rows][:, None]
    least = _least_log_s(path, jnp.asarray(_ROW_SEGMENTS, jnp.float32)[rows])[:, None]
    log_s = jax.lax.cummax(below * (1.0 - weight) + above * weight + least)
    return jnp.matmul(log_s, _columns(), precision="highest") + UNEVEN * jnp.log(path.streams)


def _last(algorithm: str, path: Path, log_s: jax.Array) -> jax.Array:
    """Return the row after the last two."""
    rise = _end(algorithm, path, log_s[-1], log_s[-2]) - log_s[-1]
    return log_s[-1] + rise * (_SLOPE / (_PEAK - _TOP))


def curve(algorithm: str, path: Path) -> jax.Array:
    """Return a link's log seconds `[row x level]` for any payload."""
    cells = _mixture(algorithm, path, lambda table, at: table[at])
    cells, below = cells.reshape(len(SEGMENTS), len(LEVEL)), _rows()[0]
    log_s = _log_s(path, jnp.arange(ROWS - 1), cells[below], cells[below + 1])
    return jnp.concatenate([log_s.ravel(), _last(algorithm, path, log_s)])


def fixed(algorithm: str, path: Path, bits: jax.Array) -> jax.Array:
    """Return a link's log seconds `[level]` for one payload, without its curve."""
    low, along = _payload(_height(bits, path))
    inner = jnp.minimum(low, ROWS - 3)
    rows = jnp.stack([inner, inner + 1])
    nodes = jnp.asarray(_rows()[0])[rows]

    def around(table: jax.Array, at: Any) -> jax.Array:
        cells = table.reshape(*table.shape[:-1], len(SEGMENTS), len(LEVEL))
        return jnp.stack([cells[(*at, nodes)], cells[(*at, nodes + 1)]])

    log_s = _log_s(path, rows, *_mixture(algorithm, path, around))
    outside = low > inner
    below = jnp.where(outside, log_s[1], log_s[0])
    above = jnp.where(outside, _last(algorithm, path, log_s), log_s[1])
    return below * (1.0 - along) + above * along


def _height(bits: jax.Array, path: Path) -> jax.Array:
    """Return where a stream's payload is placed."""
    whole = jnp.maximum(jnp.ceil(bits / (SEGMENT_BITS * path.streams)), 1.0)
    height = jnp.minimum(jnp.log2(1.0 + whole * (1.0 / INITIAL_WINDOW)), _PEAK)
    return jnp.where(whole > 1.0, height, 0.0)


def _payload(height: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the row below a payload and the weight of the next, more than one near the peak."""
    part = jnp.minimum(height * PARTS, PARTS * JUMPS - 1.0).astype(jnp.int32)
    slope = (height - JUMPS) * (1.0 / _SLOPE)
    step = jnp.clip(slope, 0.0, SLOPES).astype(jnp.int32)
    early = height < JUMPS
    low = jnp.where(early, part + part // PARTS, (PARTS + 1) * JUMPS + step)
    return low, jnp.where(early, height * PARTS - part, slope - step)


def _mixed(word: jax.Array) -> jax.Array:
    """Return another word that looks independent (the finalizer of MurmurHash3)."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def handshake_s(word: jax.Array, path: Path) -> jax.Array:
    """Return a round trip and the timeouts of lost handshakes: 1 s, then twice as long each."""
    failing = jnp.clip(1.0 - (1.0 - path.loss) ** 2, 1e-9, 0.99)
    worst = -jnp.expm1(jnp.log(keys.to_uniform(_mixed(word))) / path.streams)
    tries = jnp.log(jnp.maximum(worst, 1e-9)) / jnp.log(failing)
    return round_trip_s(path) + jnp.exp2(jnp.clip(jnp.floor(tries), 0.0, 6.0)) - 1.0


def _level(word: jax.Array, streams: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the level below the slowest stream's luck and the weight of the next."""
    score = jnp.log(streams) - jnp.log(-jnp.log(keys.to_uniform(word)))
    place = jnp.clip((score - _LOWEST) * (1.0 / _LEVEL_STEP), 0.0, LEVELS - 1.0)
    level = jnp.minimum(place.astype(jnp.int32), LEVELS - 2)
    return level, place - level


def _pair(curves: jax.Array, place: jax.Array, above: jax.Array) -> jax.Array:
    both = row((curves, curves[1:]), place)
    return both[0] * (1.0 - above) + both[1] * above


def transfer_s(
    word: jax.Array, bits: jax.Array, path: Path, curves: jax.Array, start: jax.Array
) -> jax.Array:
    """Return the seconds until the sender's last acknowledgement.

    The link's curve is `curves[start : start + SIZE]`; `word` is the transfer's luck.
    """
    low, along = _payload(_height(bits, path))
    level, above = _level(word, path.streams)
    place = start + low * LEVELS + level
    log_s = _pair(curves, place, above) * (1.0 - along)
    return _told_s(word, bits, path, log_s + _pair(curves, place + LEVELS, above) * along)


def fixed_transfer_s(
    word: jax.Array, bits: jax.Array, path: Path, fixed: jax.Array, start: jax.Array
) -> jax.Array:
    """Return the same for the one payload that `fixed[start : start + LEVELS]` was made for."""
    level, above = _level(word, path.streams)
    return _told_s(word, bits, path, _pair(fixed, start + level, above))


def _told_s(word: jax.Array, bits: jax.Array, path: Path, log_s: jax.Array) -> jax.Array:
    """Return the seconds of a transfer from its log seconds: jitter, spread, a short payload."""
    segments = bits / (SEGMENT_BITS * path.streams)
    flow_s = jnp.exp(log_s) * jnp.maximum(segments * (1.0 / END), 1.0)
    rate = path.bandwidth_bps / (WIRE_BITS * path.streams)
    flow_s = flow_s - jnp.maximum(1.0 - segments, 0.0) / rate
    dice = (word & 7) + ((word >> 3) & 7) + ((word >> 6) & 7)  # the bits that `_level` leaves
    wobble = (dice.astype(jnp.float32) - 10.5) * (1.0 / math.sqrt(15.75))
    flights = jnp.minimum(_height(bits, path), 5.0)
    jitter_s = math.sqrt(2.0) * path.jitter_s * (1.5 + 0.5 * wobble + flights)
    total_s = flow_s * (1.0 + SPREAD * wobble) + jnp.maximum(jitter_s, 0.0)
    total_s = jnp.maximum(total_s, 2.0 * path.delay_s)
    total_s = jnp.where(total_s < 1e-20, 0.0, total_s)  # no distance and no end of bandwidth
    return jnp.where(path.bandwidth_bps > 0, total_s, jnp.inf)
