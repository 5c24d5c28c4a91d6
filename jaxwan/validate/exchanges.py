"""Collectives beside a message-by-message play of each algorithm, and retransmissions beside draws.

The play knows nothing of the closed forms: it moves blocks between workers, keeps who has
contributed to which, times every message on its sender's port, and refuses an end at which some
worker lacks a contribution or has one twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxwan.stats.maxima import geometric_max
from jaxwan.validate.check import Check
from jaxwan.world.collectives import COLLECTIVES

TITLE = "Collective exchanges and retransmissions"
COUNTS = (2, 3, 4, 5, 8, 13, 16, 64)
ROUNDING = 1e-5  # of float32 sums and quotients
DRAWS = 20_000
LOSSES, PACKETS = (0.01, 0.1, 0.4), (1, 30, 1000)


class Link(NamedTuple):
    """What every worker sends over."""

    latency_s: float
    rate_bps: float


CASES = ((8e9, Link(0.05, 1e9)), (1e6, Link(0.08, 1e8)), (4e10, Link(0.001, 5e9)))


class Send(NamedTuple):
    """One message of whole blocks."""

    sender: int
    receiver: int
    blocks: list[int]


class Play:
    """Workers that hold blocks and send them; every worker sends one message at a time."""

    def __init__(self, holds: np.ndarray, block_bits: float, link: Link) -> None:
        self.holds = holds  # [worker, block, contributor]; how often each contribution is in it
        self.block_bits, self.link = block_bits, link
        self.ready_s = np.zeros(len(holds))  # when a worker may send its next message

    def round(self, sends: list[Send], add: bool) -> None:
        """Deliver messages sent side by side; add their blocks to what is held, or replace it."""
        before, start = self.holds.copy(), self.ready_s.copy()
        for sender, receiver, blocks in sends:
            sent = start[sender] + len(blocks) * self.block_bits / self.link.rate_bps
            self.ready_s[sender] = max(self.ready_s[sender], sent)
            self.ready_s[receiver] = max(self.ready_s[receiver], sent + self.link.latency_s)
            kept = self.holds[receiver, blocks] if add else 0
            self.holds[receiver, blocks] = kept + before[sender, blocks]

    def end(self, wanted: np.ndarray) -> float:
        """Return when the last worker has what is wanted.

        Raises:
            ValueError: where somebody has something else.
        """
        if not np.array_equal(self.holds, np.broadcast_to(wanted, self.holds.shape)):
            raise ValueError("the exchange left a contribution out or counted one twice")
        return float(self.ready_s.max())


def own_parts(n: int) -> np.ndarray:
    """Return what workers hold before an all-reduce: their own contribution to every block."""
    return np.repeat(np.eye(n, dtype=int)[:, None, :], n, axis=1)


def play_ring(bits: float, n: int, link: Link) -> float:
    """Play a ring all-reduce: n-1 rounds of adding, n-1 rounds of handing on."""
    play = Play(own_parts(n), bits / n, link)
    for step in range(n - 1):
        play.round([Send(i, (i + 1) % n, [(i - step) % n]) for i in range(n)], add=True)
    for step in range(n - 1):
        play.round([Send(i, (i + 1) % n, [(i + 1 - step) % n]) for i in range(n)], add=False)
    return play.end(np.ones((n, n), int))


def play_halving_doubling(bits: float, n: int, link: Link) -> float:
    """Play Bruck's all-gather after its mirror image; any n, in 2 ceil(log2 n) rounds.

    In a gathering round a worker that holds `offset` blocks from its own on gets `count` more.
    """
    play, offset, spans = Play(own_parts(n), bits / n, link), 1, []
    while offset < n:
        spans.append((offset, min(offset, n - offset)))
        offset += spans[-1][1]
    for offset, count in reversed(spans):
        ahead = range(offset, offset + count)
        sends = [Send(i, (i + offset) % n, [(i + k) % n for k in ahead]) for i in range(n)]
        play.round(sends, add=True)
        for send in sends:
            play.holds[send.sender, send.blocks] = 0
    for offset, count in spans:
        first = range(count)
        play.round([Send(i, (i - offset) % n, [(i + k) % n for k in first]) for i in range(n)],
                   add=False)  # fmt: skip
    return play.end(np.ones((n, n), int))


def play_one_server(bits: float, n: int, link: Link) -> float:
    """Play n uploads that queue at the server's port, then n downloads that queue there too."""
    port_free = link.latency_s
    for _ in range(2 * n):
        port_free += bits / link.rate_bps
    return port_free + link.latency_s


def play_all_gather(bits: float, n: int, link: Link) -> float:
    """Play n-1 rounds in which every worker hands on the payload that came last."""
    mine = np.eye(n, dtype=int)
    play = Play(mine[:, :, None] * mine[:, None, :], bits, link)
    for step in range(n - 1):
        play.round([Send(i, (i + 1) % n, [(i - step) % n]) for i in range(n)], add=False)
    return play.end(mine)


PLAYS: dict[str, Callable[[float, int, Link], float]] = {
    "ring": play_ring,
    "halving_doubling": play_halving_doubling,
    "one_server": play_one_server,
    "all_gather": play_all_gather,
}


def collective_check(name: str) -> Check:
    """Compare one collective's closed form with its play, over all counts and links."""
    errors = []
    for bits, link in CASES:
        found = np.asarray(COLLECTIVES[name].seconds(bits, np.array(COUNTS), *link))
        played = np.array([PLAYS[name](bits, n, link) for n in COUNTS])
        errors.append(np.abs(found / played - 1))
    truth = f"{name.replace('_', ' ')}: time of 2 to {COUNTS[-1]} workers"
    count = len(CASES) * len(COUNTS)
    return Check(truth, "played message by message", count, float(np.max(errors)), ROUNDING,
                 "relative")  # fmt: skip


def retransmission_check() -> Check:
    """Compare the mean number of sending rounds with draws of every packet's own rounds."""
    rng, worst = np.random.default_rng(7), 0.0
    for loss in LOSSES:
        for packets in PACKETS:
            draws = np.concatenate([
                rng.geometric(1 - loss, (DRAWS // 20, packets)).max(axis=1) for _ in range(20)
            ])  # fmt: skip
            error = draws.std(ddof=1) / np.sqrt(DRAWS)
            worst = max(worst, abs(draws.mean() - geometric_max(loss, packets)) / error)
    truth = "rounds until all of 1 to 1000 packets are through, loss .01 to .4"
    cases = len(LOSSES) * len(PACKETS)
    return Check(truth, "independent draws", cases * DRAWS, float(worst), 3.0, "standard errors")


def checks() -> list[Check]:
    """Compare every collective, and the retransmissions."""
    return [*map(collective_check, COLLECTIVES), retransmission_check()]
