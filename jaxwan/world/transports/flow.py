"""One TCP flow over a lossy bottleneck, flight by flight, vectorised over lanes in NumPy.

The unit is a flight: what the window lets out in one round trip. Segments are lost independently
(probability `loss`, acknowledgements too) or because the drop-tail buffer is full. What follows
from a flight is what Linux does: initial window 10 (RFC 6928), slow start with HyStart for CUBIC,
one reduction a recovery (RFC 6675, PRR of RFC 6937), RACK-TLP (RFC 8985), retransmission timeouts
with backoff (RFC 6298, floor 200 ms above the round trip), Reno (RFC 5681), CUBIC (RFC 9438) and
BBR v1 (Cardwell et al. 2016), which answers losses with one round of packet conservation only.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

ALGORITHMS = ("reno", "cubic", "bbr")
CUBIC, BBR = 1, 2
OPEN, RECOVERY, LOSS = 0, 1, 2  # the sender's state
FLIGHT, PROBE, TIMEOUT = 0, 1, 2  # what is sent: a window, a tail loss probe, after a timeout
INITIAL_WINDOW = 10
HEAD = 1  # the first flight carries nine full segments of payload in the measurements
CUBIC_C, CUBIC_BETA, RENO_BETA = 0.4, 0.7, 0.5
CUBIC_ALPHA = 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA)  # segments a round trip, RFC 9438 eq. 4
BBR_GAIN = 2.885  # 2 / ln 2
BBR_CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
MIN_RTO_S, MAX_RTO_S, TIMER_S = 0.2, 120.0, 0.004
SYN_TIMEOUT_S = 1.0
Array = np.ndarray


class Setting(NamedTuple):
    """One flow a lane `[lane]`."""

    algorithm: Array  # index into ALGORITHMS
    segments: Array
    pipe: Array  # bandwidth times round trip, segments
    buffer: Array  # of the bottleneck, segments
    rtt_s: Array
    loss: Array


class Flight(NamedTuple):
    """What was sent and what became of it."""

    window: Array
    size: Array
    old: Array  # retransmissions among them
    new: Array
    old_lost: Array
    new_lost: Array
    lost: Array
    arrived: Array
    serve_s: Array  # on the bottleneck
    round_s: Array
    heard: Array  # an acknowledgement came back
    single: Array  # a probe, or the segment after a timeout


class Verdict(NamedTuple):
    """How the sender learns of it."""

    complete: Array
    quiet: Array  # only a timer can help
    tail: Array  # the last segments are lost
    phantom: Array  # all has arrived, but the sender does not know
    late: Array  # the last hole shows after the repair of an earlier one
    fine: Array
    left_old: Array
    left_new: Array


def binomial(rng: np.random.Generator, n: Array, p: Array) -> Array:
    """Draw binomials; most are of nothing."""
    out = np.zeros(n.shape)
    some = (n > 0) & (p > 0)
    out[some] = rng.binomial(n[some].astype(np.int64), p[some])
    return out


def first_window(rng: np.random.Generator, setting: Setting) -> Array:
    """Return the initial window: 10, but 1 where the handshake timed out twice, as in Linux."""
    early = np.where(setting.rtt_s > SYN_TIMEOUT_S, 1, 0)  # its answer comes after the timeout
    timeouts = rng.geometric((1 - setting.loss) ** 2) - 1 + early
    return np.where(timeouts > 1, 1.0, INITIAL_WINDOW)


def start(rng: np.random.Generator, setting: Setting) -> Any:
    """Return the state of fresh connections."""
    lanes = len(setting.rtt_s)
    zero = np.zeros(lanes)
    whole = np.ceil(setting.segments)
    return SimpleNamespace(
        lane=np.arange(lanes), algorithm=setting.algorithm, pipe=setting.pipe,
        buffer=setting.buffer, rtt=setting.rtt_s, loss=setting.loss,
        rate=setting.pipe / setting.rtt_s, gap=whole - setting.segments, new=whole + HEAD,
        old=zero, time=zero, done=zero + np.inf, window=first_window(rng, setting),
        threshold=zero + 1e9, state=zero, kind=zero, backoff=zero + 1,
        deviation=np.maximum(2 * setting.rtt_s, MIN_RTO_S),
        previous=zero, first=zero + 1, peak=zero, epoch=zero - 1, reach=zero, origin=zero,
        friendly=zero, rate_seen=zero + INITIAL_WINDOW, rate_before=zero + INITIAL_WINDOW,
        rate_recent=zero, rate_age=zero, full=zero, full_rate=zero, saved=zero,
        phase=np.floor(rng.random(lanes) * 7), extended=zero, half_time=zero,
        half_left=whole + HEAD,
    )  # fmt: skip


def is_bbr(s: Any) -> Array:
    """Tell which lanes run BBR."""
    return s.algorithm == BBR


def send(rng: np.random.Generator, s: Any) -> Flight:
    """Send one flight through the bottleneck."""
    bbr, single = is_bbr(s), s.kind != FLIGHT
    cycle = np.asarray(BBR_CYCLE)[s.phase.astype(int)]
    paced = s.rate_seen * np.where(s.full >= 3, cycle, BBR_GAIN)
    window = np.where(bbr, np.minimum(s.window, np.maximum(paced, 1)), s.window)
    limit = np.maximum(np.floor(window + rng.random(window.shape)), 1)
    limit = np.where(single, 1, limit)
    old = np.where((s.kind == PROBE) & (s.new > 0), 0, np.minimum(s.old, limit))
    new = np.minimum(s.new, limit - old)
    size = old + new
    over = np.maximum(size - s.pipe - s.buffer, 0)
    lost = 1 - (1 - s.loss) * (1 - over / np.maximum(size, 1))
    old_lost, new_lost = binomial(rng, old, lost), binomial(rng, new, lost)
    arrived = size - old_lost - new_lost
    short = s.first * HEAD + np.where((s.new <= new) & (new > 0), s.gap, 0)
    serve_s = np.maximum(size - over - short, 0.02) / s.rate
    heard = (arrived > 0) & (rng.random(size.shape) >= s.loss ** np.maximum(arrived, 1))
    return Flight(window, size, old, new, old_lost, new_lost, old_lost + new_lost, arrived,
                  serve_s, np.maximum(s.rtt, serve_s), heard, single)  # fmt: skip


def hear(rng: np.random.Generator, s: Any, f: Flight) -> Verdict:
    """Work out whether acknowledgements, or only a timer, tell the sender what was lost."""
    left_new, left_old = s.new - f.new, s.old - f.old
    final = (left_new <= 0) & (left_old <= 0)
    size = np.maximum(f.size, 1)
    last = (f.lost > 0) & (rng.random(size.shape) < f.lost / size)
    acked = f.heard & (rng.random(size.shape) >= s.loss)
    complete = final & (f.lost == 0) & acked
    phantom = final & (f.lost == 0) & ~acked
    ends = final & last & (f.arrived > 0)
    behind = rng.random(size.shape) < np.maximum(size - 1, 1) ** (1 - np.maximum(f.lost, 1))
    tail = ends & ((f.lost <= 1) | behind)
    quiet = tail | phantom | ~f.heard
    left_old = np.where(phantom, 1, left_old + f.lost)
    return Verdict(
        complete, quiet & ~complete, tail, phantom, ends & ~tail, ~complete & ~quiet,
        left_old, left_new,
    )  # fmt: skip


def wait(s: Any, f: Flight, v: Verdict) -> Array:
    """Let the timers run: a tail loss probe in the open state, else a timeout; return which."""
    queue_s = np.where(s.first > 0, 0, np.minimum(f.size, s.buffer) / s.rate / 2)
    smooth_s = s.rtt + queue_s
    timeout_s = smooth_s + np.maximum(MIN_RTO_S, s.deviation)
    partly = f.heard & (v.tail | v.phantom)
    lone = np.where(partly, v.phantom | (f.lost <= 1), f.size <= 1)
    probe_s = np.minimum(2 * smooth_s + np.where(lone, MIN_RTO_S, TIMER_S), timeout_s)
    since_s = np.where(partly & (s.kind == FLIGHT), s.rtt + f.serve_s, 0)
    probing = v.quiet & (s.state == OPEN) & (s.kind == FLIGHT)
    expiring = v.quiet & ~probing
    finish_s = s.time + s.rtt + np.maximum(f.serve_s, paced_s(s, f))
    s.done = np.where(v.complete & ~np.isfinite(s.done), finish_s, s.done)
    s.time = np.where(probing, s.time + since_s + probe_s, s.time)
    expiry_s = np.minimum(timeout_s * s.backoff, np.maximum(MAX_RTO_S, timeout_s))
    s.time = np.where(expiring, s.time + since_s + expiry_s, s.time)
    again = expiring & (s.kind == TIMEOUT)
    s.backoff = np.where(v.fine, 1, np.where(again, s.backoff * 2, s.backoff))
    s.kind = np.where(probing, PROBE, np.where(expiring, TIMEOUT, np.where(v.fine, FLIGHT, s.kind)))
    impatient = (f.lost > 0) & (f.size < 4)  # RACK waits for a quarter of the round trip
    pause_s = np.where(impatient, s.rtt / 4, 0) + np.where(v.late, s.rtt, 0)
    s.time = np.where(v.fine, s.time + np.where(f.single, s.rtt, f.round_s + pause_s), s.time)
    s.deviation = np.maximum(0.75 * s.deviation, MIN_RTO_S)
    return expiring


def paced_s(s: Any, f: Flight) -> Array:
    """Return how long BBR takes to send its flight."""
    rate = np.where(s.full >= 3, s.rate_seen, BBR_GAIN * s.rate_before)
    return np.where(is_bbr(s), f.size / np.maximum(rate, 1) * s.rtt, 0)


def collapse(s: Any, expiring: Array) -> None:
    """Enter the loss state: one segment, slow start to the reduced window."""
    bbr = is_bbr(s)
    fresh = expiring & (s.state != LOSS)
    s.saved = np.where(expiring & bbr, np.maximum(s.saved, s.window), s.saved)
    reduced = np.maximum(beta(s) * s.window, 2)
    s.threshold = np.where(fresh & ~bbr, reduced, s.threshold)
    s.window = np.where(expiring, 1, s.window)
    s.peak = np.where(fresh, 0, s.peak)
    s.epoch = np.where(expiring, -1, s.epoch)
    s.full = np.where(expiring & bbr & (s.full < 3), 0, s.full)
    s.full_rate = np.where(expiring, 0, s.full_rate)
    s.state = np.where(expiring, LOSS, s.state)


def beta(s: Any) -> Array:
    """Return what a loss leaves of the window."""
    return np.where(s.algorithm == CUBIC, CUBIC_BETA, RENO_BETA)


class Repair(NamedTuple):
    """What a heard flight means for the recovery."""

    lossy: Array
    cut: Array  # a new recovery begins
    over: Array  # recovery or loss state ends


def repair(rng: np.random.Generator, s: Any, f: Flight, v: Verdict, was: Array) -> Repair:
    """Begin and end recoveries; `was` is what was sent."""
    lossy = v.fine & np.where(was == PROBE, v.left_old > 0, f.lost > 0)
    ended = (f.old_lost == 0) & (s.extended == 0)
    over = v.fine & np.where(s.state == RECOVERY, ended, (s.state == LOSS) & (v.left_old <= 0))
    again = (s.state == RECOVERY) & ended & (f.new_lost > 0)
    cut = lossy & ((s.state == OPEN) | again)
    spread = rng.random(cut.shape) < (f.lost - 1) / (f.lost + 1)  # holes found one after another
    s.extended = np.where(cut & is_bbr(s) & spread, 1, np.where(v.fine, 0, s.extended))
    return Repair(lossy, cut, over)


def hystart(s: Any, f: Flight) -> tuple[Array, Array]:
    """Tell where CUBIC leaves slow start, and how much the window still grows in that flight.

    A train of acknowledgements longer than half a round trip ends it, or a queue of an eighth.
    """
    train = (f.serve_s > s.rtt / 2) & (2 / s.rate <= 0.002)
    queue_s = np.maximum(s.previous - s.pipe, 0) / s.rate
    delay = queue_s > np.clip(s.rtt / 8, 0.004, 0.016)
    ready = (s.algorithm == CUBIC) & (s.window >= 16) & (s.threshold > 1e8)
    more = np.where(delay, 8, np.minimum(s.pipe / 2, f.arrived))
    return ready & (train | delay), more


def cubic_window(s: Any, f: Flight, growing: Array, window: Array) -> Array:
    """Return CUBIC's next window: C (t - K)^3 + W_max, or the Reno-friendly one if larger."""
    begin = growing & (s.epoch < 0)
    s.epoch = np.where(begin, s.time - f.round_s, s.epoch)
    s.reach = np.where(begin, np.cbrt(np.maximum(s.peak - window, 0) / CUBIC_C), s.reach)
    s.origin = np.where(begin, np.maximum(s.peak, window), s.origin)
    s.friendly = np.where(begin, window, s.friendly)
    share = f.arrived / np.maximum(window, 1)
    s.friendly = s.friendly + np.where(growing, CUBIC_ALPHA * share, 0)
    target = s.origin + CUBIC_C * (s.time - s.epoch + s.rtt - s.reach) ** 3
    step = np.where(target > window, np.minimum(target - window, 0.5 * window), 0.01)
    return np.maximum(window + step, s.friendly)


