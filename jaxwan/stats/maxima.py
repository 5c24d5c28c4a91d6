"""Expected maxima of independent draws: what waiting for the slowest costs."""

from __future__ import annotations

import math

import numpy as np
from scipy import integrate, special


def harmonic(n: int) -> float:
    """Return 1 + 1/2 + ... + 1/n."""
    return math.fsum(1 / k for k in range(1, n + 1))


def exponential_first(k: int, n: int, rate: float = 1.0) -> float:
    """Return the mean time until k of n exponentials have ended: (H_n - H_{n-k}) / rate."""
    return (harmonic(n) - harmonic(n - k)) / rate


def lognormal_max(n: int, sigma: float) -> float:
    """Return the mean of the largest of n lognormals of mean 1, by quadrature over the normal."""

    def integrand(z: float) -> float:
        density = math.exp(-0.5 * z * z + sigma * z) / math.sqrt(2 * math.pi)
        return n * special.ndtr(z) ** (n - 1) * density

    value, _ = integrate.quad(integrand, -12, 12 + sigma, epsabs=1e-12, limit=200)
    return math.exp(-0.5 * sigma * sigma) * value


def geometric_max(loss: float, packets: int) -> float:
    """Return the mean number of sending rounds until every packet has come through.

    Each round resends what was lost: the sum over j >= 0 of 1 - (1 - p^j)^n.
    """
    if not 0 <= loss < 1:
        raise ValueError(f"loss {loss:g} is not in [0, 1)")
    if loss == 0:
        return 1.0
    rounds = math.ceil((math.log(packets) + 40.0) / -math.log(loss)) + 1
    powers = loss ** np.arange(1, rounds)
    missing = -np.expm1(packets * np.log1p(-powers))
    return 1.0 + float(np.sum(missing))
