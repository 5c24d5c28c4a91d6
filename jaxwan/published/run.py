"""Run the sweeps of published claims, and say what became of each claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from jaxwan.experiment.errors import InputError, unknown_name
from jaxwan.published.claim import Claim, Finding
from jaxwan.published.registry import claims

REPRODUCED, PARTLY, FAILED = "reproduced", "in part", "not reproduced"


class Judged(NamedTuple):
    """A claim and what our runs say about it."""

    claim: Claim
    question: str
    runs: int
    findings: list[Finding]

    @property
    def verdict(self) -> str:
        """Say whether every finding holds, or some of them, or none."""
        holds = [finding.holds for finding in self.findings]
        if any(holds):
            return REPRODUCED if all(holds) else PARTLY
        return FAILED


def chosen(keys: list[str] | None) -> list[Claim]:
    """Return the claims with these keys, all of them unless told.

    Raises:
        InputError: for an unknown key.
    """
    known = claims()
    for key in keys or ():
        if key not in known:
            raise unknown_name("claim", key, known)
    return [claim for key, claim in known.items() if not keys or key in keys]


def judged(claim: Claim, sweeps: Path, out: Path, progress: bool = False) -> Judged:
    """Run the sweep of a claim in a folder below `out`, as far as it is not there, and judge it.

    Raises:
        InputError: where there is no such sweep, or the folder holds another one.
    """
    from jaxwan import api

    file = sweeps / f"{claim.sweep}.toml"
    if not file.is_file():
        raise InputError(f"no sweep {file}; name the folder that holds the published sweeps")
    results = api.run(file, out=out / claim.sweep, progress=progress)
    return Judged(claim, results.question, len(results), claim.judge(results))


def records(found: list[Judged]) -> list[dict[str, Any]]:
    """Return what was found as plain records, one a claim; what is not finite is None."""
    told = []
    for each in found:
        facts = {name: getattr(each.claim, name) for name in ("key", "claim", "source", "sweep")}
        findings = [_finding(finding) for finding in each.findings]
        told.append(facts | {"runs": each.runs, "verdict": each.verdict, "findings": findings})
    return told


def _finding(finding: Finding) -> dict[str, Any]:
    facts = {name: _plain(value) for name, value in finding._asdict().items()}
    return facts | {"holds": bool(finding.holds)}


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    number = float(value)
    return number if abs(number) < float("inf") else None
