"""How a round ends and what its workers do together: quorum, deadline, all-reduce, shared links."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.worlds import EXPONENTIAL, failing, lognormal, run, seconds, stack, world_knobs

from jaxwan.core.pytrees import replace
from jaxwan.world.closing import ClosingKnobs, close_s
from jaxwan.world.plan import ServerKnobs, SiteKnobs, WorldPlan
from jaxwan.world.together import shared_up_s

STEADY = (1.0, 0.0, 0.0)
INF = float("inf")
BITS = 8e6
WIDTH = 8


def closing(quorum=1.0, backup=0, deadline_s=INF, mad=INF):
    return ClosingKnobs(
        jnp.float32(quorum), jnp.int32(backup), jnp.float32(deadline_s), jnp.float32(mad)
    )


def row(rules=None, present=WIDTH, **changes):
    """Return the knobs of one run of eight workers, of whom some are padding."""
    return replace(world_knobs(WIDTH, present, **changes), closing=rules)


def play(rows, count, exchange="star", seeds=None):
    """Run all rows as one program; return round lengths `[round, run]`, moments and outcome."""
    batch = stack([replace(knobs, ticks=jnp.int32(count)) for knobs in rows])
    plan = WorldPlan(
        "barrier", "ideal", WIDTH, WIDTH, count, exchange=exchange,
        early=batch.closing is not None, shared=batch.server is not None,
    )  # fmt: skip
    moments, outcome = run(plan, batch, np.arange(len(rows)) if seeds is None else seeds)
    assert (outcome.status == 0).all()
    return np.diff(seconds(moments.now), axis=0, prepend=0.0), moments, outcome


def harmonic(n):
    return np.sum(1.0 / np.arange(1, n + 1))


RULES = {
    "quorum": closing(quorum=0.75), "backup": closing(backup=2), "everybody": closing(),
    "deadline": closing(deadline_s=1.0), "dead": closing(backup=1),
}  # fmt: skip
ROUNDS, RUNS = 100, 60


@pytest.fixture(scope="module")
def early():
    """Run every rule on the same seeds; in the last one, a worker's link is dead."""
    dead = np.full(WIDTH, INF, np.float32)
    dead[3] = 0.0
    rows = [
        row(rules, compute_noise=EXPONENTIAL, **({"up_bps": dead} if name == "dead" else {}))
        for name, rules in RULES.items() for _ in range(RUNS)
    ]  # fmt: skip
    length, moments, outcome = play(rows, ROUNDS, seeds=np.tile(np.arange(RUNS), len(RULES)))

    def part(index):
        own = slice(index * RUNS, (index + 1) * RUNS)
        totals = jax.tree.map(lambda leaf: leaf[own], outcome.totals)
        return length[:, own], moments.tick.weight[:, own] > 0, totals

    return {name: part(index) for index, name in enumerate(RULES)}


@pytest.mark.parametrize("rule", ["quorum", "backup"])
def test_the_first_six_of_eight_take_the_expected_time(early, rule):
    length, accepted, totals = early[rule]
    own = length.mean(axis=0)
    error = own.std(ddof=1) / np.sqrt(len(own))
    assert abs(own.mean() - (harmonic(8) - harmonic(2))) < 3 * error
    assert (accepted.sum(axis=-1) == 6).all()
    assert (totals.rejected == 2 * ROUNDS).all()
    assert (totals.accepted == 6 * ROUNDS).all()


def test_a_rule_that_is_never_met_changes_nothing(early):
    length, accepted, _ = early["everybody"]
    rows = [row(compute_noise=EXPONENTIAL) for _ in range(RUNS)]
    plain, moments, _ = play(rows, ROUNDS)
    np.testing.assert_array_equal(length, plain)
    np.testing.assert_array_equal(accepted, moments.tick.weight > 0)
    assert (early["quorum"][0][0] < plain[0]).all()  # one luck, closed earlier


def test_a_deadline_ends_every_round_and_takes_what_is_there(early):
    length, accepted, totals = early["deadline"]
    assert length.max() <= 1.0 + 1e-4
    arrived = accepted.mean(axis=(0, 2))
    error = arrived.std(ddof=1) / np.sqrt(len(arrived))
    assert abs(arrived.mean() - (1 - np.exp(-1))) < 3 * error
    assert (totals.accepted + totals.rejected + totals.lost == WIDTH * ROUNDS).all()
    busy = seconds(totals.busy)
    assert (busy <= WIDTH * length.sum(axis=0) + 1e-3).all()  # cancelled work ends with the round


