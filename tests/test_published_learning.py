"""Published claims on compression and attackers: the judges on made-up runs, the sweep files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxwan.experiment.sweepfile import Sweep
from jaxwan.published import compression, robustness
from jaxwan.published.excess import excess, ratio, select
from jaxwan.results import Results

FOLDER = Path(__file__).parents[1] / "sweeps" / "published"
CLAIMS = [*compression.CLAIMS, *robustness.CLAIMS]
SEEDS = 16
FLOOR, START = 0.1, 2.1


def runs(left, spread=0.02, **settings):
    """Return the runs of one configuration whose excess loss ends at `left`; inf: diverged."""
    luck = np.exp(spread * np.random.default_rng(3).normal(size=SEEDS))
    own = np.exp(0.001 * np.random.default_rng(len(str(settings))).normal(size=SEEDS))
    diverged = not np.isfinite(left)
    table = {
        "seed": np.arange(SEEDS),
        "loss_initial": START,
        "loss_floor": FLOOR,
        "loss_final": np.nan if diverged else FLOOR + left * luck * own,
        "accuracy_final": 0.1 if diverged else np.clip(1 - left * luck * own, 0, 1),
        "status": "diverged" if diverged else "ok",
    }
    return pd.DataFrame(table | settings)


def results(*parts):
    return Results(pd.concat(parts, ignore_index=True))


def verdicts(findings):
    return [found.holds for found in findings]


def few_bits(fp4, int4, bare):
    flag = "compressor.error_feedback"
    return results(
        runs(0.1, compressor="none"),
        runs(fp4, compressor="fp4"),
        runs(int4, compressor="int4"),
        runs(bare, compressor="sign", **{flag: False}),
        runs(0.3, compressor="sign", **{flag: True}),
    )


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ((0.101, 0.099, 0.15), [True, True, True]),
        ((0.12, 0.101, 0.1), [False, True, False]),
        ((np.inf, 0.1, np.inf), [False, True, False]),
    ],
)
def test_outer_bits(left, expected):
    assert verdicts(compression.outer_bits(few_bits(*left))) == expected


@pytest.mark.parametrize(
    ("bare", "kept", "expected"),
    [(0.5, 0.101, [True, True, True]), (0.15, 0.13, [False, False, False])],
)
def test_topk_memory(bare, kept, expected):
    flag = "compressor.error_feedback"
    made = results(
        runs(0.1, compressor="none"),
        runs(bare, compressor="topk", **{flag: False}),
        runs(kept, compressor="topk", **{flag: True}),
    )
    found = compression.topk_memory(made)
    assert verdicts(found) == expected
    assert found[0].figure == pytest.approx(bare / 0.1, rel=0.01)


def attacked(limits, lost):
    """Return runs in which every rule learns up to `limits[rule][0]` attackers, less `lost`."""
    return [
        runs(0.05 if attackers <= borne - lost else np.inf, aggregator=rule, attackers=attackers)
        for rule, (borne, _) in limits.items()
        for attackers in range(1, 7)
    ]


def test_bounds_of_robust_rules():
    mean = runs(np.inf, aggregator="mean", attackers=1)
    found = robustness.sync_bounds(results(mean, *attacked(robustness.SYNC, 0)))
    assert len(found) == 7
    assert all(verdicts(found))
    weaker = robustness.sync_bounds(results(mean, *attacked(robustness.SYNC, 1)))
    assert verdicts(weaker) == [True, False, True, False, True, False, True]
    buffered = robustness.async_bounds(results(*attacked(robustness.BUFFERED, -9)))
    assert verdicts(buffered) == [True, False] * 3


def test_a_run_that_keeps_most_of_its_loss_has_not_learned():
    stuck = robustness.async_bounds(
        results(*(
            runs(1.4, aggregator=rule, attackers=n) for rule in robustness.RULES for n in range(7)
        ))
    )  # fmt: skip
    assert [found.figure for found in stuck] == [0.0] * 6


@pytest.mark.parametrize(("mixed", "expected"), [(0.2, True), (0.4, False)])
def test_neighbours(mixed, expected):
    made = results(*(
        runs(left, aggregator=rule, pre_aggregator=pre)
        for rule in robustness.RULES
        for pre, left in (("none", 0.3), ("nnm", mixed))
    ))  # fmt: skip
    found = robustness.neighbours(made)
    assert verdicts(found) == [expected] * 3
    assert found[0].figure == pytest.approx(0.3 - mixed, abs=0.01)


def test_runs_are_paired_by_seed():
    base = runs(0.1, spread=1.0, compressor="none")
    shuffled = runs(0.2, spread=1.0, compressor="topk").sample(frac=1, random_state=1)
    found = ratio("twice", shuffled, base, 1.9, True)
    assert found.holds
    assert found.figure == pytest.approx(2, rel=0.01)
    with pytest.raises(ValueError, match="seeds"):
        ratio("other seeds", shuffled[1:], base, 1.0, True)


def test_selections_that_mix_or_miss_are_refused():
    both = pd.concat([runs(0.1, compressor="none"), runs(0.1, compressor="fp4")])
    with pytest.raises(ValueError, match="several configurations"):
        excess(both)
    with pytest.raises(ValueError, match="no runs"):
        select(both, compressor="int4")


def test_an_excess_loss_that_diverged_is_infinite():
    assert np.all(np.isinf(excess(runs(np.inf, compressor="none"))))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.sweep)
def test_the_sweep_of_a_claim_resolves_without_a_warning(claim):
    sweep = Sweep.from_toml(FOLDER / f"{claim.sweep}.toml")
    assert sweep.question.endswith("?")
    assert len(sweep.seeds) >= 32
    found, warnings = sweep.resolve()
    assert found
    assert not warnings
    assert claim.note
    assert claim.source
