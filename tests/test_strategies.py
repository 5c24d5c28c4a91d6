"""What strategies do to the models, against plain NumPy twins of their algorithms."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.learning import quadratic, rounds, scalars, train

import jaxwan as jw
from jaxwan.core import keys
from jaxwan.core.pytrees import replace
from jaxwan.experiment.lower import group, own_steps
from jaxwan.experiment.resolve import resolve
from jaxwan.learning.model import Feed, Memory, Model, Server
from jaxwan.learning.optimizers import make
from jaxwan.learning.problems import PROBLEMS
from jaxwan.learning.sites import gossip, partners

DIM, WORKERS, STEPS, LR = 6, 3, 4, 0.1
STATIC = {"dim": DIM}


@cache
def task_of():
    """Return where every worker's noiseless quadratic has its optimum, and the first model."""
    problem, task = PROBLEMS["quadratic"], PROBLEMS["quadratic"].make_task(STATIC)
    knobs = {name: jnp.float32(value) for name, value in
             {"stiffness": 1.0, "power": 1.0, "noise": 0.0, "batch": 1.0, "spread": 1.0}.items()}
    key = keys.run_key(0)
    start = np.asarray(problem.init(STATIC, task, keys.stream(key, "init")))
    slope = np.stack([
        problem.gradient(STATIC, knobs, task, jnp.zeros(DIM), key, jnp.int32(w), None)
        for w in range(WORKERS)
    ])
    curve = 1.0 / np.arange(1, DIM + 1)
    return curve, -np.asarray(slope) / curve, start


def local(x, worker, steps=STEPS):
    """Take gradient steps from `x` on one worker's quadratic."""
    curve, optimum, _ = task_of()
    for _ in range(steps):
        x = x - LR * curve * (x - optimum[worker])
    return x


def trained(ticks, *, inner="sgd", outer=None, own="", weight=None, steps=None, **more):
    """Return the losses after each tick of a run with local steps."""
    plan, knobs = quadratic(workers=WORKERS, slots=WORKERS, stale=False, ticks=ticks, lr=LR,
                            dim=DIM, points=ticks, spread=1.0)  # fmt: skip
    static = {name: more.pop(name) for name in ("fragments", "uneven") if name in more}
    plan = replace(plan, inner=inner, local_steps=STEPS, own=own, optimizer="momentum",
                   optimizer_static=(("nesterov", True),), **static)  # fmt: skip
    knobs = replace(
        knobs, problem=scalars(stiffness=1.0, power=1.0, noise=0.0, batch=1.0, spread=1.0),
        inner=scalars(lr=LR), optimizer=scalars(**(outer or {"lr": 1.0, "momentum": 0.0})),
        **{name: value[None] for name, value in more.items()},
    )  # fmt: skip
    own_ticks = rounds(ticks, WORKERS)
    if weight is not None:
        own_ticks = replace(own_ticks, weight=np.float32(weight)[None])
    if steps is not None:
        shape = own_ticks.steps.shape
        own_ticks = replace(own_ticks, steps=np.broadcast_to(np.float32(steps), shape))
    return train(plan, knobs, own_ticks)[1:]


def loss(x):
    return 0.5 * np.sum(task_of()[0] * x * x)


class Nesterov:
    """A plain twin of the server's optimizer."""

    def __init__(self, lr, momentum):
        self.lr, self.momentum, self.velocity = lr, momentum, 0.0

    def step(self, slope):
        self.velocity = self.momentum * self.velocity + slope
        return -self.lr * (slope + self.momentum * self.velocity)