def grow(s: Any, f: Flight, v: Verdict, r: Repair, was: Array) -> Array:
    """Return the next window of Reno and CUBIC."""
    cubic, slow = s.algorithm == CUBIC, s.window < s.threshold
    before_hole = np.where(r.lossy, f.size / (f.lost + 1), 0)
    early = slow & (was != PROBE) & (s.state == OPEN)
    reached = s.window + np.where(early, before_hole, 0)
    reduced = np.maximum(beta(s) * reached, 2)
    fast = np.where(reached < s.peak, reached * (1 + CUBIC_BETA) / 2, reached)
    s.peak = np.where(r.cut & cubic, fast, s.peak)
    s.epoch = np.where(r.cut, -1, s.epoch)
    s.threshold = np.where(r.cut, reduced, s.threshold)
    used = (f.size >= np.floor(f.window) - 0.5) | f.single
    growing = v.fine & ~r.lossy & (s.state != RECOVERY) & used
    leaves, more = hystart(s, f)
    leaves &= growing & slow
    up = np.minimum(s.window + np.where(leaves, more, f.arrived), np.maximum(s.threshold, s.window))
    steady = growing & ~slow
    additive = s.window + np.minimum(f.arrived / np.maximum(s.window, 1), 1)
    curved = cubic_window(s, f, steady & cubic, s.window)
    window = np.where(growing & slow, up, s.window)
    window = np.where(steady, np.where(cubic, curved, additive), window)
    s.threshold = np.where(leaves, window, s.threshold)
    conserved = np.maximum(np.minimum(reduced, f.arrived + 1), 1)
    window = np.where(r.cut, conserved, window)
    repairing = v.fine & (s.state == RECOVERY) & ~r.cut
    regained = np.minimum(s.threshold, np.maximum(s.window, 2 * f.arrived))
    return np.where(repairing, regained, window)


