"""LearnPlan (static) and LearnKnobs (traced): everything that decides what a contribution does."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax

from jaxwan.core.pytrees import pytree

Statics = tuple[tuple[str, Any], ...]
OWN = ("", "stream", "elastic", "gossip", "regions")


@pytree
class LearnPlan:
    """Names of family members, shapes and counts; a change recompiles.

    `own` says what becomes of the models that workers train: "" drops them for the server's; with
    "stream" a worker goes on with its own and takes over a fragment at a time; "elastic" pulls it
    towards the server's; "gossip" averages pairs and knows no server; "regions" averages within a
    region in every round and among the regions every `outer_every` rounds.
    """

    problem: str
    problem_static: Statics
    compressor: str
    compressor_static: Statics
    feedback: str  # error feedback around the compressor: one of FEEDBACKS
    aggregator: str
    attack: str  # "" where nobody attacks
    optimizer: str
    optimizer_static: Statics
    inner: str  # the workers' optimizer where they take local steps, "" where they send gradients
    inner_static: Statics
    local_steps: int  # of a cycle, at most
    workers: int
    slots: int
    stale: bool  # workers keep the model they fetched (event protocols)
    eval_points: int
    aggregator_static: Statics = ()
    pre_aggregator: str = ""  # "" for none
    pre_aggregator_static: Statics = ()
    attack_static: Statics = ()
    attack_first: bool = False  # attackers change their updates before these are compressed
    downlink: str = ""  # compressor of the merged update; "" sends every contribution on
    downlink_static: Statics = ()
    own: str = ""  # one of OWN
    fragments: int = 1  # equal parts of the model that are exchanged in turn
    uneven: bool = False  # workers take different numbers of local steps
    apart: bool = False  # workers have different data: their own loss is worked out too

    @property
    def holds(self) -> bool:
        """Return whether the learner keeps a model for every worker."""
        return self.stale or self.own != ""


@pytree
class LearnKnobs:
    """The numbers of one run's learner, by family; a change never recompiles."""

    problem: dict[str, jax.Array]
    compressor: dict[str, jax.Array]
    decay: jax.Array  # of the error memory
    aggregator: dict[str, jax.Array]
    attack: dict[str, jax.Array]
    optimizer: dict[str, jax.Array]
    inner: dict[str, jax.Array]
    workers: jax.Array  # int32; slots beyond are padding
    ticks: jax.Array  # int32; ticks of this run
    pre_aggregator: dict[str, jax.Array] = field(default_factory=dict)
    downlink: dict[str, jax.Array] = field(default_factory=dict)
    age_power: jax.Array | None = None  # an update counts (1 + age)**-age_power; None = fully
    mixing: jax.Array | None = None  # share of its own model that a worker keeps
    delay: jax.Array | None = None  # local steps until a fragment's result is taken over
    region: jax.Array | None = None  # int32 [worker]; equal within a region
    outer_every: jax.Array | None = None  # int32; rounds between two merges of the regions
    luck: jax.Array | None = None  # uint32; added to the seed of data, noise and first model
