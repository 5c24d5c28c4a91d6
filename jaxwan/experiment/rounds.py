"""How the workers of a run come together: what fits what, and the numbers the world needs."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

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
    alone = fragments(resolved) == 1 and ahead == 0
    _needs(alone or resolved.timing_only, "fragments and overlapped steps are simulated in time "
           "only so far; set timing_only = true", "strategy")  # fmt: skip
    _needs(not exchange.timed or resolved.timing_only, f"{kind!r} is simulated in time only so "
           "far; set timing_only = true", "exchange")  # fmt: skip
    _needs(not blocks(resolved) or setting(resolved, "max_staleness", None) is not None,
           "on_stale = 'block' needs a bound", "strategy.max_staleness")  # fmt: skip


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
        names = [worker.region for worker in resolved.workers]
        codes = [zlib.crc32(name.encode()) for name in names] + [0] * (plan.workers - len(names))
        knobs = resolved.exchange.knobs
        found["site"] = SiteKnobs(np.asarray(codes, np.uint32).astype(np.int32),  # type: ignore[arg-type]
                                  _f32(knobs["region_bps"]), _f32(knobs["region_delay_s"]))
    return found