def watch_rate(s: Any, f: Flight, bbr: Array) -> None:
    """Update BBR's filter of the largest delivery rate (segments a round trip) of ten rounds."""
    now = f.arrived * s.rtt / f.round_s
    s.rate_before = np.where(bbr, s.rate_seen, s.rate_before)
    stale = s.rate_age >= 10
    best = now >= s.rate_seen
    seen = np.where(best, now, np.where(stale, np.maximum(now, s.rate_recent), s.rate_seen))
    recent = np.where(stale | best, now, np.maximum(s.rate_recent, now))
    s.rate_recent = np.where(bbr, recent, s.rate_recent)
    s.rate_age = np.where(bbr, np.where(best | stale, 0, s.rate_age + 1), s.rate_age)
    s.rate_seen = np.where(bbr, np.maximum(seen, 1), s.rate_seen)
    limited = f.size < np.floor(f.window) - 0.5  # by what there is to send
    checked = bbr & ~limited & (s.full < 3) & ~f.single
    grew = s.rate_seen >= 1.25 * s.full_rate
    s.full = np.where(checked, np.where(grew, 0, s.full + 1), s.full)
    s.full_rate = np.where(checked & grew, s.rate_seen, s.full_rate)
    s.phase = np.where(bbr & (s.full >= 3), (s.phase + 1) % len(BBR_CYCLE), s.phase)


