"""jaxwan: a vectorized JAX Monte-Carlo simulator of distributed training over wide-area networks.

Names are loaded on first use, so that `import jaxwan` (and `import jaxwan.analysis`) is quick and
does not start JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "simulate": "jaxwan.api",
    "run": "jaxwan.api",
    "run_until": "jaxwan.adaptive",
    "best": "jaxwan.analysis.best",
    "recommend": "jaxwan.decide.recommend",
    "calibrate": "jaxwan.decide.calibrate",
    "Link": "jaxwan.transfers",
    "transfer_time": "jaxwan.transfers",
    "trace": "jaxwan.timeline",
    "Experiment": "jaxwan.experiment.spec",
    "chain": "jaxwan.experiment.constructors",
    "Sweep": "jaxwan.experiment.sweepfile",
    "InputError": "jaxwan.experiment.errors",
    "Results": "jaxwan.results",
    "compress": "jaxwan.oneshot",
    "aggregate": "jaxwan.oneshot",
    "attack": "jaxwan.oneshot",
    "COMPRESSORS": "jaxwan.learning.compressors",
    "AGGREGATORS": "jaxwan.learning.aggregators",
    "PRE_AGGREGATORS": "jaxwan.learning.aggregators",
    "ATTACKS": "jaxwan.learning.attacks",
    "PROBLEMS": "jaxwan.learning.problems",
    "STRATEGIES": "jaxwan.experiment.strategies",
    "SimulationTestHarness": "jaxwan.harness",
    "ResultsStore": "jaxwan.harness",
    "ResultsAnalyzer": "jaxwan.harness",
    "get_scenario": "jaxwan.harness",
    "get_challenge": "jaxwan.harness",
    "recommended_settings": "jaxwan.harness",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name[:1].isupper():
        constructors = importlib.import_module("jaxwan.experiment.constructors")
        if name in constructors.CONSTRUCTORS:
            return constructors.CONSTRUCTORS[name]
    raise AttributeError(f"module 'jaxwan' has no attribute {name!r}")


def __dir__() -> list[str]:
    constructors = importlib.import_module("jaxwan.experiment.constructors")
    return sorted([*_HOME, *constructors.CONSTRUCTORS, "__version__"])
