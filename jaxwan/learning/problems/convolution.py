"""Convolutions and pools on `[channel, row, column, sample]`, written as weights times patches.

A convolution vmapped over its weights becomes a grouped convolution, slow on every backend; a
matrix product vmapped over its weights stays a batch of matrix products. Small networks have few
channels and many samples, so the sample is the last, contiguous axis.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def from_rows(x: jax.Array, side: int, channels: int) -> jax.Array:
    """Return flat images `[sample, feature]` as `[channel, row, column, sample]`."""
    return x.reshape(-1, side, side, channels).transpose(3, 1, 2, 0)


def views(x: jax.Array, kernel: int, stride: int, fill: float = 0.0) -> list[jax.Array]:
    """Return the kernel x kernel shifted views of `x`, padded by (kernel - 1) / 2 on each side."""
    half, side = (kernel - 1) // 2, x.shape[1]
    padded = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), constant_values=fill)
    last = (side - 1) // stride * stride + 1
    return [
        padded[:, i : i + last : stride, j : j + last : stride]
        for i in range(kernel)
        for j in range(kernel)
    ]


def convolve(x: jax.Array, weight: jax.Array, kernel: int, stride: int = 1) -> jax.Array:
    """Convolve images with `weight [kernel * kernel * in, out]`; an odd kernel, no bias."""
    patches = jnp.concatenate(views(x, kernel, stride))
    flat = weight.T @ patches.reshape(patches.shape[0], -1)
    return flat.reshape(-1, *patches.shape[1:])


def halve(x: jax.Array) -> jax.Array:
    """Take the maximum of 2 x 2 pixels."""
    channels, side, _, n = x.shape
    rows = x.reshape(channels, side // 2, 2, side, n)
    rows = jnp.maximum(rows[:, :, 0], rows[:, :, 1])
    pairs = rows.reshape(channels, side // 2, side // 2, 2, n)
    return jnp.maximum(pairs[:, :, :, 0], pairs[:, :, :, 1])


def pool_overlapping(x: jax.Array) -> jax.Array:
    """Take the maximum of 3 x 3 pixels at every other pixel."""
    best, *others = views(x, 3, 2, fill=-jnp.inf)
    for view in others:
        best = jnp.maximum(best, view)
    return best


def per_channel(value: jax.Array) -> jax.Array:
    """Return `value [channel]` so that it broadcasts over images."""
    return value[:, None, None, None]


def normalize_batch(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalise each channel by the batch's own mean and variance (Ioffe and Szegedy 2015)."""
    mean = jnp.mean(x, axis=(1, 2, 3))
    variance = jnp.mean(x**2, axis=(1, 2, 3)) - mean**2
    gain = scale * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-5)
    return x * per_channel(gain) + per_channel(bias - mean * gain)
