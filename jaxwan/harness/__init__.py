"""The classic API of the test suite: the same names and arguments, thin over `jaxwan.simulate`.

`python -m jaxwan.harness` runs the example experiments and analyzes them.
"""

from __future__ import annotations

from jaxwan.harness.analyzer import ResultsAnalyzer
from jaxwan.harness.names import (
    Challenge,
    Scenario,
    get_challenge,
    get_scenario,
    recommended_settings,
)
from jaxwan.harness.results import ExperimentResult, Metrics
from jaxwan.harness.runner import SimulationTestHarness
from jaxwan.harness.store import ResultsStore

__all__ = [
    "SimulationTestHarness",
    "ExperimentResult",
    "Metrics",
    "ResultsStore",
    "ResultsAnalyzer",
    "Scenario",
    "Challenge",
    "get_scenario",
    "get_challenge",
    "recommended_settings",
]