def test_a_dead_link_does_not_hold_a_quorum_up(early):
    length, accepted, totals = early["dead"]
    assert length.max() < 30
    assert not accepted[:, :, 3].any()
    assert (totals.rejected == ROUNDS).all()


def test_median_and_mad_close_a_round_as_numpy_says():
    rng = np.random.default_rng(0)
    for width in (1, 2, 5, 8):
        for _ in range(20):
            times = rng.exponential(size=width).astype(np.float32)
            here = rng.random(width) < 0.8
            here[0] = True
            got = close_s(closing(mad=2.0), jnp.asarray(times), jnp.asarray(here))
            own = times[here]
            middle = np.median(own)
            want = min(middle + 2 * np.median(np.abs(own - middle)), own.max())
            np.testing.assert_allclose(got, want, rtol=1e-6)


RATE, DELAY = 1e8, 0.02
EACH_WAY = BITS / RATE


FULL = np.ones(WIDTH, np.float32)
SIZES = (1, 2, 6, 8)


def steady(**changes):
    """Return one run without noise on equal links."""
    link = dict(up_bps=FULL * RATE, down_bps=FULL * RATE, update_bits=BITS, dense_bits=BITS)
    return row(**link | {"compute_noise": STEADY} | changes)


@pytest.mark.parametrize(
    ("exchange", "expected", "payloads"),
    [("ring", lambda n: 2 * (n - 1) * DELAY + 2 * (n - 1) / n * EACH_WAY, lambda n: 2 * (n - 1)),
     ("halving_doubling",
      lambda n: 2 * np.ceil(np.log2(n)) * DELAY + 2 * (n - 1) / n * EACH_WAY,
      lambda n: 2 * (n - 1)),
     ("all_gather", lambda n: (n - 1) * (DELAY + EACH_WAY), lambda n: n * (n - 1)),
     ("gossip", lambda n: (n > 1) * (DELAY + EACH_WAY), lambda n: n * (n > 1))],
)  # fmt: skip
def test_a_round_of_a_collective_takes_compute_and_its_closed_form(exchange, expected, payloads):
    rows = [steady(present=n, delay_s=FULL * DELAY) for n in SIZES]
    length, _, outcome = play(rows, 4, exchange)
    first_download = DELAY + EACH_WAY
    for place, n in enumerate(SIZES):
        np.testing.assert_allclose(length[1:, place], 1.0 + expected(n), rtol=1e-5)
        np.testing.assert_allclose(length[0, place] - length[1, place], first_download, rtol=1e-4)
        sent = seconds(outcome.totals.payloads)[place]
        np.testing.assert_allclose(sent, 4 * payloads(n), atol=1e-4)


SLOW = FULL * RATE / 20  # a ring of eight takes 7/4 x 1.6 s
RING_S = 2.8
OUTAGE = ((2.0, 0.0, 0.0), (5.0, 0.0, 0.0))  # down from 2 s to 7 s, then from 9 s


def peers(rate):
    """Return links that are the same both ways, as between peers."""
    return dict(up_bps=rate, down_bps=rate)


@pytest.fixture(scope="module")
def rings():
    """Run several worlds of one ring program: `{name: (lengths, weights, lost)}`."""
    uneven = FULL * RATE
    uneven[2] /= 10
    speed = FULL.copy()
    speed[4] = 0.5
    rows = {
        "uneven": steady(**peers(uneven), speed=speed),
        "transient": steady(**peers(SLOW), dense_bits=0.0, outages=failing(transient=OUTAGE)),
        "churn": steady(**peers(SLOW), dense_bits=0.0, outages=failing(churn=OUTAGE)),
    } | {
        f"overlap {steps}": steady(**peers(SLOW), overlap_steps=float(steps), local_steps=4.0)
        for steps in range(4)
    }
    length, moments, outcome = play(list(rows.values()), 3, "ring")
    lost = outcome.totals.lost
    return {
        name: (length[:, i], moments.tick.weight[:, i], lost[i]) for i, name in enumerate(rows)
    }


def test_a_collective_waits_for_the_slowest_link_and_the_last_worker(rings):
    np.testing.assert_allclose(rings["uneven"][0][1:], 2.0 + 1.75 * EACH_WAY * 10, rtol=1e-5)


