"""Regenerate the table of transfer times: `python -m jaxwan.world.transports.generate`.

Every cell of the grid is simulated by `flow` on its own: a payload (segments), a pipe (bandwidth
times round trip, segments), a buffer, a loss and a round trip. The table keeps quantiles of
log(time / (round trip + wire time)), which are small numbers that vary slowly. They are smoothed
over neighbouring losses and round trips, and made monotone in the quantile and in the loss.
"""

from __future__ import annotations

import argparse
import lzma
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from jaxwan.world.transports.flow import ALGORITHMS, Setting, transfer_times

SEED = 2026
MOST_FLIGHTS = 800
SEGMENTS = (
    1, 3, 9, 10, 18, 29, 30, 48, 69, 70, 105, 149, 150, 225, 309, 310, 629, 630, 1269, 1270,
    2800, 7000, 20_000, 60_000, 200_000, 800_000,
)  # fmt: skip  # the pairs enclose the ends of slow start's flights
PIPE = (0.5, 2, 6, 16, 40, 100, 250, 630, 1600, 5000, 20_000, 100_000)
LOSS = (0, 2e-5, 1e-4, 4e-4, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.25, 0.5)
RTT_S = (0.002, 0.01, 0.03, 0.1, 0.25, 0.6, 1.6)
LEVEL = (0.02, 0.1, 0.25, 0.5, 0.7, 0.85, 0.94, 0.98, 0.996)
NARROW = sum(pipe < 63.4 for pipe in PIPE)
RICH_BUFFER = 63.4  # segments; the other buffer of the table is one pipe
LEAN_BUFFER = 2.0  # segments at least
STEP = 0.015  # resolution of the stored logarithms
FILE = Path(__file__).with_name("tcp.npy.xz")


def slab(algorithm: int, buffer: int, rtt_s: float, loss: float, repeats: int) -> np.ndarray:
    """Return the quantiles `[segments, pipe, level]` of one round trip and loss."""
    pipes = PIPE if buffer else PIPE[:NARROW]
    repeats = repeats if loss > 0 else max(repeats // 10, 4)
    segments = np.repeat(np.asarray(SEGMENTS, float), len(pipes) * repeats)
    pipe = np.tile(np.repeat(np.asarray(pipes, float), repeats), len(SEGMENTS))
    same = np.ones_like(pipe)
    space = np.maximum(pipe, RICH_BUFFER if buffer else LEAN_BUFFER)
    address = (SEED, algorithm, buffer, int(rtt_s * 1e6), int(loss * 1e7))
    rng = np.random.default_rng(address)
    setting = Setting(algorithm * same, segments, pipe, space, rtt_s * same, loss * same)
    ratio = np.log(transfer_times(rng, setting, MOST_FLIGHTS) / (rtt_s * (1 + segments / pipe)))
    table = np.quantile(ratio.reshape(len(SEGMENTS), len(pipes), repeats), LEVEL, axis=-1)
    return np.moveaxis(table, 0, -1)


def smooth(table: np.ndarray, axis: int) -> np.ndarray:
    """Average with the neighbours by 1:2:1; the ends stay."""
    moved = np.moveaxis(table, axis, 0)
    inner = (moved[:-2] + 2 * moved[1:-1] + moved[2:]) / 4
    return np.moveaxis(np.concatenate([moved[:1], inner, moved[-1:]]), 0, axis)


def generate(repeats: int, processes: int) -> np.ndarray:
    """Return the table `[algorithm, buffer, rtt, loss, segments, pipe, level]`, int16 of STEP.

    Levels after the first hold the difference from the level before, which packs better.
    """
    axes = (range(len(ALGORITHMS)), range(2), RTT_S, LOSS)
    cells = list(product(*axes))
    with ProcessPoolExecutor(processes) as pool:
        slabs = list(pool.map(slab, *zip(*cells, strict=True), [repeats] * len(cells)))
    shape = (*map(len, axes), len(SEGMENTS), len(PIPE), len(LEVEL))
    half = len(RTT_S) * len(LOSS)
    for first in range(0, len(slabs), 2 * half):  # wider pipes: both buffers are one pipe
        for lean in range(first, first + half):
            wide = slabs[lean + half][:, NARROW:]
            slabs[lean] = np.concatenate([slabs[lean], wide], axis=1)
    table = np.array(slabs).reshape(shape)
    table = np.maximum.accumulate(smooth(table, 2), axis=3)
    table = np.maximum.accumulate(table, axis=6)
    return np.diff(np.round(table / STEP), axis=-1, prepend=0).astype(np.int16)


def main() -> None:
    """Write the table beside this file, or where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    table = generate(options.repeats, options.processes)
    with lzma.open(options.out, "wb") as file:
        np.save(file, table)


if __name__ == "__main__":
    main()