def streaming_twin(ticks, parts, delay, mixing, lr, momentum):
    """Write Streaming DiLoCo's algorithm 2 out, worker by worker and step by step."""
    start = task_of()[2]
    server, own = start.copy(), [start.copy() for _ in range(WORKERS)]
    size, rules = -(-DIM // parts), [Nesterov(lr, momentum) for _ in range(parts)]
    losses, waiting = [], None
    for tick in range(ticks):
        part = slice(tick % parts * size, (tick % parts + 1) * size)
        for worker in range(WORKERS):
            x = local(own[worker], worker, delay)
            if waiting is not None:
                x[waiting] = mixing * x[waiting] + (1 - mixing) * server[waiting]
            own[worker] = local(x, worker, STEPS - delay)
        slope = np.mean([server[part] - x[part] for x in own], axis=0)
        server[part] = server[part] + rules[tick % parts].step(slope)
        waiting = part
        losses.append(loss(server))
    return losses


@pytest.mark.parametrize(
    ("parts", "delay", "mixing"), [(1, 0, 0.0), (2, 1, 0.5), (4, 4, 0.25)]
)
def test_streaming_diloco_follows_its_algorithm(parts, delay, mixing):
    """Four parts of six entries: the last one is padded."""
    ticks, outer = 9, {"lr": 0.7, "momentum": 0.6}
    found = trained(ticks, own="stream", outer=outer, fragments=parts,
                    mixing=np.float32(mixing), delay=np.int32(delay))  # fmt: skip
    wanted = streaming_twin(ticks, parts, delay, mixing, **outer)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)
    if (parts, delay, mixing) == (1, 0, 0.0):
        np.testing.assert_allclose(found, trained(ticks, outer=outer), rtol=1e-6)


def test_elastic_averaging_pulls_both_ways():
    beta, mixing, ticks = 0.9, 0.7, 6
    found = trained(ticks, own="elastic", outer={"lr": beta, "momentum": 0.0},
                    mixing=np.float32(mixing))  # fmt: skip
    centre = task_of()[2]
    own, wanted = [centre] * WORKERS, []
    for _ in range(ticks):
        ends = [local(x, worker) for worker, x in enumerate(own)]
        own = [x - (1 - mixing) * (x - centre) for x in ends]
        centre = (1 - beta) * centre + beta * np.mean(ends, axis=0)
        wanted.append(loss(centre))
    np.testing.assert_allclose(found, wanted, rtol=2e-5)


def test_a_lost_round_leaves_a_worker_where_it_was():
    weight = np.ones((4, WORKERS))
    weight[1, 0] = 0
    found = trained(4, own="elastic", mixing=np.float32(1.0), weight=weight)
    centre = task_of()[2]
    own, wanted = [centre] * WORKERS, []
    for tick in range(4):
        there = [w for w in range(WORKERS) if weight[tick, w]]
        own = [local(x, w) if w in there else x for w, x in enumerate(own)]
        centre = np.mean([own[w] for w in there], axis=0)
        wanted.append(loss(centre))
    np.testing.assert_allclose(found, wanted, rtol=2e-5)


def test_regions_average_inside_and_merge_now_and_then():
    ticks, every, outer = 6, 2, {"lr": 0.8, "momentum": 0.5}
    found = trained(ticks, own="regions", outer=outer, region=np.int32([7, 9, 9]),
                    outer_every=np.int32(every))  # fmt: skip
    server = task_of()[2]
    inside, rule, wanted = [server, server], Nesterov(**outer), []
    for tick in range(ticks):
        inside = [local(inside[0], 0),
                  np.mean([local(inside[1], w) for w in (1, 2)], axis=0)]  # fmt: skip
        if tick % every == every - 1:
            slope = server - (inside[0] + 2 * inside[1]) / 3
            server = server + rule.step(slope)
            inside = [server, server]
        wanted.append(loss(server))
    np.testing.assert_allclose(found, wanted, rtol=2e-5)


def test_workers_take_their_own_number_of_steps():
    found = trained(1, uneven=True, steps=[4, 2, 1])
    ends = [local(task_of()[2], w, steps) for w, steps in enumerate((4, 2, 1))]
    np.testing.assert_allclose(found, [loss(np.mean(ends, axis=0))], rtol=2e-5)


