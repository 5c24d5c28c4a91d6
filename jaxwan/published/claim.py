"""What a published claim is, and what a sweep says about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One figure of ours with its 95 % interval, and where it would have to lie.

    `low` and `high` bound the interval; the claim holds where it lies beyond `bound` on the side
    that `above` says, so that the interval excludes the opposite.
    """

    what: str  # what the figure is, in a few words
    figure: float
    low: float
    high: float
    bound: float
    above: bool

    @property
    def holds(self) -> bool:
        """Return whether the whole interval lies on the claimed side of the bound."""
        return self.low > self.bound if self.above else self.high < self.bound


class Claim(NamedTuple):
    """A published effect: `judge` reads it off the results of a sweep under sweeps/published."""

    key: str  # "a", "b", …
    claim: str
    source: str
    sweep: str  # file name without .toml
    judge: Callable[[Any], list[Finding]]
    note: str = ""  # how it was set up, and what a reader should not take it for
