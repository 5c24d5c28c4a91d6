"""Claims about time: stragglers, staleness, and the price of compressing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from jaxwan.published.claim import Claim, Finding
from jaxwan.published.pairs import finding, loss_at, ratio, runs, split, tuned
from jaxwan.stats.intervals import Interval, mean_interval

EARLY_S = 1.0  # 20 steps of a worker
GIGABIT = 1e9
CODECS = {"powersgd": 2.2e9, "topk": 0.4e9}  # bytes a second that a GPU compresses


def backup_workers(results: Any) -> list[Finding]:
    """Compare times to the target, each rule at the learning rate and backups that suit it best.

    The choice is made on the first quarter of the seeds, the comparison on the others.
    """
    trial, rest = split(results.frame)
    sync, backup = (trial["strategy.backup"] == 0), (trial["strategy.backup"] > 0)
    best = {}
    for name, those in {"sync": sync, "backup": backup, "async": ~(sync | backup)}.items():
        knobs = ("optimizer.lr",) if name == "async" else ("optimizer.lr", "strategy.backup")
        chosen = tuned(trial[those], "time_to_target_s", knobs)
        settings = {"strategy": "async" if name == "async" else "sync"} | chosen
        best[name] = runs(rest, **settings)["time_to_target_s"]
    return [
        ratio("time to target with backups / full sync", best["backup"], best["sync"]),
        ratio("time to target with backups / async", best["backup"], best["async"]),
    ]


def early_or_low(results: Any) -> list[Finding]:
    """Compare the losses soon after the start and at the end."""
    sync, later = (runs(results.frame, strategy=name) for name in ("sync", "async"))
    ahead, behind = (loss_at(results.curves, those, EARLY_S) for those in (later, sync))
    return [
        ratio(f"loss after {EARLY_S:g} s, async / sync", ahead, behind),
        ratio("final loss, async / sync", later["loss_final"], sync["loss_final"], above=True),
    ]


def slowdowns(frame: pd.DataFrame, compressor: str) -> pd.DataFrame:
    """Return log(time compressed / time dense) as `[seed, bandwidth]`.

    Dense updates leave during the backward pass, compressed ones after it.
    """
    rate = CODECS[compressor]
    here = frame[np.isclose(frame["compute.compression_bytes_per_s"], rate)]
    packed = here[(here["compressor"] == compressor) & ~here["strategy.overlap"].astype(bool)]
    dense = here[(here["compressor"] == "none") & here["strategy.overlap"].astype(bool)]
    tables = (
        those.pivot(index="seed", columns="link.bandwidth_bps", values="time_s")
        for those in (packed, dense)
    )
    packed_s, dense_s = tables
    return (packed_s / dense_s).map(math.log)


def crossing(bandwidths: np.ndarray, slowdown: np.ndarray) -> float:
    """Return the bandwidth where a rising slowdown (a logarithm) passes 0; NaN if nowhere.

    Linear in the logarithm of the bandwidth between the two points around the first crossing.
    """
    above = slowdown > 0
    if above[0] or not above.any():
        return float("nan")
    right = int(np.argmax(above))
    place, size = np.log(bandwidths[right - 1 : right + 1]), slowdown[right - 1 : right + 1]
    return float(np.exp(place[0] - size[0] * (place[1] - place[0]) / (size[1] - size[0])))


def utility(results: Any) -> list[Finding]:
    """Find what compression does to the time at both ends, and where it stops paying."""
    found = []
    for compressor in CODECS:
        table = slowdowns(results.frame, compressor)
        bandwidths = table.columns.to_numpy(float)
        ends = (
            (f"{compressor}: time / dense at {bandwidths[0] / GIGABIT:g} Gbit/s", 0, False),
            (f"{compressor}: time / dense at {bandwidths[-1] / GIGABIT:g} Gbit/s", -1, True),
        )
        for what, place, above in ends:
            log = mean_interval(table.iloc[:, place])
            sides = Interval(np.exp(log.mean), np.exp(log.low), np.exp(log.high), log.n)
            found.append(finding(what, sides, 1.0, above))
        turns = [crossing(bandwidths, row) / GIGABIT for row in table.to_numpy(float)]
        where = mean_interval(turns)
        what = f"{compressor}: stops paying at, Gbit/s"
        found.append(finding(what, where, float(bandwidths[-1] / GIGABIT), above=False))
    return found


CLAIMS = [
    Claim(
        key="a",
        claim="Backup workers beat both full sync and async under heavy stragglers",
        source="Chen et al. 2016, Revisiting Distributed Synchronous SGD",
        sweep="backup_workers",
        judge=backup_workers,
        note="Sixteen workers in one data centre, the small MLP, momentum 0.9 as in the paper, "
        "lognormal compute times with sigma 1; every rule gets the learning rate (of four) and "
        "backup the number of backups (4 or 8) that is best on eight seeds, and is judged on the "
        "other 24. It takes eight backups: with four the time is that of async. And it takes "
        "momentum: in a trial of four seeds async without it reached the target, 1.0, as soon as "
        "eight backups with it, and losses of 0.3 and less sooner.",
    ),
    Claim(
        key="b",
        claim="Async is ahead early, sync ends lower",
        source="Dutta et al. 2018, Slow and Stale Gradients Can Win the Race",
        sweep="early_or_low",
        judge=early_or_low,
        note="Eight workers with lognormal compute times (sigma 1) descend a noisy quadratic of 64 "
        "dimensions at one learning rate, 500 gradients each; async makes eight updates where "
        "sync makes one of eight averaged gradients. The curves cross after about 30 s, when async "
        "has long stood on its floor. At a learning rate twice as high and with more noise async "
        "drifts up again after its early lead.",
    ),
    Claim(
        key="g",
        claim="Compression stops paying above some bandwidth",
        source="Agarwal et al. 2022, On the Utility of Gradient Compression",
        sweep="utility",
        judge=utility,
        note="Sixteen workers train a network of 25.9 M parameters at 0.18 s a step; dense updates "
        "leave during the backward pass, compressed ones after it, as in the paper. PowerSGD "
        "(rank 4) is assumed to compress 2.2 GB/s and top-k (1 %) 0.4 GB/s, forward and back, "
        "about what a V100 does; the intervals hold for these rates and do not contain our doubt "
        "about them. The paper's crossing is near 10 Gbit/s: ours is higher for PowerSGD because "
        "the download from the server is not hidden, and without any overlap it moves to 32 (top-k "
        "5.3) Gbit/s. Only time is compared; that compressed updates may learn less is not.",
    ),
]
