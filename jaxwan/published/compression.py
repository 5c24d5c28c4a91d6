"""Claims on what compressed updates cost: four bits and one, a hundredth with a memory."""

from __future__ import annotations

from functools import partial

from jaxwan.published.claim import Claim, Finding
from jaxwan.published.excess import ratio, select
from jaxwan.results import Results

SAME = 1.1  # times the dense excess loss that still count as the same
STALLED = 2.0  # times the dense excess loss from which on a run has stalled


def outer_bits(results: Results) -> list[Finding]:
    """Compare the excess loss of 4-bit and 1-bit outer updates with that of full ones."""
    pick = partial(select, results.frame)
    full, bare = pick(compressor="none"), pick(compressor="sign", compressor__error_feedback=False)
    return [
        ratio("excess loss, 4-bit floats over full", pick(compressor="fp4"), full, SAME, False),
        ratio("excess loss, 4-bit integers over full", pick(compressor="int4"), full, SAME, False),
        ratio("excess loss, 1 bit without memory over full", bare, full, SAME, True),
    ]


def topk_memory(results: Results) -> list[Finding]:
    """Compare the excess loss of top-k with and without memory with that of dense updates."""
    pick = partial(select, results.frame)
    dense = pick(compressor="none")
    bare, kept = (
        pick(compressor="topk", compressor__error_feedback=flag) for flag in (False, True)
    )
    return [
        ratio("excess loss, top 1 % without memory over dense", bare, dense, STALLED, True),
        ratio("excess loss, top 1 % with memory over dense", kept, dense, SAME, False),
        ratio("excess loss, without memory over with", bare, kept, STALLED, True),
    ]


CLAIMS = [
    Claim(
        key="d",
        claim="Outer updates of 4 bits are harmless; 1 bit without memory is not.",
        source="Douillard et al. 2025, Streaming DiLoCo; Seide et al. 2014, 1-bit SGD",
        sweep="outer_bits",
        judge=outer_bits,
        note="DiLoCo with H = 25, four workers in one data centre, the small MLP, 80 rounds. "
        "Excess loss is the held-out loss above the task's floor; harmless means within a tenth of "
        "full precision. At this size 4 bits cost a few per cent, which the interval can tell "
        "neither from nothing nor from a tenth; the paper reports none at 1 billion parameters. "
        "One bit keeps the mean magnitude and, without memory, costs about a third.",
    ),
    Claim(
        key="e",
        claim="One per cent of the gradient stalls without memory and reaches dense with it.",
        source="Stich et al. 2018, Sparsified SGD with memory; Karimireddy et al. 2019",
        sweep="topk_memory",
        judge=topk_memory,
        note="Synchronous SGD on a small MLP, four workers with the same data. Excess loss is the "
        "held-out loss above the task's exact floor. Without memory the loss still falls, but "
        "slowly: stalled means at least twice the excess loss of dense training after as many "
        "steps; reached means within a tenth of it.",
    ),
]