def bbr_window(s: Any, f: Flight, v: Verdict, r: Repair) -> Array:
    """Return BBR's next window; call after `watch_rate`."""
    full = s.full >= 3
    target = np.where(full, 2.0, BBR_GAIN) * s.rate_seen + 3
    s.saved = np.where(is_bbr(s) & r.cut & (s.state == OPEN), s.window, s.saved)
    more = s.window + np.where(f.single, 1, f.arrived)
    capped = np.where(full, np.minimum(more, target), np.where(s.window < target, more, s.window))
    window = np.where(f.single, more, capped)
    window = np.where(r.lossy, np.maximum(window - f.lost, 1), window)
    window = np.where(r.cut, np.maximum(f.arrived, 1), window)
    restored = is_bbr(s) & r.over & ~r.cut
    window = np.where(restored, np.maximum(window, s.saved), window)
    s.saved = np.where(restored, 0, s.saved)
    return np.where((s.state == LOSS) & ~r.over, np.maximum(more, 1), np.maximum(window, 4))


def step(rng: np.random.Generator, s: Any) -> None:
    """Advance every lane by one flight."""
    was = s.kind
    f = send(rng, s)
    v = hear(rng, s, f)
    expiring = wait(s, f, v)
    collapse(s, expiring)
    r = repair(rng, s, f, v, was)
    bbr = is_bbr(s)
    window = grow(s, f, v, r, was)
    watch_rate(s, f, bbr & v.fine)
    window = np.where(bbr, bbr_window(s, f, v, r), window)
    s.window = np.where(v.fine, window, s.window)
    state = np.where(r.cut, RECOVERY, np.where(r.over, OPEN, s.state))
    s.state = np.where(expiring, LOSS, state)
    s.old, s.new = v.left_old, v.left_new
    s.previous, s.first = f.size, s.first * 0


def transfer_times(
    rng: np.random.Generator, setting: Setting, most_flights: int = 1500
) -> Array:
    """Return the seconds `[lane]` from the first byte written to the last acknowledgement.

    What is not over after `most_flights` goes on at the rate of the second half of them.
    """
    s = start(rng, setting)
    out = np.full(len(s.lane), np.inf)
    for flight in range(1, most_flights + 1):
        step(rng, s)
        if flight == most_flights // 2:
            s.half_time, s.half_left = s.time.copy(), s.new.copy()
        if flight % 8 == 0 or flight == most_flights:
            over = np.isfinite(s.done)
            out[s.lane[over]] = s.done[over]
            s = SimpleNamespace(**{name: value[~over] for name, value in vars(s).items()})
            if not len(s.lane):
                return out
    pace = np.maximum(s.half_left - s.new, 0.5) / np.maximum(s.time - s.half_time, 1e-9)
    out[s.lane] = s.time + s.new / pace
    return out
