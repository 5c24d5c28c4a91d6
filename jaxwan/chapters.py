"""The chapters of the page of families: what is said first, and the columns of each table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxwan.experiment.listing import member_static
from jaxwan.learning.aggregators.base import leaves_all, weigh_by_presence
from jaxwan.learning.compressors import Form
from jaxwan.learning.problems import parameter_count

SIDE = 1000  # of the square tensor whose bytes are counted

Cells = dict[str, str]


class Chapter(NamedTuple):
    """A family on the page: its title, what is said first, and its columns beside the summary."""

    family: str
    title: str
    text: str
    cells: Callable[[str, Any], Cells]


def words(*told: tuple[bool, str]) -> str:
    """Join the traits that hold."""
    return ", ".join(text for holds, text in told if holds) or "—"


def fixed(member: Any) -> dict[str, Any]:
    """Return the static arguments of a member by default."""
    return {name: fact.default for name, fact in member_static(member).items()}


def defaults(member: Any) -> dict[str, Any]:
    """Return all settings of a member by default."""
    return {name: knob.default for name, knob in member.knobs.items()} | fixed(member)


def remembers(memory: Any) -> bool:
    """Tell whether a memory holds anything."""
    return bool(jax.tree.leaves(memory))


def compressor_cells(name: str, member: Any) -> Cells:
    """Return the traits of a compressor and what a million entries weigh."""
    form = Form(((SIDE, SIDE),), fixed(member))
    size = member.wire(form, defaults(member)).bytes
    memory = jax.eval_shape(lambda: member.init(form))
    traits = words(
        (member.unbiased, "unbiased"),
        (member.contractive, "contractive"),
        (member.feedback, "error feedback by default"),
        (member.decay != 1, f"decay {member.decay:g}"),
        (remembers(memory), "remembers"),
        (member.sums, "sums on the way"),
        (member.sparse, "sparse"),
        (member.keeps_zero, "keeps zeros"),
    )
    share = 100 * size / (4 * SIDE * SIDE)
    return {"traits": traits, "bytes": f"{size:,}", "of float32": f"{share:.3g} %"}


def needs_text(member: Any) -> str:
    """Return how many slots an aggregator is meant for, in terms of f where that is linear."""
    settings = defaults(member)
    if "f" in settings:
        at = [member.needs({**settings, "f": f}) for f in (1, 2, 3)]
        slope = at[1] - at[0]
        if slope > 0 and at[2] - at[1] == slope:
            rest = at[0] - slope
            tail = f" + {rest}" if rest > 0 else f" − {-rest}" if rest else ""
            return f"{'' if slope == 1 else slope}f{tail}"
    return str(member.needs(settings))


def aggregator_cells(name: str, member: Any) -> Cells:
    """Return the traits of an aggregator and for how many slots it is."""
    memory = jax.eval_shape(lambda: member.init(fixed(member), 4))
    traits = words(
        (member.robust, "robust"),
        (remembers(memory), "remembers"),
        (member.weigh is not weigh_by_presence, "weighs by age or tokens"),
        (member.most is not None, f"n ≤ {member.most}"),
    )
    return {"traits": traits, "n ≥": needs_text(member)}


def pre_aggregator_cells(name: str, member: Any) -> Cells:
    """Return the traits of a pre-aggregator."""
    fewer = member.leaves is not leaves_all
    return {"traits": words((member.random, "random"), (fewer, "leaves fewer"))}


def attack_cells(name: str, member: Any) -> Cells:
    """Return the traits of an attack."""
    traits = words(
        (member.random, "random"),
        (member.adaptive, "adaptive"),
        (member.poison_batch is not None, "poisons data"),
        (not member.finite, "not finite"),
    )
    return {"traits": traits}


def strategy_cells(name: str, member: Any) -> Cells:
    """Return what updates a strategy merges and with which optimizers."""
    kind, knobs = member.inner or ("", {})
    rate = ", ".join(f"{knob} = {value:g}" for knob, value in knobs.items())
    traits = words(
        (member.protocol == "barrier", "rounds"),
        (member.protocol == "events", "arrivals"),
        ("local_steps" in member.static, "local steps"),
        (bool(member.own), "workers keep models of their own"),
        (member.exchange != "star", f"exchange {member.exchange}"),
        (member.buffer is not None, f"buffer {member.buffer}"),
        (bool(kind), f"inner {kind} ({rate})"),
    )
    return {"traits": traits}


def optimizer_cells(name: str, member: Any) -> Cells:
    """Return the size of an optimizer's state, in models."""
    return {"state, in models": str(member.slots)}


