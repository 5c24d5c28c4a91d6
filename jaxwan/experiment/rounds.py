"""How the workers of a run come together: what fits what, and the numbers the world needs."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

from jaxwan.core.schedule import STAGES
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.exchanges import EXCHANGES
from jaxwan.experiment.resolved import Choice, Resolved
from jaxwan.experiment.strategies import STRATEGIES
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.world.closing import ClosingKnobs
from jaxwan.world.plan import ServerKnobs, SiteKnobs, WorldPlan

CLOSING = {"quorum": 1.0, "backup": 0, "deadline_s": math.inf, "mad": math.inf}


def _f32(value: Any) -> Any:
    return np.asarray(value, np.float32)


def setting(resolved: Resolved, name: str, absent: Any) -> Any:
    """Return a knob of the strategy, or what stands for its absence."""
    value = resolved.strategy.knobs.get(name, absent)
    return absent if value is None else value


def fragments(resolved: Resolved) -> int:
    """Return the parts of the model that are exchanged in turn."""
    return resolved.strategy.static.get("fragments", 1)


def steps_between(resolved: Resolved) -> float:
    """Return the local steps between two exchanges; a fragment a time shortens them."""
    return resolved.strategy.static.get("local_steps", 1) / fragments(resolved)


def surely_there(strategy: Choice, workers: int) -> int:
    """Return the contributions that a round of so many workers waits for by its numbers."""
    quorum, backup = (strategy.knobs.get(name, CLOSING[name]) for name in ("quorum", "backup"))
    return max(min(math.ceil(quorum * workers - 1e-4), workers - backup), 1)


def is_balanced(resolved: Resolved) -> bool:
    """Tell whether workers take local steps in proportion to their speed."""
    return bool(resolved.strategy.static.get("balance", False))


def keeps_own(resolved: Resolved) -> str:
    """Return what becomes of the models that workers train: one of LearnPlan's OWN."""
    own = STRATEGIES[resolved.strategy.kind].own
    ahead, mixing = (setting(resolved, name, 0.0) for name in ("overlap_steps", "mixing"))
    streams = fragments(resolved) > 1 or ahead > 0 or mixing > 0
    return own or ("stream" if streams else "")


def region_codes(resolved: Resolved, width: int) -> np.ndarray:
    """Return a number per worker `[width]` that is equal within a region."""
    codes = [zlib.crc32(worker.region.encode()) for worker in resolved.workers]
    return np.asarray(codes + [0] * (width - len(codes)), np.uint32).astype(np.int32)


def blocks(resolved: Resolved) -> bool:
    """Tell whether workers that are too far ahead wait."""
    return resolved.strategy.static.get("on_stale", "reject") == "block"


def closes_early(resolved: Resolved) -> bool:
    """Tell whether any rule may close a round before everybody has arrived."""
    return any(setting(resolved, name, usual) != usual for name, usual in CLOSING.items())


def _server(resolved: Resolved) -> tuple[float, float]:
    """Return the coordinator's ingress and egress in bit/s; infinite where they have no limit."""
    knobs = resolved.exchange.knobs
    rates = (knobs.get("ingress_bps"), knobs.get("egress_bps"))
    return tuple(math.inf if rate is None else rate for rate in rates)  # type: ignore[return-value]


def is_shared(resolved: Resolved) -> bool:
    """Tell whether the coordinator's own link has a limit."""
    return min(_server(resolved)) < math.inf


def _needs(condition: bool, problem: str, place: str) -> None:
    if not condition:
        raise InputError(problem, place)


def check_rounds(resolved: Resolved) -> None:
    """Refuse exchanges and rules that do not fit the rest of an experiment.

    Raises:
        InputError: naming the place and what it would need.
    """
    kind, exchange = resolved.exchange.kind, EXCHANGES[resolved.exchange.kind]
    barrier = STRATEGIES[resolved.strategy.kind].protocol == "barrier"
    compressor, rule = resolved.compressor.kind, resolved.aggregator.kind
    _needs(exchange.server or barrier, f"{kind!r} needs a strategy with rounds (sync, local_sgd, "
           f"diloco), not {resolved.strategy.kind!r}", "exchange")  # fmt: skip
    _needs(barrier or math.isinf(_server(resolved)[1]), "downloads share the coordinator's egress "
           f"only in rounds (sync, local_sgd, diloco), not under {resolved.strategy.kind!r}",
           "exchange.egress_bps")  # fmt: skip
    _needs(not (is_shared(resolved) and blocks(resolved)), "a shared ingress does not go with "
           "on_stale = 'block'", "exchange.ingress_bps")  # fmt: skip
    _needs(not exchange.sums or COMPRESSORS[compressor].sums, f"{compressor!r} payloads do not sum "
           f"on their way through {kind!r}; use all_gather or star", "exchange")  # fmt: skip
    _needs(not exchange.sums or rule == "mean", f"{kind!r} adds updates up on their way, so "
           f"{rule!r} never sees them; use all_gather, star or the mean", "exchange")  # fmt: skip
    _needs(exchange.server or not closes_early(resolved), f"{kind!r} needs everybody; quorum, "
           "backup, deadline_s and mad go with star", "strategy")  # fmt: skip
    _needs(exchange.server is False or fragments(resolved) == 1, "fragments need an all-reduce: "
           "set exchange to ring, halving_doubling or all_gather",
           "strategy.fragments")  # fmt: skip
    ahead = setting(resolved, "overlap_steps", 0.0)
    _needs(ahead == 0 or not exchange.server, "overlapped exchanges need an all-reduce: set "
           "exchange to ring, halving_doubling or all_gather",
           "strategy.overlap_steps")  # fmt: skip
    _needs(ahead <= steps_between(resolved), f"{ahead:g} is above the "
           f"{steps_between(resolved):g} steps between two exchanges",
           "strategy.overlap_steps")  # fmt: skip
    backup, size = setting(resolved, "backup", 0), len(resolved.workers)
    _needs(backup < size or not barrier, f"{backup} leaves nobody of {size} workers (allowed: 0 to "
           f"{size - 1})", "strategy.backup")  # fmt: skip
    _needs(steps_between(resolved) >= 1, f"{fragments(resolved)} is above the "
           f"{resolved.strategy.static.get('local_steps', 1)} local steps",
           "strategy.fragments")  # fmt: skip
    _check_learning(resolved, ahead)
    _needs(not blocks(resolved) or setting(resolved, "max_staleness", None) is not None,
           "on_stale = 'block' needs a bound", "strategy.max_staleness")  # fmt: skip


