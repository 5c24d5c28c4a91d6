"""The learner against closed forms and published effects, on ticks written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.learning import quadratic, round_robin, rounds, scalars, train

from jaxwan.api import simulate
from jaxwan.core import keys
from jaxwan.core.tick import Tick
from jaxwan.experiment.spec import Experiment
from jaxwan.learning.learner import learn
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS


@pytest.mark.parametrize(("delay", "bound"), [(1, 1.0), (2, 0.61803), (4, 0.34730), (8, 0.18454)])
def test_delayed_gradient_descent_is_stable_up_to_its_bound(delay, bound):
    """Stable iff lr x curvature < 2 sin(pi / (2 (2 delay + 1)))."""
    assert bound == pytest.approx(2 * np.sin(np.pi / (2 * (2 * delay + 1))), rel=1e-4)
    ticks, workers = 3000, delay + 1
    ends = []
    for factor in (0.98, 1.02):
        plan, knobs = quadratic(
            workers=workers, slots=1, stale=True, ticks=ticks, lr=factor * bound, dim=4, points=10
        )
        loss = train(plan, knobs, round_robin(ticks, workers))
        ends.append(loss[-1] / loss[1])
    assert ends[0] < 1e-2
    assert ends[1] > 1e2


@pytest.mark.parametrize(("workers", "momentum"), [(1, None), (4, None), (1, 0.9)])
def test_stationary_variance_of_sgd(workers, momentum):
    """Var x = lr s^2 / (curvature (2 - lr curvature)) / n; heavy ball in its own closed form."""
    lr, noise, dim, ticks, points = 0.2, 1.0, 4096, 2000, 20
    plan, knobs = quadratic(
        workers=workers, slots=workers, stale=False, ticks=ticks, lr=lr, dim=dim, points=points,
        noise=noise, momentum=momentum,
    )  # fmt: skip
    loss = train(plan, knobs, rounds(ticks, workers))[-10:]
    variance = 2 * loss.mean() / dim
    if momentum is None:
        expected = lr * noise**2 / (2 - lr) / workers
    else:
        expected = lr * noise**2 * (1 + momentum) / ((1 - momentum) * (2 * (1 + momentum) - lr))
    # ten snapshots 100 ticks apart are independent draws of dim squares, each of variance 2 v^2
    error = expected * np.sqrt(2 / (dim * len(loss)))
    assert abs(variance - expected) < 3 * error


def test_lost_contributions_change_nothing():
    plan, knobs = quadratic(
        workers=2, slots=2, stale=False, ticks=20, lr=0.1, dim=8, points=2, noise=1.0
    )
    ticks = rounds(20, 2)
    weight = np.array(ticks.weight)
    weight[:, 10:] = 0.0
    loss = train(plan, knobs, Tick(**{**vars(ticks), "weight": weight}))
    assert loss[1] == loss[2]
    assert loss[0] != loss[1]


def test_jit_equals_eager():
    plan, knobs = quadratic(
        workers=2, slots=1, stale=True, ticks=3, lr=0.1, dim=8, points=1, noise=0.5
    )
    plan = LearnPlan(**{**vars(plan), "compressor": "int8", "feedback": "plain"})
    compiled = train(plan, knobs, round_robin(3, 2))
    with jax.disable_jit():
        assert np.allclose(compiled, train(plan, knobs, round_robin(3, 2)), rtol=1e-5)


def test_learner_agrees_with_a_plain_numpy_twin():
    """Three workers, five event ticks of two slots, top-k with memory, one wipe, one rejection."""
    dim, lr, ratio = 8, 0.1, 0.25
    worker = np.array([[0, 1], [2, 0], [1, 1], [0, 2], [2, 1]], np.int32)
    cycle = np.array([[0, 0], [0, 1], [1, 2], [2, 1], [2, 3]], np.int32)
    weight = np.array([[1, 1], [1, 0], [1, 1], [1, 1], [0, 1]], np.float32)
    fresh = np.zeros((5, 2), bool)
    fresh[3, 0] = True
    ticks = Tick(
        worker=worker[None], cycle=cycle[None], base_age=np.zeros((1, 5, 2), np.int32),
        weight=weight[None], steps=np.ones((1, 5, 2), np.float32), fresh=fresh[None],
        attacker=np.zeros((1, 5, 2), bool), fetched=np.ones((1, 5, 2), bool),
    )  # fmt: skip
    plan, knobs = quadratic(
        workers=3, slots=2, stale=True, ticks=5, lr=lr, dim=dim, points=1, noise=0.5
    )
    plan = LearnPlan(**{**vars(plan), "compressor": "topk", "feedback": "plain"})
    knobs = LearnKnobs(**{**vars(knobs), "compressor": scalars(ratio=ratio)})
    loss = train(plan, knobs, ticks, seed=3)[-1]

    run_key = keys.run_key(3)
    model = np.asarray(keys.normals(keys.stream(run_key, "init"), dim), np.float64)
    data = keys.stream(run_key, "data")
    held, memory = np.tile(model, (3, 1)), np.zeros((3, dim))
    for t in range(5):
        total, present = np.zeros(dim), 0
        for s in range(2):
            w = worker[t, s]
            noise = np.asarray(keys.normals(keys.address(data, int(w), int(cycle[t, s])), dim))
            memory[w] = 0 if fresh[t, s] else memory[w]
            wanted = held[w] + 0.5 * noise + memory[w]
            keep = np.argsort(-np.abs(wanted), kind="stable")[: round(ratio * dim)]
            sent = np.zeros(dim)
            sent[keep] = wanted[keep]
            if weight[t, s]:
                total, present, memory[w] = total + sent, present + 1, wanted - sent
            if s == 0:
                held[w] = model
        model = model - lr * total / present
        held[worker[t, 1]] = model
    assert loss == pytest.approx(0.5 * np.sum(model**2), rel=1e-5)


def hills(curvatures, optima):
    """Return a one-dimensional problem whose workers have their own curvature and optimum."""
    steepness, best = jnp.asarray(curvatures), jnp.asarray(optima)

    def gradient(static, knobs, task, params, key, worker, relabel=None):
        return steepness[worker] * (params - best[worker])

    def evaluate(static, knobs, task, shard, params):
        return params[0], jnp.float32(0), params[0]

    def init(static, task, key):
        return jnp.zeros(1)

    return PROBLEMS["quadratic"]._replace(gradient=gradient, evaluate=evaluate, init=init)


def local_sgd(problem, *, workers, steps, rounds, inner_lr, outer_lr=1.0, momentum=0.0):
    """Return plan and knobs of local SGD with a Nesterov server on a problem of one dimension."""
    plan, knobs = quadratic(
        workers=workers, slots=workers, stale=False, ticks=rounds, lr=outer_lr, dim=1, points=1,
        momentum=momentum,
    )  # fmt: skip
    changes = {"problem": problem, "inner": "sgd", "local_steps": steps,
               "optimizer_static": (("nesterov", True),)}  # fmt: skip
    return (
        LearnPlan(**{**vars(plan), **changes}),
        LearnKnobs(**{**vars(knobs), "inner": scalars(lr=inner_lr)}),
    )


@pytest.mark.parametrize(("steps", "point"), [(1, 0.8), (5, 0.69250), (50, 0.50129)])
def test_local_sgd_settles_where_unequal_hessians_pull_it(monkeypatch, steps, point):
    """Curvatures (1, 4), optima (0, 1), inner rate 0.1: the fixed point leaves the optimum 0.8."""
    monkeypatch.setitem(PROBLEMS, "hills", hills([1.0, 4.0], [0.0, 1.0]))
    plan, knobs = local_sgd("hills", workers=2, steps=steps, rounds=400, inner_lr=0.1)
    assert train(plan, knobs, rounds(400, 2))[-1] == pytest.approx(point, abs=2e-5)


def test_local_sgd_with_equal_hessians_follows_large_batch_sgd(monkeypatch):
    """Equal curvatures: the average takes exactly H steps towards the mean optimum."""
    monkeypatch.setitem(PROBLEMS, "hills", hills([2.0, 2.0], [0.0, 1.0]))
    plan, knobs = local_sgd("hills", workers=2, steps=5, rounds=3, inner_lr=0.1)
    expected = 0.5 * (1 - (1 - 0.1 * 2.0) ** 15)
    assert train(plan, knobs, rounds(3, 2))[-1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_outer_nesterov_is_stable_up_to_its_bound(monkeypatch, momentum):
    """Stable iff outer_lr x s < (2 + 2 mu) / (1 + 2 mu), s = 1 - (1 - lr curvature)^H."""
    monkeypatch.setitem(PROBLEMS, "hills", hills([1.0, 1.0], [1.0, 1.0]))
    shrink = 1 - (1 - 0.05) ** 10
    bound = (2 + 2 * momentum) / (1 + 2 * momentum) / shrink
    ends = []
    for factor in (0.98, 1.02):
        plan, knobs = local_sgd(
            "hills", workers=2, steps=10, rounds=800, inner_lr=0.05, outer_lr=factor * bound,
            momentum=momentum,
        )  # fmt: skip
        ends.append(abs(train(plan, knobs, rounds(800, 2))[-1] - 1.0))
    assert ends[0] < 1e-2
    assert not ends[1] < 1e2


def mean_and_error(values):
    """Return mean and standard error."""
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def test_baseline_more_than_halves_the_excess_loss_and_memory_makes_top_k_work():
    """Sync under baseline: no compression, top-k 1 % with and without error feedback."""
    topk = {"kind": "topk", "ratio": 0.01}
    runs = [
        Experiment(scenario="simple", challenge="baseline", steps=200, strategy="sync",
                   compressor=compressor, aggregator="mean")
        for compressor in ("none", topk, topk | {"error_feedback": False})
    ]  # fmt: skip
    frame = simulate(runs, seeds=24).frame
    excess = (frame["loss_final"] - frame["loss_floor"]) / (
        frame["loss_initial"] - frame["loss_floor"]
    )
    dense, memory, forgetful = (part.to_numpy() for _, part in excess.groupby(frame.config_index))
    assert dense.max() < 0.5
    (m, m_error), (f, f_error) = mean_and_error(memory), mean_and_error(forgetful)
    assert m + 2.1 * m_error < f - 2.1 * f_error


ROBUST = ("median", {"kind": "krum", "f": 2})  # the others: sweeps/robust.toml, test_robust.py


def test_two_sign_flippers_of_seven_break_the_mean_only():
    runs = [
        Experiment(scenario="simple", challenge="baseline", steps=100, strategy="sync",
                   compressor="none", workers=7, attackers=2, aggregator=aggregator,
                   attack={"kind": "sign_flip", "scale": 4.0})
        for aggregator in ("mean", *ROBUST)
    ]  # fmt: skip
    frame = simulate(runs, seeds=4).frame
    mean, *others = (part for _, part in frame.groupby("config_index"))
    assert (mean["status"] == "diverged").all()
    assert len(others) == len(ROBUST)
    for robust in others:
        start = robust["loss_initial"] - robust["loss_floor"]
        assert ((robust["loss_final"] - robust["loss_floor"]) < 0.7 * start).all()
        assert (robust["status"] == "ok").all()


def test_nobody_alive_ever_again_is_a_status_not_a_number():
    dead = Experiment(
        scenario="simple", challenge="wan_bandwidth", steps=30, timing_only=True,
        failures={"crash": {"mtbf_s": 0.5}},
    )  # fmt: skip
    frame = simulate(dead, seeds=4).frame
    assert (frame["status"] == "no_workers").all()
    assert np.isfinite(frame["time_s"]).all()
    assert not frame["success"].any()


def test_evaluation_points_of_long_runs_do_not_overflow():
    from jaxwan.learning.learner import evaluation_ticks

    marks = evaluation_ticks(20, jnp.array([2**30], jnp.int32))
    assert marks[0, -1] == 2**30
    assert (np.diff(marks[0]) > 0).all()


def test_a_power_law_spectrum_gives_a_power_law_loss_curve():
    """With eigenvalues i**-2, L(t) = 1/2 sum l_i exp(-2 lr l_i t) falls as t**-1/2."""
    ticks = 2000
    plan, knobs = quadratic(
        workers=1, slots=1, stale=False, ticks=ticks, lr=0.5, dim=4096, points=20
    )
    problem = scalars(stiffness=1.0, power=2.0, noise=0.0, batch=1.0, spread=0.0)
    loss = train(plan, LearnKnobs(**{**vars(knobs), "problem": problem}), rounds(ticks, 1))
    step = ticks // 20
    slope = np.log(loss[20] / loss[2]) / np.log(20 / 2)
    # the curve is a sum over about sqrt(t) modes that are still alive, each of variance 2
    error = np.sqrt(2 / np.sqrt(2 * step)) / np.log(10)
    assert abs(slope + 0.5) < 3 * error
    assert loss[20] < 0.5 * loss[2]


def test_the_training_loss_is_the_mean_over_the_fleet_alone():
    """Of three workers in a plan for five, each with an optimum of its own."""
    ticks, dim = 4, 16
    plan, knobs = quadratic(workers=5, slots=5, stale=False, ticks=ticks, lr=0.5, dim=dim,
                            points=2, spread=1.0)  # fmt: skip
    plan = LearnPlan(**{**vars(plan), "apart": True})
    knobs = LearnKnobs(**{**vars(knobs), "workers": np.full(1, 3, np.int32)})
    problem, static = PROBLEMS["quadratic"], {"dim": dim}
    task, key = problem.make_task(static), keys.run_key(0)
    own = {name: value[0] for name, value in knobs.problem.items()}
    optima = np.stack([problem.shard(static, own, jnp.int32(w))[0] for w in range(3)])
    curve = jax.jit(learn, static_argnums=0)(plan, knobs, task, key[None], rounds(ticks, 5))
    start = np.asarray(problem.init(static, task, keys.stream(key, "init")), np.float64)
    wanted = 0.5 * np.square(start - optima).sum(axis=1).mean()
    assert float(curve.train_loss[0, 0]) == pytest.approx(wanted, rel=1e-5)
    assert abs(float(curve.loss[0, 0]) / wanted - 1) > 0.05


def test_the_critical_batch_has_as_much_noise_as_gradient():
    """Averaged over the critical batch, the noise's square is the gradient's."""
    static, problem = {"dim": 64}, PROBLEMS["quadratic"]
    task, params = problem.make_task(static), jnp.ones(64)
    own = {name: jnp.float32(v) for name, v in
           {"stiffness": 1.0, "power": 1.0, "noise": 3.0, "spread": 0.0, "batch": 1.0}.items()}
    batch = problem.critical_batch(static, own, task, params)
    give = jax.vmap(lambda knobs, n: problem.gradient(
        static, knobs, task, params, keys.address(keys.run_key(0), n), jnp.int32(0)
    ), in_axes=(None, 0))  # fmt: skip
    slopes = np.asarray(give({**own, "batch": batch}, jnp.arange(400)), np.float64)
    signal = np.sum((1.0 / np.arange(1, 65)) ** 2)
    noise = np.square(slopes - 1.0 / np.arange(1, 65)).sum(axis=1)
    assert abs(noise.mean() / signal - 1) < 3 * noise.std(ddof=1) / np.sqrt(400) / signal
