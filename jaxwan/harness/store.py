"""Classic results on disk: JSON holds everything, CSV one line per experiment."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from jaxwan.harness.results import METRICS, ExperimentResult


class ResultsStore:
    """Save results as JSON (everything) or CSV (one line per experiment), and load them."""

    def __init__(self, directory: str | os.PathLike[str] = ".") -> None:
        """Keep files in a directory; absolute names stay what they are."""
        self.directory = Path(directory)

    def save_batch_results(
        self, results: Sequence[ExperimentResult], name: str | os.PathLike[str]
    ) -> Path:
        """Write results with every run of theirs as JSON."""
        document = {"experiments": [result.to_dict() for result in results]}
        return self._write(name, json.dumps(document, indent=1, allow_nan=False) + "\n")

    def load_batch_results(self, name: str | os.PathLike[str]) -> list[ExperimentResult]:
        """Read results that `save_batch_results` wrote.

        Raises:
            ValueError: for a file that holds something else.
        """
        path = self.directory / name
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return [ExperimentResult.from_dict(each) for each in document["experiments"]]
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} holds no batch results ({error})") from None

    def save_results_csv(
        self, results: Sequence[ExperimentResult], name: str | os.PathLike[str]
    ) -> Path:
        """Write settings, verdict, and means with 95 % bounds, one line per experiment."""
        lines = [_flat(result) for result in results]
        columns = list(dict.fromkeys(name for line in lines for name in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return self._write(name, text.getvalue())

    def load_results_csv(self, name: str | os.PathLike[str]) -> pd.DataFrame:
        """Read a CSV file as a frame, one row per experiment."""
        return pd.read_csv(self.directory / name, keep_default_na=False, na_values=[""])

    def _write(self, name: str | os.PathLike[str], text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


def _flat(result: ExperimentResult) -> dict[str, Any]:
    settings = {k: v for k, v in result.config_snapshot.items() if not isinstance(v, list | dict)}
    verdict = {
        "success_criteria_met": result.success_criteria_met,
        "success_rate": result.success_rate.mean,
        "failure_reasons": "; ".join(result.failure_reasons),
    }
    figures: dict[str, Any] = {}
    for name in METRICS:
        found = result.interval(name)
        figures |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    by_type = {f"failures_{kind}": n for kind, n in result.metrics.failures_by_type.items()}
    values = settings | verdict | figures | by_type
    return {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
