"""Other luck for one source of randomness changes that source and nothing else."""

import numpy as np
import pytest

import jaxwan as jw
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.resolve import resolve

OTHER = 2**20


@pytest.fixture(scope="module")
def rows():
    """Return the rows of one experiment under its own luck, and under other luck of each source."""
    base = {"scenario": "simple", "challenge": "unreliable", "strategy": "sync", "steps": 12,
            "compressor": "randk", "link": {"transport": "cubic"}}  # fmt: skip
    lucks = [{}, *({source: OTHER} for source in ("failures", "links", "stragglers", "data"))]
    lucks.append(dict.fromkeys(("failures", "links", "stragglers", "data"), OTHER))
    runs = [jw.Experiment(**base, luck=luck) for luck in lucks]
    frame = jw.simulate(runs, seeds=[3, 4, 5]).frame
    own = jw.simulate(runs[0], seeds=[3 + OTHER, 4 + OTHER, 5 + OTHER]).frame
    names = ("own", "failures", "links", "stragglers", "data", "all")
    tables = dict(zip(names, (part for _, part in frame.groupby("config_index")), strict=True))
    return tables | {"other seeds": own}


def differs(rows, name, column):
    return bool((rows["own"][column].to_numpy() != rows[name][column].to_numpy()).any())


def test_failures_follow_their_own_luck(rows):
    assert differs(rows, "failures", "failures")
    assert not differs(rows, "data", "failures")


def test_data_leave_the_clock_alone(rows):
    assert differs(rows, "data", "loss_final")
    assert not differs(rows, "data", "time_s")


@pytest.mark.parametrize("source", ["failures", "links", "stragglers"])
def test_every_source_of_the_world_moves_the_clock(rows, source):
    assert differs(rows, source, "time_s")


def test_other_luck_for_all_is_another_seed(rows):
    for column in ("time_s", "failures", "bytes_sent"):
        assert np.array_equal(rows["all"][column], rows["other seeds"][column])
    assert np.allclose(rows["all"]["loss_final"], rows["other seeds"]["loss_final"], rtol=1e-5)


def test_own_luck_leaves_the_name_of_a_configuration():
    plain, same, other = (
        config_id(resolve(jw.Experiment(scenario="simple", **fields)))
        for fields in ({}, {"luck": {"links": 0}}, {"luck": {"links": 1}})
    )
    assert plain == same != other


def test_bad_luck_is_refused():
    with pytest.raises(jw.InputError, match=r"luck.links: .*-1"):
        jw.Experiment(scenario="simple", luck={"links": -1})