def test_partners_are_mutual_and_only_the_present_meet():
    draw = np.random.default_rng(0)
    pair = jax.jit(jax.vmap(partners))
    words = draw.integers(0, 2**32, (300, 9), dtype=np.uint32)
    present = draw.uniform(size=(300, 9)) < 0.7
    found, place = np.asarray(pair(words, present)), np.arange(9)
    assert np.all(np.take_along_axis(found, found, axis=1) == place)
    meets = found != place
    assert np.all(meets.sum(axis=1) == present.sum(axis=1) // 2 * 2)
    assert not np.any(meets & ~present)
    everybody = np.asarray(pair(words, np.ones_like(present)))
    share = np.mean(everybody[:, 0] == 5)
    assert abs(share - 1 / 9) < 4 * np.sqrt(1 / 9 / 300)


def test_gossip_averages_pairs():
    """Four of five are there and meet in pairs; the fifth keeps its model, the mean stays."""
    plan, knobs = quadratic(workers=5, slots=5, stale=False, ticks=1, lr=LR, dim=2, points=1)
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), knobs)
    held = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    ticks = rounds(1, 5)
    tick = jax.tree.map(lambda x: jnp.asarray(x[0, 0]), ticks)
    tick = replace(tick, weight=jnp.float32([1, 1, 0, 1, 1]))
    key = keys.run_key(3)
    fed = Feed(tick, jnp.int32(0), jnp.zeros((5, 1, 2)), jnp.zeros((5, 2)))
    model = Model(held[0], Server((), (), ()), held, Memory((), ()))
    after = gossip(replace(plan, own="gossip", attack=""), one, key, model, fed, held)
    found = np.asarray(after.fetched)
    np.testing.assert_array_equal(found[2], held[2])
    np.testing.assert_allclose(after.params, held.mean(axis=0), rtol=1e-5, atol=1e-6)
    for i in (0, 1, 3, 4):
        meetings = [j for j in (0, 1, 3, 4) if j != i
                    and np.allclose(found[i], (held[i] + held[j]) / 2, rtol=1e-6)]  # fmt: skip
        assert len(meetings) == 1
        np.testing.assert_array_equal(found[i], found[meetings[0]])


def test_delayed_nesterov_renews_its_momentum_every_few_updates():
    updates, delay, spread, beta, lr = np.arange(1.0, 8.0), 3, 0.5, 0.8, 0.1
    rule = make("delayed_nesterov", {"lr": lr, "momentum": beta, "delay": delay, "spread": spread})
    state, found = rule.init(jnp.zeros(())), []
    for g in updates:
        step, state = rule.update(jnp.float32(g), state)
        found.append(float(step))
    velocity = gathered = 0.0
    wanted, c = [], spread / delay
    for t, g in enumerate(updates):
        gathered += g
        due = (t + 1) % delay == 0
        if due:
            velocity, gathered = beta * velocity + gathered / delay, 0.0
        share = 1 - c * delay + c if due else c
        wanted.append(-lr * (share * beta * velocity + g / delay))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    usual = make("delayed_nesterov", {"lr": lr, "momentum": beta, "delay": 1})
    plain = Nesterov(lr, beta)
    state = usual.init(jnp.zeros(()))
    for g in updates:
        step, state = usual.update(jnp.float32(g), state)
        np.testing.assert_allclose(step, plain.step(g), rtol=1e-5)


def test_delayed_nesterov_takes_nesterov_s_step_on_the_mean_of_a_round():
    updates, beta, lr = np.arange(1.0, 13.0).reshape(3, 4) % 5, 0.8, 0.1
    rule = make("delayed_nesterov", {"lr": lr, "momentum": beta, "delay": 4})
    state, plain = rule.init(jnp.zeros(())), Nesterov(lr, beta)
    for one_round in updates:
        moved = 0.0
        for g in one_round:
            step, state = rule.update(jnp.float32(g), state)
            moved += float(step)
        np.testing.assert_allclose(moved, plain.step(one_round.mean()), rtol=1e-5)


def test_old_updates_count_less():
    """One tick of two slots, ages 0 and 3, power 1/2: the step is (g + g / 2) / 2."""
    plan, knobs = quadratic(workers=2, slots=2, stale=True, ticks=1, lr=LR, dim=DIM, points=1)
    knobs = replace(knobs, age_power=np.float32([0.5]))
    ticks = rounds(1, 2)
    ticks = replace(ticks, base_age=np.int32([[[0, 3]]]))
    start = task_of()[2]
    found = train(plan, knobs, ticks)[-1]
    np.testing.assert_allclose(found, 0.5 * np.sum((start * (1 - 0.75 * LR)) ** 2), rtol=1e-5)