def _check_learning(resolved: Resolved, ahead: float) -> None:
    """Refuse what can be timed but not learned, and exchanges that a strategy cannot do with."""
    strategy, exchange = resolved.strategy, resolved.exchange.kind
    learns, usual = not resolved.timing_only, STRATEGIES[strategy.kind].exchange
    own, parts = keeps_own(resolved), fragments(resolved)
    _needs(own not in ("gossip", "regions") or exchange == usual, f"{strategy.kind!r} goes with "
           f"{usual!r}, not {exchange!r}", "exchange")  # fmt: skip
    _needs(not learns or exchange != "gossip" or own == "gossip", "models differ from worker to "
           "worker in gossip: use strategy gossip_sgd, or set timing_only = true",
           "exchange")  # fmt: skip
    if own == "gossip" and learns:
        _needs(COMPRESSORS[resolved.compressor.kind].sums, "whole models are sent in gossip; "
               f"{resolved.compressor.kind!r} would destroy them (allowed: none, fp16, bf16)",
               "compressor")  # fmt: skip
        _needs(resolved.aggregator.kind == "mean" and resolved.pre_aggregator is None,
               "pairs average; there is nothing for another aggregator to see",
               "aggregator")  # fmt: skip
        _needs(ahead == 0, "gossip has nothing to hide behind yet", "strategy.overlap_steps")
    local = "local_steps" in strategy.static
    _needs(not learns or local or ahead == 0, "a gradient step cannot hide its own exchange; use "
           "a strategy with local steps, or set timing_only = true",
           "strategy.overlap_steps")  # fmt: skip
    _needs(not learns or parts == 1 or strategy.static["local_steps"] % parts == 0,
           f"{parts} parts do not divide the {strategy.static.get('local_steps')} local steps",
           "strategy.fragments")  # fmt: skip
    _needs(not learns or ahead == round(ahead), f"{ahead:g} is no whole number of steps; set "
           "timing_only = true", "strategy.overlap_steps")  # fmt: skip
    _needs(not (resolved.warmup and is_shared(resolved)), "updates of different sizes do not share "
           "the coordinator's link yet; leave ingress_bps and egress_bps out",
           "compressor.warmup")  # fmt: skip
    _needs(resolved.downlink is None or exchange == "star", "only a server merges updates before "
           "it sends them on: use exchange star", "downlink")  # fmt: skip
    _needs(resolved.downlink is None or own not in ("gossip", "regions"), "there is no one server "
           f"to send a merged update under {strategy.kind!r}", "downlink")  # fmt: skip


def links(resolved: Resolved) -> dict[str, list[float]]:
    """Return the links that replace the workers' own, where updates go from peer to peer."""
    if not resolved.peers:
        return {}
    delays, rates = zip(*resolved.peers, strict=True)
    return {"delay_s": list(delays), "up_bps": list(rates), "down_bps": list(rates)}


def traits(resolved: Resolved) -> dict[str, Any]:
    """Return what the plan must know."""
    return {
        "exchange": resolved.exchange.kind,
        "early": closes_early(resolved),
        "shared": is_shared(resolved),
        "blocking": blocks(resolved),
        "merged": resolved.downlink is not None,
        "stages": STAGES + 1 if resolved.warmup else 1,
    }


def round_knobs(resolved: Resolved, plan: WorldPlan) -> dict[str, Any]:
    """Return the numbers of the plan's traits."""
    found: dict[str, Any] = {"overlap_steps": _f32(setting(resolved, "overlap_steps", 0.0))}
    if plan.early:
        own = {name: setting(resolved, name, usual) for name, usual in CLOSING.items()}
        backup = np.asarray(own.pop("backup"), np.int32)
        found["closing"] = ClosingKnobs(backup=backup, **{n: _f32(v) for n, v in own.items()})  # type: ignore[arg-type]
    if plan.shared:
        found["server"] = ServerKnobs(*map(_f32, _server(resolved)))
    if plan.exchange == "hierarchical":
        knobs, outer_every = resolved.exchange.knobs, setting(resolved, "outer_every", 1)
        found["site"] = SiteKnobs(
            region_codes(resolved, plan.workers),  # type: ignore[arg-type]
            _f32(knobs["region_bps"]), _f32(knobs["region_delay_s"]),
            np.asarray(outer_every, np.int32),  # type: ignore[arg-type]
        )  # fmt: skip
    return found
