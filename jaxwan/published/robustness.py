"""Claims on attackers: how many robust rules bear, and what helps them under skewed data."""

from __future__ import annotations

from functools import partial

from jaxwan.published.claim import Claim, Finding
from jaxwan.published.excess import gain, learned, select
from jaxwan.results import Results

MOST, FEW = 0.8, 0.2  # shares of the runs that count as nearly all and as hardly any
RULES = {"krum": "Krum", "trimmed_mean": "trimmed mean", "median": "median"}
SYNC = {"krum": (4, 6), "trimmed_mean": (3, 4), "median": (5, 6)}  # borne, too many
BUFFERED = {"krum": (2, 4), "trimmed_mean": (2, 3), "median": (3, 4)}


def bounds(limits: dict[str, tuple[int, int]], results: Results) -> list[Finding]:
    """Find the shares of runs that learn with as many attackers as a rule bears, and with more."""
    found = []
    for rule, (borne, broken) in limits.items():
        runs = partial(select, results.frame, aggregator=rule)
        for attackers, bound, above in ((borne, MOST, True), (broken, FEW, False)):
            what = f"share that learns: {RULES[rule]}, {attackers} attackers"
            found.append(learned(what, runs(attackers=attackers), bound, above))
    return found


def sync_bounds(results: Results) -> list[Finding]:
    """Judge the rules under sync, and that the mean bears nobody."""
    alone = select(results.frame, aggregator="mean", attackers=1)
    return [
        learned("share that learns: mean, 1 attacker", alone, FEW, False),
        *bounds(SYNC, results),
    ]


def async_bounds(results: Results) -> list[Finding]:
    """Judge the rules where they see a buffer of the workers at a time."""
    return bounds(BUFFERED, results)


def neighbours(results: Results) -> list[Finding]:
    """Compare each rule with and without mixing of nearest neighbours before it."""
    found = []
    for rule, name in RULES.items():
        pick = partial(select, results.frame, aggregator=rule)
        mixed, bare = pick(pre_aggregator="nnm"), pick(pre_aggregator="none")
        found.append(gain(f"accuracy gained by mixing before {name}", mixed, bare))
    return found


CLAIMS = [
    Claim(
        key="f",
        claim="Krum, median and trimmed mean survive attackers up to their bounds, no more.",
        source="Blanchard et al. 2017, Krum; Yin et al. 2018",
        sweep="attackers",
        judge=sync_bounds,
        note="Eleven workers on a quadratic with nearly exact gradients; attackers send the "
        "honest mean turned round and a hundredfold. A run learns if it removes half of the "
        "excess loss. Krum is told f = 4, the most of 2f + 3 <= 11; the trimmed mean drops 3 on "
        "each side. Krum bears this attack from 5 as well and falls with 6 that agree, who are "
        "each other's n - f - 2 = 5 nearest. With noisy gradients the coordinate-wise rules "
        "fall earlier: near the bound they take the extremes of the honest values.",
    ),
    Claim(
        key="f, async",
        claim="Under async with a buffer the bounds are those of the buffer.",
        source="Blanchard et al. 2017, Krum; Yin et al. 2018",
        sweep="attackers_async",
        judge=async_bounds,
        note="As before, with equal workers whose every 7 arrivals make one update. Krum is told "
        "f = 2 and the trimmed mean drops 2. One attacker more than the buffer bears must meet "
        "in the same buffer of 7 out of 11, which happens now and then and is enough.",
    ),
    Claim(
        key="h",
        claim="Mixing with nearest neighbours before a robust rule helps under skewed data.",
        source="Allouah et al. 2023, Fixing by mixing",
        sweep="neighbours",
        judge=neighbours,
        note="Thirteen honest workers that see one or two classes each (Dirichlet 0.1) and four "
        "that hide within their spread (ALIE); the rules and the mixing are told f = 4. What is "
        "compared is held-out accuracy after 200 rounds, in shares of 1.",
    ),
]
