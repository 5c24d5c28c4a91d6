"""Where the spread comes from: sources that alone vary make all of it, others nothing."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import jaxwan as jw
from jaxwan.cli import app
from jaxwan.commands.variance import cause
from jaxwan.decide.variance import SOURCES, records, spread

QUIET = {"scenario": "simple", "challenge": "baseline", "strategy": "sync", "steps": 10,
         "compressor": "none", "timing_only": True}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("stragglers", {"link": {"jitter_s": 0.0}}),
        ("links", {"compute": {"sigma": 0.0}, "link": {"jitter_s": 0.2}}),
    ],
)
def test_a_source_that_alone_varies_makes_all_of_the_spread(source, fields):
    found = spread(jw.Experiment(**QUIET | fields), "time_s", seeds=64)
    shares = found.shares.total
    for name, mean, low, high in zip(SOURCES, *shares[:3], strict=True):
        if name == source:
            assert low < 1.0 < high
        else:
            assert mean == 0.0
    assert records(found)[0]["source"] == source
    assert found.runs == 6 * 64


def test_where_nothing_varies_no_share_is_made_up():
    still = {"compute": {"sigma": 0.0}, "link": {"jitter_s": 0.0}}
    found = spread(jw.Experiment(**QUIET | still), "time_s", seeds=32)
    assert found.deviation == 0.0
    assert all(record["total"] is None for record in records(found))
    assert np.isnan(found.shares.total.mean).all()


def test_the_command_tells_the_largest_source_first():
    options = ["--timing-only", "--challenge", "baseline", "--seeds", "32", "--steps", "10"]
    done = CliRunner().invoke(app, ["variance", *options, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["sources"][0]["source"] == "stragglers"
    text = CliRunner().invoke(app, ["variance", *options]).output
    assert re.match(r"time_s is [\d.]+ m?s on average, ± [\d.]+ [mµ]?s from run to run; ", text)


@pytest.mark.parametrize(
    ("low", "said"),
    [(0.51, "failures make most of that"), (0.225, "failures make at least 22 % of that"),
     (-0.1, "the seeds are too few"), (None, "the seeds are too few")],
)  # fmt: skip
def test_no_more_is_said_of_a_source_than_its_interval_does(low, said):
    record = {"source": "failures", "total": 0.7, "total_lo": low, "total_hi": 1.2}
    assert cause(record).startswith(said)
    assert cause(record | {"total": None}) == "nothing varies"


@pytest.mark.parametrize(
    ("seeds", "metric", "text"),
    [(8, "time_s", "seeds: expected at least 32"), (32, "time", "did you mean 'time_s'")],
)
def test_bad_input_is_refused(seeds, metric, text):
    with pytest.raises(jw.InputError, match=text):
        spread(jw.Experiment(**QUIET), metric, seeds)