def problem_cells(name: str, member: Any) -> Cells:
    """Return the size of a problem's model by default."""
    return {"parameters": f"{parameter_count(name):,}"}


def exchange_cells(name: str, member: Any) -> Cells:
    """Return the traits of an exchange."""
    traits = words(
        (member.server, "one coordinator"),
        (member.sums, "sums on the way"),
    )
    return {"traits": traits}


def transport_cells(name: str, member: Any) -> Cells:
    """Return no columns."""
    return {}


CHAPTERS = (
    Chapter(
        "compressor", "Compressors",
        "What a worker sends instead of its update. Bytes are those of one tensor of 1000 × 1000 "
        "at default settings, proven by an encoder and a decoder. *Unbiased*: right on average. "
        "*Contractive*: never farther from the update than zero is, so error feedback converges. "
        "*Sums on the way*: a ring can add messages up without decoding them. *Sparse*: sends some "
        "entries as they are, but for a common factor. *Keeps zeros*: may shrink what a sparse one "
        "has kept. *Remembers*: has a memory beside that of errors.\n\n"
        "All also take `error_feedback` (true, false or `\"ef21\"`; on by default where the traits "
        "say so) and `error_decay` (1 unless the traits tell another, in [0, 1]); those with a "
        "`ratio` also `warmup` (0; a worker's cycles in which more is kept, in four stages).",
        compressor_cells,
    ),
    Chapter(
        "aggregator", "Aggregators",
        "How the updates of one tick become one. *Robust*: two attackers of seven cannot pull it "
        "arbitrarily far. *n ≥*: updates that it is meant for, given f attackers or its defaults. "
        "*Remembers*: carries something from tick to tick. On arrays: "
        "`jw.aggregate(\"krum\", updates, f=2)`.",
        aggregator_cells,
    ),
    Chapter(
        "pre_aggregator", "Pre-aggregators",
        "What happens to the updates before they are aggregated: `pre_aggregator = NAME`. "
        "*Random*: draws from a key. *Leaves fewer*: the rule behind it must do with fewer than "
        "came. On arrays `jw.aggregate(NAME, updates)`, or in front of a rule, "
        "`jw.aggregate(\"krum\", updates, f=2, pre_aggregator=NAME)`.",
        pre_aggregator_cells,
    ),
    Chapter(
        "attack", "Attacks",
        "What attackers send instead of their updates. *Random*: draws from a key. *Adaptive*: "
        "searches against the aggregator in use. *Poisons data*: spoils the attackers' labels "
        "rather than their updates. On arrays: `jw.attack(\"ipm\", honest, count=2, tau=2.0)`.",
        attack_cells,
    ),
    Chapter(
        "strategy", "Strategies",
        "Who waits for whom. *Rounds* end for all workers at once; *arrivals* are merged as they "
        "come, `buffer` of them at a time.",
        strategy_cells,
    ),
    Chapter(
        "optimizer", "Optimizers",
        "What makes a step of an update, by optax: at the server or, with local steps, at the "
        "worker.",
        optimizer_cells,
    ),
    Chapter(
        "problem", "Problems",
        "What is trained, on synthetic data with a known floor: the `model` and the `proxy` of a "
        "scenario. Parameters are those of the default sizes.",
        problem_cells,
    ),
    Chapter(
        "exchange", "Exchanges",
        "How the updates of a round come together: `exchange = \"ring\"`. *Sums on the way*: "
        "takes compressors with the same trait, and the mean. *Time only*: what it does to "
        "learning is not simulated.",
        exchange_cells,
    ),
    Chapter(
        "transport", "Transports",
        "How long a payload takes over a link: `link.transport = \"cubic\"`.",
        transport_cells,
    ),
)  # fmt: skip