@pytest.mark.parametrize("steps", range(4))
def test_an_exchange_hides_behind_the_steps_it_overlaps(rings, steps):
    left = max(RING_S - steps, 0.0)
    np.testing.assert_allclose(rings[f"overlap {steps}"][0][1:], 4.0 + left, rtol=1e-5)


def test_an_outage_pauses_the_exchange_and_a_departure_loses_it(rings):
    length, weight, _ = rings["transient"]
    np.testing.assert_allclose(length[0], 1.0 + RING_S + 5.0, rtol=1e-5)
    assert (weight[0] == 1).all()
    length, weight, lost = rings["churn"]
    np.testing.assert_allclose(length[0], 2.0 + 0.5, rtol=1e-5)  # noticed after 0.5 s
    assert (weight[0] == 0).all()
    assert lost >= WIDTH


def test_a_hierarchy_reduces_inside_its_regions_first():
    region = jnp.array([7, 7, 7, -2, -2, 5, 0, 0], jnp.int32)
    site = SiteKnobs(region, jnp.float32(1e9), jnp.float32(0.001), jnp.int32(1))
    uneven = FULL * RATE
    uneven[1] /= 1e3  # no leader's link: it does not count between the regions
    knobs = steady(present=6, site=site, delay_s=FULL * DELAY, up_bps=uneven, down_bps=uneven,
                   dense_bits=0.0)  # fmt: skip
    length, _, outcome = play([knobs], 3, "hierarchical")
    inside = 2 * 2 * 0.001 + 4 / 3 * BITS / 1e9 + 0.001 + BITS / 1e9  # the region of three
    between = 2 * 2 * DELAY + 4 / 3 * EACH_WAY
    np.testing.assert_allclose(length[1:, 0], 1.0 + inside + between, rtol=1e-5)
    rings, results, outer = 2 * 2 + 2 * 1, 2 + 1, 2 * 2
    sent = seconds(outcome.totals.payloads)[0]
    np.testing.assert_allclose(sent, 3 * (rings + results + outer), atol=1e-4)


def test_who_is_cancelled_in_mid_download_still_has_to_download():
    slow = FULL * INF
    slow[3] = BITS / 2.5  # two and a half seconds for the dense model, rounds of one
    rules = closing(backup=1)
    knobs = row(rules, down_bps=slow, compute_noise=STEADY, update_bits=1.0, dense_bits=BITS)
    length, moments, outcome = play([knobs], 5)
    np.testing.assert_allclose(length[:, 0], 1.0, rtol=1e-5)
    assert not (moments.tick.weight[:, 0, 3] > 0).any()
    assert outcome.totals.dense_fetches[0] == WIDTH - 1
    assert outcome.totals.missed_updates[0] == 4 * (WIDTH - 1) ** 2
    fast = row(rules, down_bps=FULL * INF, compute_noise=STEADY, update_bits=1.0, dense_bits=BITS)
    (_, _, other) = play([fast], 5)
    assert other.totals.dense_fetches[0] == WIDTH


def test_equal_uploads_share_the_ingress_evenly():
    through = shared_up_s(ServerKnobs(jnp.float32(4.0), jnp.float32(INF)), jnp.float32(2.0),
                          jnp.array([1.0, 1.0, INF, 1.5]), jnp.array([INF, INF, INF, 1.0]))
    # from 1.0 on two flows of 2/s; from 1.5 on the third takes 1/s and leaves them 1.5/s each
    np.testing.assert_allclose(through, [1.5 + 1 / 1.5, 1.5 + 1 / 1.5, INF, 3.5], rtol=1e-6)


def test_one_server_takes_every_payload_twice_and_a_wide_one_changes_nothing():
    def server(rate):
        return ServerKnobs(jnp.float32(rate), jnp.float32(rate))

    free = dict(up_bps=FULL * INF, down_bps=FULL * INF, delay_s=FULL * 0)
    link = dict(delay_s=FULL * DELAY, compute_noise=lognormal(0.5))
    rows = [steady(server=server(RATE), **free), steady(server=server(8.01 * RATE), **link),
            steady(server=server(INF), **link)]  # fmt: skip
    length, _, _ = play(rows, 4, seeds=np.zeros(3, int))
    np.testing.assert_allclose(length[:, 0], 1.0 + 2 * 8 * EACH_WAY, rtol=1e-5)
    np.testing.assert_allclose(length[:, 1], length[:, 2], rtol=1e-4)
    assert (length[:, 2] > 1.0 + 2 * DELAY).any()
