"""Numbers for people: three significant digits and a unit one can picture."""

from __future__ import annotations

import math

_DURATIONS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_NEXT_UNIT_FROM = 2.0


def number(value: float, digits: int = 3) -> str:
    """Write a number with `digits` significant digits; "–" where there is none."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    exponent = math.floor(math.log10(abs(value))) if value else 0
    if not -4 <= exponent < 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - exponent, 0)}f}"


def count(number_of: int, noun: str) -> str:
    """Write how many of a thing there are: 1 run, 1,024 runs."""
    return f"{number_of:,} {noun}" + "s" * (number_of != 1)


def spread(mean: float, half: float) -> tuple[str, str]:
    """Write a mean and "±" its half width with the mean's decimals; "" where it is unknown.

    A half width too small for these decimals is said to be smaller than their last digit.
    """
    text = number(mean)
    if not math.isfinite(half) or not math.isfinite(mean):
        return text, ""
    if half == 0:
        return text, "±0"
    decimals = len(text.partition(".")[2])
    rounded = f"{half:.{decimals}f}"
    if "e" in text:
        return text, f"±{number(half, 2)}"
    return text, f"±{rounded}" if float(rounded) else f"±<{10.0**-decimals:.{decimals}f}"


def percent(share: float, digits: int = 0) -> str:
    """Write a share as a percentage with a fixed number of decimals."""
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def rate(bits_per_second: float) -> str:
    """Write a data rate in the unit that keeps it above one."""
    if not math.isfinite(bits_per_second):
        return number(bits_per_second)
    for size, name in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if abs(bits_per_second) >= size:
            return f"{bits_per_second / size:.4g} {name}"
    return f"{bits_per_second:.4g} bit/s"


def duration_unit(seconds: float) -> tuple[float, str]:
    """Choose the unit, as seconds and name, in which a duration is easy to read."""
    size = abs(seconds)
    if not math.isfinite(size) or size == 0:
        return 1.0, "s"
    for length, name in _DURATIONS:
        if size >= length * (_NEXT_UNIT_FROM if length > 1 else 1):
            return length, name
    return _DURATIONS[-1]


def duration(seconds: float) -> str:
    """Write a duration in its own unit; "–" where there is none."""
    if not math.isfinite(seconds):
        return number(seconds)
    length, name = duration_unit(seconds)
    return f"{number(seconds / length)} {name}"


def duration_spread(seconds: float, half: float) -> tuple[str, str]:
    """Write a mean duration and "±" its half width, both in the unit of the mean."""
    if not math.isfinite(seconds):
        return number(seconds), ""
    length, name = duration_unit(seconds)
    mean, around = spread(seconds / length, half / length)
    return f"{mean} {name}", around
