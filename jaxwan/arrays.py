"""Arrays at the door: what a notebook hands over, checked and as float32."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxwan.experiment.errors import InputError, shown
from jaxwan.experiment.schema import plain

SEED_LIMIT = 2**32
KINDS = "biufV"  # bool, whole, float, and bfloat16, which NumPy calls void


def array_of(value: Any, place: str) -> np.ndarray:
    """Return real numbers as float32; NaN and infinities pass.

    Raises:
        InputError: for what holds no numbers, complex ones, or rows of unequal length.
    """
    try:
        found = np.asarray(value)
        if found.dtype.kind not in KINDS:
            raise TypeError(found.dtype.name)
        with np.errstate(over="ignore"):
            return found.astype(np.float32)
    except (TypeError, ValueError):
        kind = getattr(value, "dtype", type(value).__name__)
        raise InputError(f"expected an array of real numbers, got {kind}", place) from None


def _finite(array: np.ndarray, place: str) -> np.ndarray:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = tuple(map(int, bad[0]))
        text = f"{array[index]} at [{', '.join(map(str, index))}] is not allowed"
        raise InputError(f"{text} (allowed: finite float32 numbers)", place)
    return array


def matrix(value: Any, place: str, finite: bool = False) -> np.ndarray:
    """Return one update a row, float32 [worker, dim].

    Raises:
        InputError: for another shape, and where `finite` for NaN and infinities.
    """
    found = array_of(value, place)
    if found.ndim != 2 or 0 in found.shape:
        raise InputError(
            f"expected one update a row, [worker, dim], both at least 1; got {found.shape}", place
        )
    return _finite(found, place) if finite else found


def tensors(value: Any, place: str) -> tuple[list[np.ndarray], Any]:
    """Return the finite tensors of an array, or of a list, tuple or dict of arrays; and its tree.

    A list of numbers, however nested, is one array.

    Raises:
        InputError: for anything else, an empty array, NaN and infinities.
    """
    leaves, tree = jax.tree.flatten(value)
    if not leaves or not all(getattr(leaf, "ndim", 0) for leaf in leaves):
        leaves, tree = [value], jax.tree.structure(0)
    found = [_finite(array_of(leaf, place), place) for leaf in leaves]
    if not all(part.size for part in found):
        raise InputError(f"is empty, of shape {found[0].shape}", place)
    return found, tree


def column(value: Any, rows: int, place: str, usual: float) -> np.ndarray:
    """Return one number ≥ 0 a worker, float32 [worker]; None is `usual` for all.

    Raises:
        InputError: for another shape, a negative number, NaN and infinities.
    """
    if value is None:
        return np.full(rows, usual, np.float32)
    found = array_of(value, place)
    if found.shape != (rows,):
        raise InputError(f"expected one entry a worker, ({rows},), got {found.shape}", place)
    _finite(found, place)
    if found.min() < 0:
        raise InputError(f"{found.min():g} at [{found.argmin()}] is not allowed (allowed: >= 0)",
                         place)  # fmt: skip
    return found


def mask_of(value: Any, rows: int, place: str) -> np.ndarray:
    """Return who is present, float32 zeros and ones [worker]; None is everybody.

    Raises:
        InputError: for another shape, and for anything but true, false, 1 and 0.
    """
    found = column(value, rows, place, 1.0)
    odd = np.flatnonzero((found != 0) & (found != 1))
    if len(odd):
        raise InputError(
            f"{found[odd[0]]:g} at [{odd[0]}] is not allowed (allowed: true, false, 1, 0); "
            "shares go into weights", place,
        )  # fmt: skip
    return found


def count_of(value: Any, place: str) -> int:
    """Return a count of at least 1.

    Raises:
        InputError: for anything else.
    """
    found = plain(value)
    if type(found) is not int or found < 1:
        raise InputError(f"expected a whole number of at least 1, got {shown(value)}", place)
    return found


def key_of(value: Any, place: str) -> jax.Array:
    """Return a typed key for a seed, a key of JAX, or None, which is seed 0.

    Raises:
        InputError: for anything else.
    """
    typed = isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    if typed and value.shape == ():
        return value
    if getattr(value, "shape", None) == (2,) and value.dtype == np.uint32:
        return jax.random.wrap_key_data(value, impl="threefry2x32")
    seed = 0 if value is None else plain(value)
    if typed or type(seed) is not int or not 0 <= seed < SEED_LIMIT:
        raise InputError(
            f"expected a seed from 0 to 2**32 - 1, one key of JAX, or None; got {shown(value)}",
            place,
        )
    return jax.random.key(seed, impl="threefry2x32")
