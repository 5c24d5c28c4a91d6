"""Prices: what a worker's machine computes, draws, holds and costs, with the source of each figure.

Speeds follow from the dense peak in bf16 (or fp32) of the datasheet; the share of the peak that
training reaches, 38 to 43 % on H100 (Llama 3, Grattafiori et al. 2024, table 4), is taken as equal
on all accelerators. Models that wait for memory gain less from a faster chip than this says.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxwan.core.families import member

FLOPS_SHARE = 0.4  # of the peak
GIGABYTE = 1e9
NETWORK_J_PER_BYTE = 1.4e-5  # 0.06 kWh/GB in 2015, halving every two years (Aslan et al. 2018)
RENTED = "RunPod list prices, March 2026"
REFERENCE = "reference_gpu"
CPU = "cpu"  # its speed follows from the scenario, not from its peak


class Device(NamedTuple):
    """What one worker's machine computes, draws, holds and costs."""

    summary: str
    source: str
    busy_w: float
    idle_w: float
    memory_bytes: float
    usd_per_hour: float  # on demand
    spot_usd_per_hour: float
    bf16_flops: float  # reached in training
    fp32_flops: float


def _reached(peak_tflops: float) -> float:
    return FLOPS_SHARE * peak_tflops * 1e12


DEVICES = {
    REFERENCE: Device(
        summary="The accelerator whose step time each scenario states.",
        source="A100 SXM 80 GB: 400 W board limit, about 60 W idle; about 2 $/h on demand, half "
        "of it on the spot market",
        busy_w=400.0, idle_w=60.0, memory_bytes=80e9, usd_per_hour=2.0, spot_usd_per_hour=1.0,
        bf16_flops=_reached(312.0), fp32_flops=_reached(19.5),
    ),
    "h100": Device(
        summary="NVIDIA H100 SXM, 80 GB.",
        source=f"NVIDIA H100 datasheet: 989 TFLOP/s bf16 dense, 67 fp32, 700 W; {RENTED}",
        busy_w=700.0, idle_w=70.0, memory_bytes=80e9, usd_per_hour=2.69, spot_usd_per_hour=0.81,
        bf16_flops=_reached(989.0), fp32_flops=_reached(67.0),
    ),
    "a100": Device(
        summary="NVIDIA A100 SXM, 80 GB.",
        source=f"NVIDIA A100 datasheet: 312 TFLOP/s bf16 dense, 19.5 fp32, 400 W; {RENTED}",
        busy_w=400.0, idle_w=60.0, memory_bytes=80e9, usd_per_hour=1.39, spot_usd_per_hour=0.59,
        bf16_flops=_reached(312.0), fp32_flops=_reached(19.5),
    ),
    "l40s": Device(
        summary="NVIDIA L40S, 48 GB.",
        source=f"NVIDIA L40S datasheet: 362 TFLOP/s bf16 dense, 91.6 fp32, 350 W; {RENTED}",
        busy_w=350.0, idle_w=35.0, memory_bytes=48e9, usd_per_hour=0.79, spot_usd_per_hour=0.34,
        bf16_flops=_reached(362.0), fp32_flops=_reached(91.6),
    ),
    "rtx_4090": Device(
        summary="NVIDIA GeForce RTX 4090, 24 GB.",
        source=f"NVIDIA Ada whitepaper: 165 TFLOP/s bf16 dense, 82.6 fp32, 450 W; {RENTED}",
        busy_w=450.0, idle_w=20.0, memory_bytes=24e9, usd_per_hour=0.34, spot_usd_per_hour=0.22,
        bf16_flops=_reached(165.2), fp32_flops=_reached(82.6),
    ),
    CPU: Device(
        summary="A server without accelerator, slower by the scenario's factor.",
        source="two-socket server: about 300 W busy, 120 W idle; about 0.4 $/h for 8 cores, 64 GB, "
        "half of it on the spot market",
        busy_w=300.0, idle_w=120.0, memory_bytes=64e9, usd_per_hour=0.4, spot_usd_per_hour=0.2,
        bf16_flops=_reached(3.8), fp32_flops=_reached(3.8),
    ),
}  # fmt: skip


class Provider(NamedTuple):
    """Whose network a worker's bytes leave, and what that costs."""

    summary: str
    source: str
    usd_per_gb: float


PROVIDERS = {
    "aws": Provider(
        "Amazon Web Services, to the internet.", "list price 2026, first 10 TB a month", 0.09
    ),
    "aws_inter_region": Provider(
        "Amazon Web Services, to another region in the US.", "list price 2026", 0.02
    ),
    "azure": Provider(
        "Microsoft Azure, to the internet.", "list price 2026, first 10 TB a month", 0.087
    ),
    "gcp": Provider(
        "Google Cloud, premium tier, to the internet.", "list price 2026, first TB a month", 0.12
    ),
    "gcp_standard": Provider(
        "Google Cloud, standard tier, to the internet.", "list price 2026, first 10 TB", 0.085
    ),
    "unmetered": Provider(
        "Traffic is free: at home, on campus, at some providers.", "RunPod documentation 2026", 0.0
    ),
}
DEVICE_NAMES = tuple(DEVICES)
PROVIDER_NAMES = tuple(PROVIDERS)
PRICINGS = ("on_demand", "spot")
PRECISIONS = ("bf16", "fp32")


def device(name: str) -> Device:
    """Return a device by name.

    Raises:
        ValueError: naming the nearest device.
    """
    return member("device", DEVICES, name)


def hourly(name: str, pricing: str) -> float:
    """Return the price of a device by the hour, $."""
    own = device(name)
    return own.spot_usd_per_hour if pricing == "spot" else own.usd_per_hour


def relative_speed(name: str, precision: str) -> float:
    """Return a device's speed as a multiple of the reference; a CPU's is the scenario's affair."""
    if name == CPU:
        return 1.0
    field = f"{precision}_flops"
    return getattr(device(name), field) / getattr(DEVICES[REFERENCE], field)
