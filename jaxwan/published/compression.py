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
        note="DiLoCo with eight workers in one data centre, the small MLP, 40 rounds of H = 50 "
        "AdamW steps at a constant rate. Excess loss is the held-out loss above the task's floor; "
        "harmless means within a tenth of full precision. The floats are E3M0, as in the paper; "
        "one bit keeps the mean magnitude. Workers and H were chosen on the seeds 0 to 31, "
        "where the three ratios were 0.96 (0.90 to 1.02), 0.98 (0.95 to 1.02) and 1.35 (1.20 to "
        "1.53), and fixed before this run, the only one, on fresh seeds from 1000 on. Four workers "
        "with H = 25 and 80 rounds (48 seeds from 0 on) had given 1.06 (0.98 to 1.13) for the "
        "floats, which does not exclude the bound. Harmless is not free: the integers cost "
        "something here, and of the floats it is not known. Nor does a memory mend one bit in so "
        "few rounds: with it the ratio is 1.50 (1.31 to 1.71).",
    ),
    Claim(
        key="e",
        claim="One per cent of the gradient stalls without memory and reaches dense with it.",
        source="Stich et al. 2018, Sparsified SGD with memory; Karimireddy et al. 2019",
        sweep="topk_memory",
        judge=topk_memory,
        note="Synchronous SGD on a small MLP, four workers with the same data, 3000 steps at the "
        "learning rate 0.05. Excess loss is the held-out loss above the task's exact floor. "
        "Without memory the loss still falls, but slowly: stalled means at least twice the excess "
        "loss of dense training after as many steps; reached means within a tenth of it. Rate and "
        "steps were chosen on the seeds 0 to 31, where training with memory ended 4 % above dense "
        "(2 to 6), and fixed before this run, the only one, on fresh seeds from 1000 on. Not "
        "every rate will do: at the scenario's 0.15 (2000 steps, 48 seeds from 0 on) training "
        "with memory ended 9 % above dense (3 to 15), which does not exclude the bound.",
    ),
]
