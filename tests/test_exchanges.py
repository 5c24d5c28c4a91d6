"""Exchanges and rules of a round at the front door: what fits, what is refused, what it costs."""

import numpy as np
import pytest

import jaxwan as jw
from jaxwan.api import simulate
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.exchanges import links_of, read_matrix
from jaxwan.experiment.lower import budget, group
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import Sweep

SYNC = dict(scenario="simple", challenge="baseline", strategy="sync", compressor="none",
            aggregator="mean", timing_only=True, steps=20)  # fmt: skip


def experiment(**changes):
    return Experiment(**SYNC | changes)


REFUSED = [
    (dict(exchange="rung"), "did you mean 'ring'"),
    (dict(exchange="ring", strategy="async"), "needs a strategy with rounds"),
    (dict(exchange={"kind": "star", "egress_bps": 1e9}, strategy="async"), "only in rounds"),
    (dict(exchange={"kind": "star", "ingress_bps": 1e9},
          strategy={"kind": "async", "max_staleness": 2, "on_stale": "block"}), "does not go with"),
    (dict(exchange="ring", compressor="topk"), "do not sum"),
    (dict(exchange="hierarchical", compressor="int8"), "do not sum"),
    (dict(exchange="ring", aggregator="median"), "never sees them"),
    (dict(exchange="all_gather", strategy={"kind": "sync", "quorum": 0.5}), "needs everybody"),
    (dict(strategy={"kind": "diloco", "fragments": 4}), "fragments need an all-reduce"),
    (dict(strategy={"kind": "sync", "overlap_steps": 1.0}), "need an all-reduce"),
    (dict(exchange="ring", strategy={"kind": "diloco", "local_steps": 8, "fragments": 4,
                                     "overlap_steps": 3.0}), "above the 2 steps"),
    (dict(exchange="ring", strategy={"kind": "diloco", "fragments": 4}, timing_only=False),
     "do not divide the 50 local steps"),
    (dict(exchange="gossip", timing_only=False), "use strategy gossip_sgd"),
    (dict(exchange="ring", strategy={"kind": "sync", "overlap_steps": 1.0}, timing_only=False),
     "cannot hide its own exchange"),
    (dict(exchange="ring", strategy="gossip_sgd"), "goes with 'gossip'"),
    (dict(strategy="gossip_sgd", compressor="topk", timing_only=False), "would destroy them"),
    (dict(strategy="gossip_sgd", aggregator="median", timing_only=False), "pairs average"),
    (dict(exchange="ring", downlink="int8"), "use exchange star"),
    (dict(strategy={"kind": "async", "on_stale": "block"}), "needs a bound"),
    (dict(strategy={"kind": "async", "on_stale": "blok"}), "did you mean 'block'"),
    (dict(strategy={"kind": "async_local_sgd", "on_stale": "block"}), "needs a bound"),
    (dict(strategy={"kind": "sync", "quorum": 0.0}), "(0, 1]"),
    (dict(strategy={"kind": "sync", "backup": -1}), "backup"),
    (dict(strategy={"kind": "sync", "backup": 4}), "allowed: 0 to 3"),
    (dict(strategy={"kind": "sync", "quorum": 0.5}, workers=7,
          aggregator={"kind": "krum", "f": 2}), "needs at least 7"),
    (dict(exchange="ring", strategy={"kind": "diloco", "local_steps": 4, "fragments": 5}),
     "above the 4 local steps"),
    (dict(exchange={"kind": "star", "egress_bps": -1}), "egress_bps"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_what_does_not_fit_is_refused_before_anything_compiles(changes, told):
    with pytest.raises(InputError, match=r".") as refused:
        resolve(experiment(**changes))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


HEADER = "region_a,region_b,rtt_s,bandwidth_bps\n"
WRONG = [
    ("", "header"), ("a,b\n", "header"), (HEADER, "no pairs"),
    (HEADER + "a,b,-0.1,1e9\n", "line 2: -0.1 is not allowed"),
    (HEADER + "a,b,0.1,0\n", "line 2: 0.0 is not allowed"),
    (HEADER + "a,b,x,1e9\n", "expected a number"), (HEADER + "a,b,nan,1e9\n", "not allowed"),
    (HEADER + "a,a,0.1,1e9\n", "two different regions"),
    (HEADER + "a,b,0.1\n", "number of cells"),
    (HEADER + "a,b,0.1,1e9\nb,a,0.2,1e9\n", "line 3: a and b have two different links"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_a_wrong_matrix_is_refused_with_its_line(tmp_path, text, told):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError) as refused:
        resolve(experiment(exchange={"kind": "ring", "matrix": str(tmp_path / "m.csv")}))
    assert told in str(refused.value)
    assert "exchange.matrix" in str(refused.value)
    assert "m.csv" in str(refused.value)


FLEET = "".join(
    f'[[worker]]\nname = "{name}"\nregion = "{name}"\nnetwork = "fast_wan"\n' for name in "abc"
)


@pytest.fixture
def regions(tmp_path):
    """Write three regions and their matrix; return an experiment's fields."""
    (tmp_path / "fleet.toml").write_text(FLEET)
    pairs = "a,b,0.02,1e8\nb,c,0.04,2e8\na,c,0.2,1e7\n"
    (tmp_path / "m.csv").write_text(HEADER + pairs)
    return dict(challenge=str(tmp_path / "fleet.toml")), str(tmp_path / "m.csv")


def test_a_ring_takes_the_links_to_its_neighbours(regions):
    fleet, matrix = regions
    ring = resolve(experiment(exchange={"kind": "ring", "matrix": matrix}, **fleet))
    assert ring.peers == ((0.01, 1e8), (0.02, 2e8), (0.1, 1e7))
    everybody = resolve(experiment(exchange={"kind": "all_gather", "matrix": matrix}, **fleet))
    assert everybody.peers == ((0.1, 1e7), (0.02, 1e8), (0.1, 1e7))
    alone = resolve(experiment(exchange={"kind": "ring", "matrix": matrix}, workers=1, **fleet))
    assert len(alone.peers) == 1
    assert read_matrix(matrix)[frozenset("ab")] == (0.01, 1e8)
    assert links_of(ring.exchange, ring.workers) == list(ring.peers)


def test_a_region_that_the_matrix_lacks_is_named(regions, tmp_path):
    _, matrix = regions
    (tmp_path / "other.toml").write_text(FLEET.replace('"c"', '"bb"'))
    with pytest.raises(InputError, match="unknown region 'bb'; did you mean 'b'"):
        resolve(experiment(challenge=str(tmp_path / "other.toml"),
                           exchange={"kind": "ring", "matrix": matrix}))  # fmt: skip


def test_a_matrix_that_knows_none_of_the_regions_or_is_no_text_is_refused(tmp_path):
    file = tmp_path / "m.csv"
    file.write_text(HEADER + "datacentr,b,0.1,1e9\n")
    with pytest.raises(InputError, match="unknown region 'datacenter'; did you mean 'datacentr'"):
        resolve(experiment(exchange={"kind": "ring", "matrix": str(file)}))
    file.write_bytes(b"\xff\xfe\x00region")
    with pytest.raises(InputError, match=r"m\.csv: not a CSV"):
        resolve(experiment(exchange={"kind": "ring", "matrix": str(file)}))


def test_a_matrix_beside_the_sweep_file_is_found(regions, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(
        '# q\nseeds = 2\nsteps = 3\n[grid]\nscenario = "simple"\nchallenge = "fleet.toml"\n'
        'strategy = "sync"\naggregator = "mean"\ncompressor = "none"\n'
        'exchange = ["star", { kind = "ring", matrix = "m.csv" }]\n'
        "[overrides]\ntiming_only = true\n"
    )
    experiments, _ = Sweep.from_toml(file).resolve()
    assert [bool(own.peers) for own in experiments] == [False, True]


@pytest.fixture(scope="module")
def frame():
    """Time two exchanges on four equal links."""
    runs = [
        experiment(exchange=kind, network="fast_wan", compute={"sigma": 0.0},
                   link={"jitter_s": 0.0})
        for kind in ("star", "ring")
    ]  # fmt: skip
    return simulate(runs, seeds=2).frame


def test_an_exchange_sends_what_its_closed_form_says(frame):
    update = 4 * 235_146
    sent = frame[frame["seed"] == 0].set_index("exchange")["bytes_sent"] / (20 * update)
    expected = {"star": 4, "ring": 6}
    for kind, payloads in expected.items():
        assert sent[kind] == pytest.approx(payloads, rel=1e-6)
    assert (frame["accepted"] == 80).all()
    assert np.isfinite(frame["time_s"]).all()
    assert (frame["throughput_ratio"] < 1).all()


def test_traits_decide_the_program_and_numbers_do_not():
    quorums = [experiment(strategy=jw.Sync(quorum=q)) for q in (0.5, 0.75)]
    both = group([resolve(own) for own in (*quorums, experiment())])
    assert len(both) == 2
    for wait in (jw.Async, jw.AsyncLocalSGD):
        blocked = resolve(experiment(strategy=wait(max_staleness=2, on_stale="block")))
        assert budget(blocked).ticks == 2 * budget(blocked).cycle_ends
    streaming = resolve(experiment(
        exchange="ring", strategy=jw.DiLoCo(local_steps=10, fragments=5, overlap_steps=1)
    ))  # fmt: skip
    assert budget(streaming).ticks == 10
    (own,) = group([streaming])
    assert np.all(own.world_knobs.local_steps == 2)
    assert own.world_knobs.update_bits == pytest.approx(32 * 235_146 / 5, abs=1)
