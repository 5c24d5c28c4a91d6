"""Measured availabilities, and worlds that start as a long run would have left them."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.worlds import durations
from jax.scipy.special import gammainc
from jax.scipy.stats import norm

from jaxwan.core import clock, keys
from jaxwan.experiment.catalog import presets
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import group
from jaxwan.experiment.outages import renewals
from jaxwan.experiment.processes import load_preset
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.world.durations import LAWS, RenewalKnobs, residual
from jaxwan.world.failures import await_up, history
from jaxwan.world.spells import Luck, first_spells, laws_of

MANY = 20_000
TIMES = (0.0, 0.01, 0.1, 0.3, 1.0, 2.5)  # of a mean cycle
PRESETS = {  # hours: mean up, mean down, coefficients of variation; REFERENCE, failures in the wild
    "spot_us_east_1f": (2.18, 1.52),
    "spot_us_east_2a": (5.51, 1.81),
    "spot_us_west_2b": (9.75, 1.10),
    "grid5000": (14.37 * math.gamma(1 + 1 / 0.48), 0.47 * math.gamma(1 + 1 / 0.35)),
    "desktop_grid": (4.16 * math.gamma(1 + 1 / 0.45), 0.74 * math.gamma(1 + 1 / 0.51)),
    "planetlab": (19.35 * math.gamma(1 + 1 / 0.33), 5.59 * math.gamma(1 + 1 / 0.36)),
    "lanl": (816.6 * math.gamma(1 + 1 / 0.48), 2.18 * math.gamma(1 + 1 / 0.58)),
}


def process(up_law, down_law, up=6.0, down=2.0, shape=0.7):
    """Return a process in its stationary state, and one that never slows down."""
    laws = LAWS[up_law].cast(up, shape), LAWS[down_law].cast(down, shape)
    share = jnp.asarray([down / (up + down)], jnp.float32)
    return RenewalKnobs(durations(laws[:1]), durations(laws[1:]), share)


@partial(jax.jit, static_argnums=0)
def _told(count, outages, at_s):
    never = RenewalKnobs(durations([(np.inf, 0.0, 0.0)]), durations([(1.0, 0.0, 0.0)]))
    laws = laws_of(("transient",), outages, never, None)
    own = jnp.moveaxis(keys.fleet_keys(keys.run_key(5), ("a", "b"), count), 0, 1)
    share = jnp.concatenate([outages.down_share, -jnp.ones(1)])
    up = jnp.zeros(2, bool)

    def one(key):
        luck = Luck(laws, key)
        first = first_spells(luck, up, share)

        def down(at_s):
            at = clock.add(clock.start_of_time(), at_s)
            return clock.is_before(at, await_up(luck, first, at).end)

        end = clock.add(clock.start_of_time(), at_s[-1])
        return jax.lax.map(down, at_s), clock.to_seconds(history(luck, first, end).up)

    return jax.vmap(one)(own)


def check(outages, cycle_s, availability):
    """Assert the availability at every early time and on average up to the last of them."""
    at_s = jnp.asarray(TIMES, jnp.float32) * cycle_s
    down, up_s = (np.asarray(x, np.float64) for x in _told(MANY, outages, at_s))
    error = np.sqrt(availability * (1 - availability) / MANY)
    np.testing.assert_allclose(1 - down.mean(axis=0), availability, rtol=0, atol=3 * error)
    share = up_s / (TIMES[-1] * cycle_s)
    error = share.std(ddof=1) / np.sqrt(MANY)
    assert abs(share.mean() - availability) < 3 * error


@pytest.mark.parametrize("up_law", LAWS)
@pytest.mark.parametrize("down_law", ["deterministic", "weibull", "lognormal"])
def test_availability_holds_from_time_zero_on(up_law, down_law):
    check(process(up_law, down_law), 8.0, 0.75)


DRAWS = 400_000


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [0.33, 0.7, 2.5])
def test_what_is_left_has_the_equilibrium_law(law, shape):
    """Its density is the survival function over the mean; distribution functions in closed form."""
    own = keys.fleet_keys(keys.run_key(11), ("left",), DRAWS)[0]
    scale, power, sigma = LAWS[law].cast(1.0, shape)
    one = durations([(scale, power, sigma)])
    each = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, DRAWS), one)
    share = keys.to_uniform(keys.threefry(own, jnp.uint32(0), jnp.uint32(1))[1])
    left = np.sort(np.asarray(jax.jit(residual)(each, share, own), np.float64))
    if law == "deterministic":
        exact = left
    elif law == "lognormal":
        z = np.log(left) / sigma + 0.5 * sigma
        exact = left * (1 - np.asarray(norm.cdf(z))) + np.asarray(norm.cdf(z - sigma))
    else:
        exact = np.asarray(gammainc(power, (left / scale) ** (1 / power)))
    gap = np.abs(exact - (np.arange(DRAWS) + 0.5) / DRAWS).max()
    assert gap < 1.95 / np.sqrt(DRAWS)  # Kolmogorov and Smirnov, one in a thousand


def test_a_fresh_start_has_another_availability():
    """Weibull of shape 0.7 fails early: who begins anew is not up 3/4 of the time."""
    fresh = process("weibull", "weibull")
    with pytest.raises(AssertionError):
        check(RenewalKnobs(fresh.up, fresh.down, -jnp.ones(1)), 8.0, 0.75)


def test_every_preset_is_the_published_one():
    assert set(presets()) == set(PRESETS)
    for name, (up_h, down_h) in PRESETS.items():
        found = resolve(Experiment(scenario="simple", failures={"churn": name})).failures.churn
        assert (found.up_mean / 3600, found.down_mean / 3600) == pytest.approx((up_h, down_h))
        assert (found.unit, found.start) == ("s", "stationary")
        assert load_preset(name).source
        assert load_preset(name).description


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("spot")])
def test_the_spot_presets_vary_as_stated(name):
    """Exponential has a coefficient of variation of 1; theirs is 2.1, between 1.0 and 4.4."""
    entry = load_preset(name)
    assert math.sqrt(math.exp(entry.shape**2) - 1) == pytest.approx(2.1, rel=1e-3)
    assert entry.law == entry.down_law == "lognormal"


@pytest.mark.parametrize("name", PRESETS)
def test_the_availability_of_every_preset(name):
    up_h, down_h = PRESETS[name]
    resolved = resolve(Experiment(scenario="simple", failures={"transient": name}))
    knobs = jax.tree.map(jnp.asarray, renewals(resolved, ("transient",), True))
    check(knobs, (up_h + down_h) * 3600, up_h / (up_h + down_h))


def test_a_preset_by_name_by_table_by_path_and_with_changes(tmp_path):
    def transient(value):
        return resolve(Experiment(scenario="simple", failures={"transient": value})).failures

    (tmp_path / "mine.toml").write_text("mtbf_s = 100.0\nduration_s = 20.0\nstart = 'up'\n")
    assert transient("planetlab") == transient({"preset": "planetlab"})
    mine = transient(str(tmp_path / "mine.toml")).transient
    assert (mine.up_mean, mine.down_mean, mine.start) == (100.0, 20.0, "up")
    changed = transient({"preset": "planetlab", "mtbf_s": 50.0, "start": "up"}).transient
    assert (changed.up_mean, changed.up_law, changed.up_shape) == (50.0, "weibull", 0.33)
    assert changed.start == "up"


def test_a_challenge_finds_the_files_beside_it(tmp_path):
    (tmp_path / "mine.toml").write_text("mtbf_s = 100.0\nduration_s = 20.0\n")
    (tmp_path / "down.csv").write_text("worker,down_s,up_s\n0,1,2\n")
    file = tmp_path / "own.toml"
    file.write_text(
        '[failures]\nchurn = "mine.toml"\nreplay = { file = "down.csv" }\n'
        '[[worker]]\nnetwork = "lan"\n'
    )
    found = resolve(Experiment(scenario="simple", challenge=str(file))).failures
    assert found.churn.up_mean == 100.0
    assert found.replay.spells == (((1.0, 2.0),),)


def test_the_usual_challenges_start_up():
    """One program and no draws at time zero, as before there were stationary starts."""
    names = ("unreliable", "churn", "extreme")
    runs = [
        resolve(Experiment(scenario="simple", challenge=name, timing_only=True)) for name in names
    ]
    plans = [batch.world for batch in group(runs)]
    assert not any(plan.stationary for plan in plans)
    assert all(plan.processes == ("transient", "churn", "crash", "partition") for plan in plans)


WEIBULL = {"law": "weibull", "shape": 0.5, "scale_s": 10.0, "duration_s": 1.0}
BAD = {
    "name": ({"churn": "planetlb"}, ["failures.churn", "did you mean 'planetlab'"]),
    "table": ({"churn": {"preset": "lanll"}}, ["failures.churn", "did you mean 'lanl'"]),
    "path": ({"churn": "no/such.toml"}, ["failures.churn", "no such file: no/such.toml"]),
    "start": ({"churn": {"preset": "lanl", "start": "stationery"}}, ["mean 'stationary'"]),
    "for good": ({"crash": {"mtbf_s": 5.0, "start": "stationary"}}, ["failures.crash", "ends"]),
    "no law": ({"churn": WEIBULL | {"law": "lognormal"}}, ["scale_s", 'law = "weibull"']),
    "no shape": ({"churn": {"law": "weibull", "scale_s": 1.0, "duration_s": 1.0}}, ["shape"]),
    "twice": ({"churn": WEIBULL | {"mtbf_s": 1.0}}, ["mtbf_s and scale_s", "only one"]),
    "zero": ({"churn": WEIBULL | {"scale_s": 0.0}}, ["failures.churn.scale_s", "> 0"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_process_is_refused_in_one_line(case):
    fields, wanted = BAD[case]
    with pytest.raises(InputError) as caught:
        resolve(Experiment(scenario="simple", failures=fields))
    assert "\n" not in str(caught.value)
    for part in wanted:
        assert part in str(caught.value)


def test_a_weibull_scale_is_its_mean_over_gamma():
    resolved = resolve(Experiment(scenario="simple", failures={"churn": WEIBULL}))
    assert resolved.failures.churn.up_mean == pytest.approx(20.0)
    laws = renewals(resolved, ("churn",), False)
    assert (laws.up.scale[0], laws.up.power[0]) == (10.0, 2.0)
    assert laws.down_share is None




def test_the_schema_takes_a_preset_by_name():
    fields = Experiment.model_json_schema()["$defs"]["FailureTable"]["properties"]
    for name in ("churn", "slowdown", "partition", "regional", "replay"):
        assert {"type": "string"} in fields[name]["anyOf"]
