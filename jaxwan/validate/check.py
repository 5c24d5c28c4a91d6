"""One line of the comparison between the model and a truth."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """How far the model is from one truth; it passes where the error is at most the target."""

    truth: str  # what is compared, in a few words
    source: str  # where the truth comes from
    n: int  # measurements, table cells or draws compared
    error: float
    target: float
    unit: str  # how error and target read: "factor", "Gbit/s rms", "standard errors", ...

    @property
    def passed(self) -> bool:
        """Tell whether the model is close enough."""
        return self.error <= self.target
