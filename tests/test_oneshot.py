"""One-shot helpers: NumPy in and out, every member, and wrong input in one line."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwan as jw
from jaxwan import engine, oneshot
from jaxwan.core.families import Static
from jaxwan.experiment import choices
from jaxwan.experiment.schema import family_models
from jaxwan.learning.aggregators import PreAggregator
from jaxwan.learning.aggregators.base import as_it_is
from jaxwan.learning.attacks import Attack
from jaxwan.learning.compressors import Form

X = np.random.default_rng(0).normal(size=(12, 17)).astype(np.float32)
UPDATES = np.random.default_rng(1).normal(size=(11, 6))
MASK = np.arange(11) != 4
HELPERS = {
    jw.compress: (jw.COMPRESSORS,),
    jw.aggregate: (jw.AGGREGATORS, jw.PRE_AGGREGATORS),
    jw.attack: (jw.ATTACKS,),
}


def plain(member):
    """Return the default knobs as numbers."""
    return {name: knob.default for name, knob in member.knobs.items()}


def form_of(name, *shapes):
    static = {key: fact.default for key, fact in jw.COMPRESSORS[name].static.items()}
    return Form(shapes, static)


@pytest.mark.parametrize("name", jw.COMPRESSORS)
def test_compress_returns_what_its_message_says_and_the_size_of_that(name):
    member, form = jw.COMPRESSORS[name], form_of(name, X.shape)
    y, bits = jw.compress(name, X, key=5)
    assert (type(y), y.shape, y.dtype) == (np.ndarray, X.shape, np.float32)
    assert y.flags.writeable
    blob = member.pack(form, plain(member), jax.random.key(5), y.ravel())
    assert len(blob) == -(-bits // 8)
    atol = 0 if member.exact else 1e-5 * np.abs(y).max()
    np.testing.assert_allclose(member.unpack(form, plain(member), blob), y.ravel(), 0, atol)


def test_compress_takes_several_tensors_and_tells_the_compressor_their_shapes():
    x = {"w": X, "b": X[0].astype(np.float64)}
    y, bits = jw.compress("topk", x, ratio=0.1)
    flat = np.concatenate([X[0], X.ravel()])  # JAX orders a dict by its names
    kept = np.sort(np.abs(flat))[-round(0.1 * flat.size) :]
    sent = np.concatenate([y["b"], y["w"].ravel()])
    np.testing.assert_array_equal(np.sort(np.abs(sent[sent != 0])), kept)
    assert bits == 32 * len(kept) + flat.size
    assert y["w"].shape == X.shape
    assert jw.compress("none", [1, 2, 3])[1] == 96
    assert jw.compress("none", 2.5)[0] == np.float32(2.5)


def test_memory_feeds_errors_back_and_moves_the_luck_on():
    memory, error = None, 0.0
    for index in range(3):
        y, _, memory = jw.compress("topk", X + index, memory=memory, ratio=0.1, error_decay=0.5)
        wanted = X + index + np.float32(0.5) * error
        least = np.sort(np.abs(wanted).ravel())[-round(0.1 * X.size)]
        np.testing.assert_allclose(y, np.where(np.abs(wanted) >= least, wanted, 0), rtol=1e-6)
        error = wanted - y
    begun = jw.compress("randk", X, key=3, memory=None)
    np.testing.assert_array_equal(begun[0], jw.compress("randk", X, key=3)[0])
    assert (jw.compress("randk", X, key=3, memory=begun[2])[0] != begun[0]).any()
    with pytest.raises(jw.InputError, match="memory: expected None"):
        jw.compress("topk", X[:2], memory=memory)


@pytest.mark.parametrize("name", [*jw.AGGREGATORS, *jw.PRE_AGGREGATORS])
def test_aggregate_ignores_absent_rows(name):
    poisoned = np.where(MASK[:, None], UPDATES, np.nan)
    wild = np.where(MASK[:, None], UPDATES, 1e6)
    found = jw.aggregate(name, poisoned, mask=MASK)
    assert (type(found), found.dtype) == (np.ndarray, np.float32)
    assert found.shape == (UPDATES.shape if name in jw.PRE_AGGREGATORS else UPDATES.shape[1:])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, jw.aggregate(name, wild, mask=MASK))


def test_aggregate_agrees_with_numpy():
    rows = UPDATES.astype(np.float32)
    np.testing.assert_allclose(
        jw.aggregate("median", UPDATES, mask=MASK), np.median(rows[MASK], axis=0), rtol=1e-6
    )
    weights = np.linspace(1, 2, 11)
    wanted = np.average(rows[MASK], axis=0, weights=weights[MASK])
    found = jw.aggregate("mean", UPDATES, mask=MASK.astype(int), weights=weights)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    apart = np.sort(np.square(rows[:, None] - rows[None]).sum(-1), axis=1)[:, 1 : 11 - 2 - 2 + 1]
    best = rows[apart.sum(axis=1).argmin()]
    np.testing.assert_array_equal(jw.aggregate("krum", UPDATES, f=2), best)
    np.testing.assert_array_equal(jw.aggregate("mean", UPDATES, mask=[False] * 11), np.zeros(6))


def keep_two(static, knobs, key, updates, weights):
    """Keep the first two rows, times a factor."""
    first = jnp.arange(updates.shape[0]) < 2
    return updates * knobs["factor"], jnp.where(first, weights, 0)


def test_a_pre_aggregator_alone_and_before_a_rule(monkeypatch):
    factor = jw.AGGREGATORS["krum"].knobs["f"]._replace(default=3)
    own = PreAggregator("Keep two.", "", {"factor": factor}, {}, keep_two, as_it_is)
    monkeypatch.setitem(jw.PRE_AGGREGATORS, "keep_two", own)
    models = family_models({"keep_two": own})
    monkeypatch.setitem(choices.PRE_AGGREGATOR_MODELS, "keep_two", models["keep_two"])
    rows = jw.aggregate("keep_two", UPDATES)
    np.testing.assert_allclose(rows[:2], 3 * UPDATES[:2], rtol=1e-6)
    assert not rows[2:].any()
    before = {"kind": "keep_two", "factor": 5}
    found = jw.aggregate("mean", UPDATES, pre_aggregator=before)
    np.testing.assert_allclose(found, 5 * UPDATES[:2].mean(axis=0), rtol=1e-5)
    with pytest.raises(jw.InputError, match="memory: 'keep_two' is a pre-aggregator"):
        jw.aggregate("keep_two", UPDATES, memory=None)


def test_a_rule_with_memory_gets_it_back():
    _, memory = jw.aggregate("mean", UPDATES, memory=None)
    found, memory = jw.aggregate("mean", UPDATES, memory=memory)
    assert memory.calls == 2
    np.testing.assert_allclose(found, UPDATES.mean(axis=0), rtol=1e-5)
    with pytest.raises(jw.InputError, match="memory: "):
        jw.aggregate("median", UPDATES, memory=memory)


@pytest.mark.parametrize("name", jw.ATTACKS)
def test_attack_returns_the_attackers_rows(name):
    if jw.ATTACKS[name].poison_batch is not None:
        with pytest.raises(jw.InputError, match="poisons the data"):
            jw.attack(name, UPDATES)
        return
    sent = jw.attack(name, UPDATES, count=13)
    assert (type(sent), sent.shape, sent.dtype) == (np.ndarray, (13, 6), np.float32)
    other = jw.attack(name, UPDATES, count=13, key=1)
    assert np.array_equal(sent, other, equal_nan=True) != jw.ATTACKS[name].random


def test_attacks_agree_with_numpy():
    turned = -2 * np.tile(UPDATES.mean(axis=0), (2, 1))
    np.testing.assert_allclose(jw.attack("ipm", UPDATES, count=2, tau=2.0), turned, rtol=1e-5)
    own = UPDATES[[*range(11), 0, 1]].astype(np.float32)
    np.testing.assert_array_equal(jw.attack("sign_flip", UPDATES, count=13), -own)


def ask_the_server(knobs, key, updates, attacker, weights, aggregate=None):
    """Send what the server makes of the honest fleet."""
    sent = knobs["times"] * aggregate(updates)
    return jnp.where(attacker[:, None], sent[None], updates)


def test_an_adaptive_attack_searches_against_the_named_rule(monkeypatch):
    own = Attack("Ask.", "", {}, {"times": Static(1, "a")}, ask_the_server, adaptive=True)
    monkeypatch.setitem(jw.ATTACKS, "ask", own)
    monkeypatch.setitem(choices.ATTACK_MODELS, "ask", family_models({"ask": own})["ask"])
    fleet = np.concatenate([UPDATES, UPDATES[:2]])
    for against, wanted in (
        (None, fleet.mean(axis=0)),
        ("median", np.median(fleet, axis=0)),
        (jw.TrimmedMean(trim_ratio=0.45), np.sort(fleet, axis=0)[5:8].mean(axis=0)),
    ):
        sent = jw.attack("ask", UPDATES, count=2, against=against)
        np.testing.assert_allclose(sent, np.tile(wanted, (2, 1)), rtol=1e-5, atol=1e-6)
    sent = jw.attack("ask", UPDATES, count=2, times=3)
    np.testing.assert_allclose(sent[1], 3 * fleet.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_a_knob_does_not_compile_again():
    jw.aggregate("krum", UPDATES, f=1)
    before = engine._called._cache_size()
    jw.aggregate("krum", UPDATES, f=2, mask=MASK, key=9)
    assert engine._called._cache_size() == before


def test_fewer_updates_than_a_rule_is_meant_for_are_warned_of():
    with pytest.warns(UserWarning, match="'krum' is meant for at least 7 updates and gets 6"):
        jw.aggregate("krum", UPDATES, mask=np.arange(11) < 6, f=2)
    with pytest.warns(UserWarning, match="'krum' is meant for at least 7 updates and gets 6"):
        jw.aggregate("krum", UPDATES, f=2, pre_aggregator=jw.Bucketing(s=2))


def test_a_search_through_subsets_counts_the_absent_too():
    """The subsets are those of the rows, so many rows cost much whoever is present."""
    many = np.concatenate([UPDATES, UPDATES])
    with pytest.raises(jw.InputError, match="at most 16 updates, not 22"):
        jw.aggregate("mda", many, mask=np.arange(22) < 11)


def test_feedback_around_what_does_not_contract_is_warned_of():
    with pytest.warns(UserWarning, match="grow without bound"):
        jw.compress("randk", X, memory=None, error_feedback=True)
    jw.compress("randk", X, memory=None)


def test_no_setting_of_a_member_is_called_like_an_argument_of_its_helper():
    for helper, families in HELPERS.items():
        taken = set(inspect.signature(helper).parameters) - {"knobs"}
        for family in families:
            for name, member in family.items():
                assert not taken & {*member.knobs, *member.static}, name
    assert not set(jw.AGGREGATORS) & set(jw.PRE_AGGREGATORS)


def test_keys_are_seeds_or_keys_of_jax():
    wanted = jw.compress("randk", X, key=7)[0]
    for key in (np.int64(7), jax.random.key(7), jax.random.PRNGKey(7)):
        np.testing.assert_array_equal(jw.compress("randk", X, key=key)[0], wanted)
    assert (jw.compress("randk", X)[0] != wanted).any()


HOLE = np.where(np.arange(11) == 3, np.nan, 1.0)
WRONG = {
    "compressor": (jw.compress, ("topp", X), {}, "unknown compressor 'topp'; did you mean 'topk'?"),
    "knob": (jw.compress, ("topk", X), {"ratoi": 1}, "topk: unknown knob 'ratoi'; did you mean"),
    "range": (
        jw.compress,
        ("topk", X),
        {"ratio": 2.5},
        "topk.ratio: 2.5 is not allowed (allowed: (0",
    ),
    "nan x": (jw.compress, ("topk", [1, np.nan]), {}, "x: nan at [1] is not allowed"),
    "empty": (jw.compress, ("topk", []), {}, "x: is empty"),
    "words": (jw.compress, ("topk", ["a"]), {}, "x: expected an array of real numbers"),
    "ragged": (jw.compress, ("topk", [[1], [1, 2]]), {}, "x: expected an array of real numbers"),
    "feedback": (jw.compress, ("topk", X), {"error_feedback": True}, "begin with memory=None"),
    "key": (jw.compress, ("topk", X), {"key": -1}, "key: expected a seed from 0 to 2**32 - 1"),
    "rule": (jw.aggregate, ("krom", UPDATES), {}, "unknown aggregator 'krom'; did you mean 'krum'"),
    "whole": (jw.aggregate, ("krum", UPDATES), {"f": 1.5}, "krum.f: expected a whole number, got"),
    "flat": (jw.aggregate, ("krum", X[0]), {}, "updates: expected one update a row"),
    "complex": (jw.aggregate, ("mean", 1j * UPDATES), {}, "updates: expected an array of real"),
    "mask": (jw.aggregate, ("mean", UPDATES), {"mask": HOLE}, "mask: nan at [3] is not allowed"),
    "half": (jw.aggregate, ("mean", UPDATES), {"mask": HOLE[:3] / 2}, "mask: expected one entry"),
    "share": (jw.aggregate, ("mean", UPDATES), {"mask": np.full(11, 0.5)}, "mask: 0.5 at [0]"),
    "debt": (jw.aggregate, ("mean", UPDATES), {"weights": -MASK.astype(int)}, "weights: -1 at [0]"),
    "before": (jw.aggregate, ("mean", UPDATES), {"pre_aggregator": "x"}, "pre_aggregator: unknown"),
    "count": (jw.attack, ("ipm", UPDATES), {"count": 0}, "count: expected a whole number of at"),
    "attack": (jw.attack, ("imp", UPDATES), {}, "unknown attack 'imp'; did you mean 'ipm'?"),
    "tau": (jw.attack, ("ipm", UPDATES), {"tua": 2.0}, "ipm: unknown knob 'tua'; did you mean"),
    "honest": (jw.attack, ("ipm", UPDATES * np.inf), {}, "honest: "),
    "against": (jw.attack, ("ipm", UPDATES), {"against": "median"}, "against: 'ipm' does not"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case):
    helper, given, named, wanted = WRONG[case]
    with pytest.raises(jw.InputError) as caught:
        helper(*given, **named)
    text = str(caught.value)
    assert wanted in text
    assert "\n" not in text


def test_the_public_names_are_listed_and_are_the_registries():
    assert {"compress", "aggregate", "attack", "PRE_AGGREGATORS", "STRATEGIES"} <= set(dir(jw))
    assert jw.PRE_AGGREGATORS is choices.PRE_AGGREGATORS
    assert jw.STRATEGIES is choices.STRATEGIES
    assert jw.PROBLEMS is choices.PROBLEMS
    assert jw.compress is oneshot.compress