def test_attacks_before_compression_are_compressed():
    """Top-1 of a flipped update is the flipped top-1; noise before it is sparse, after it dense."""
    plan, knobs = quadratic(workers=3, slots=3, stale=False, ticks=2, lr=LR, dim=DIM, points=2)
    plan = replace(plan, compressor="topk", attack="sign_flip")
    knobs = replace(knobs, compressor=scalars(ratio=1 / 6), attack=scalars(scale=3.0))
    ticks = rounds(2, 3)
    ticks = replace(ticks, attacker=np.broadcast_to([True, False, False], (1, 2, 3)))
    after, before = (train(replace(plan, attack_first=first), knobs, ticks)
                     for first in (False, True))  # fmt: skip
    np.testing.assert_allclose(after, before, rtol=1e-6)
    plan = replace(plan, attack="gaussian")
    after, before = (train(replace(plan, attack_first=first), knobs, ticks)
                     for first in (False, True))  # fmt: skip
    assert not np.allclose(after, before, rtol=1e-4)


def experiment(**changes):
    fields = {"scenario": "simple", "challenge": "heterogeneous", "compressor": "none",
              "aggregator": "mean", "steps": 16, "timing_only": True}  # fmt: skip
    return jw.Experiment(**fields | changes)


def test_balanced_workers_finish_together():
    balanced = resolve(experiment(strategy=jw.LocalSGD(local_steps=16, balance=True)))
    speeds = np.array([worker.speed for worker in balanced.workers])
    assert own_steps(balanced) == list(np.maximum(np.round(16 * speeds / speeds.max()), 1))
    plain = experiment(strategy=jw.LocalSGD(local_steps=16), compute={"sigma": 0.0})
    both = jw.simulate([plain, plain.replace(strategy=jw.LocalSGD(local_steps=16, balance=True))],
                       seeds=1).frame  # fmt: skip
    spent = both.time_s.to_numpy()
    edge = speeds.min()  # 16 steps, or its twentieth of the fastest's 16, which is one
    np.testing.assert_allclose(spent[0] - spent[1], 15 * 0.05 / edge, rtol=1e-4)
    share = np.sum(own_steps(balanced)) / (16 * len(speeds))
    done = both.samples_per_s.to_numpy() * spent
    np.testing.assert_allclose(done[1] / done[0], share, rtol=1e-5)


def test_a_merged_update_is_downloaded_once_a_version():
    own = experiment(challenge="wan_bandwidth", strategy="sync", steps=5)
    both = jw.simulate([own, own.replace(downlink="int8")], seeds=1).frame
    each, merged = both.to_dict("records")
    parameters, workers = 235_146, 4
    dense = 4 * parameters * workers  # the first fetch
    assert each["bytes_received"] == 5 * dense  # four updates are as large as the model
    assert merged["bytes_received"] == dense + 4 * workers * (parameters + 4)
    assert merged["bytes_sent"] == each["bytes_sent"]
    (found,) = group([resolve(own.replace(downlink="int8", timing_only=False))])
    assert found.learn.downlink == "int8"


def test_regions_talk_to_one_another_in_some_rounds_only():
    times = [
        jw.simulate(experiment(challenge="aws_regions", steps=6,
                               strategy=jw.HierarchicalSGD(outer_every=every)), seeds=1)
        .frame.bytes_sent[0]
        for every in (1, 3)
    ]  # fmt: skip
    np.testing.assert_allclose(times[0], 3 * times[1])


def test_the_front_door_lowers_every_strategy_to_what_it_is():
    wanted = {
        "gossip_sgd": ("gossip", "gossip", 1), "elastic": ("elastic", "star", 1),
        "hierarchical_sgd": ("regions", "hierarchical", 1),
        "streaming_diloco": ("stream", "ring", 4), "fedbuff": ("", "star", 1),
        "diloco": ("", "star", 1),
    }  # fmt: skip
    for name, facts in wanted.items():
        (own,) = group([resolve(experiment(strategy=name, timing_only=False))])
        assert (own.learn.own, own.world.exchange, own.learn.fragments) == facts
        assert own.learn.local_steps == own.world_knobs.local_steps[0, 0]
    several = resolve(experiment(strategy="fedbuff"))
    assert several.buffer == len(several.workers) == 5  # ten, but there are five
    outer = jw.LocalSGD(outer="adam", outer_lr=0.01)
    (own,) = group([resolve(experiment(strategy=outer, timing_only=False))])
    assert own.learn.optimizer == "adam"
    np.testing.assert_allclose(own.learn_knobs.optimizer["lr"], 0.01)


def test_gossip_learns_end_to_end():
    own = experiment(challenge="baseline", strategy="gossip_sgd", steps=40, timing_only=False)
    row = jw.simulate(own, seeds=4).frame
    assert (row.loss_final < row.loss_initial).all()
