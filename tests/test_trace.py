"""One run's timeline: its spans agree with the world's ticks and totals, and are written whole."""

import json
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import jaxwan as jw
from jaxwan import cli, engine
from jaxwan.analysis.gantt import FILL, PALE, Window, gantt, usual_window
from jaxwan.analysis.perfetto import trace_events, write_trace
from jaxwan.analysis.spans import COLUMNS, KINDS, Interval, noted, paint, span_frame, tally
from jaxwan.core import clock
from jaxwan.experiment.lower import group
from jaxwan.experiment.resolve import resolve
from jaxwan.timeline import cycles_of, frame_of, seconds, watch

SEED = 3
TICK_S = 1 / clock.FRACTION
SYNC = {
    "challenge": "unreliable", "aggregator": "mean", "steps": 30,
    "strategy": {"kind": "sync", "quorum": 0.75},
}  # fmt: skip
RUNS = {
    "sync": SYNC,
    "calm": SYNC | {"failures": {"transient": {"p": 0.0}, "slowdown": {"p": 0.0}}},
    "ring": SYNC | {"strategy": "sync", "exchange": "ring", "compressor": "none"},
    "blocking": SYNC | {
        "challenge": "extreme",
        "strategy": {"kind": "async", "max_staleness": 1, "on_stale": "block"},
    },
    "async": SYNC | {
        "buffer": 3,
        "strategy": {"kind": "async", "max_staleness": 1},
        "exchange": {"kind": "star", "ingress_bps": 2e6},
        "failures": {
            "churn": {"mtbf_s": 5.0, "duration_s": 1.0},
            "partition": {"mtbf_s": 3.0, "duration_s": 1.0, "share": 0.5},
        },
    },
}  # fmt: skip


class Case:
    """One watched run beside its frame and the same run as nobody watched it."""

    def __init__(self, settings):
        experiment = jw.Experiment(scenario="simple", **settings)
        self.watched = watch(experiment, SEED)
        self.frame = frame_of(self.watched)
        self.outcome = self.watched.outcome
        self.workers = self.frame[self.frame["kind"] != "update"]
        self.end_s = float(seconds(self.outcome.now))

    def length(self, kind):
        own = self.workers[self.workers["kind"] == kind]
        return own["end_s"] - own["start_s"]


@pytest.fixture(scope="module")
def cases():
    return {name: Case(settings) for name, settings in RUNS.items()}


@pytest.fixture(params=RUNS)
def case(request, cases):
    return cases[request.param]


def test_spans_of_a_worker_leave_no_gap_and_never_overlap(case):
    assert tuple(case.frame) == COLUMNS
    assert list(case.workers["worker"].unique()) == list(case.watched.names)
    assert set(case.workers["kind"]) <= set(KINDS)
    for _, own in case.workers.groupby("worker"):
        starts, ends = own["start_s"].to_numpy(), own["end_s"].to_numpy()
        assert starts[0] == 0
        assert ends[-1] == case.end_s
        assert (starts[1:] == ends[:-1]).all()
        assert (ends > starts).all()


def test_every_accepted_contribution_was_computed_once_before_it_arrived(case):
    tick, now = case.watched.moments.tick, seconds(case.watched.moments.now)
    computed = case.workers[case.workers["kind"] == "compute"]
    spans = computed.groupby(["worker", "cycle"])
    ends, counts = spans["end_s"].max(), spans.size()
    accepted = 0
    for place, slot in zip(*np.nonzero(tick.weight > 0), strict=True):
        key = case.watched.names[tick.worker[place, slot]], tick.cycle[place, slot]
        assert counts[key] == 1
        assert ends[key] < now[place]
        accepted += 1
    assert accepted == case.outcome.totals.accepted > 0


def test_the_spans_compute_as_long_as_the_world_says(case):
    cycles = sum(map(len, cycles_of(case.watched)))
    busy_s = float(seconds(case.outcome.totals.busy))
    assert case.length("compute").sum() == pytest.approx(busy_s, abs=2 * TICK_S * cycles)


def test_outages_last_and_count_as_the_world_says(case):
    for worker, name in enumerate(case.watched.names):
        own = case.workers[(case.workers["worker"] == name) & (case.workers["kind"] == "outage")]
        down_s = (own["end_s"] - own["start_s"]).sum()
        assert down_s == pytest.approx(case.end_s - seconds(case.outcome.up)[worker], abs=TICK_S)
    darkness = (case.workers["kind"] == "outage").any()
    assert darkness == (case.outcome.failures[:, :-1].sum() > 0)


def test_outages_of_one_kind_are_as_many_as_the_failures(cases):
    case = cases["sync"]
    own = case.workers[case.workers["kind"] == "outage"]
    begun = own.groupby("worker").size().reindex(case.watched.names, fill_value=0)
    assert set(own["note"]) == {"transient"}
    assert (begun.to_numpy() == case.outcome.failures.sum(axis=1) - slowdowns(case)).all()


def slowdowns(case):
    return case.outcome.failures[:, -1]


def test_lost_and_rejected_cycles_are_as_many_as_the_world_counts(case):
    told, totals = tally(case.frame), case.outcome.totals
    assert sum(record["lost"] for record in told) == totals.lost
    assert sum(record["rejected"] + record["cancelled"] for record in told) == totals.rejected


def test_the_runs_have_what_the_tests_look_for(cases):
    assert cases["sync"].outcome.totals.lost > 0
    assert cases["async"].outcome.totals.rejected > 0
    assert cases["async"].outcome.totals.lost > 0
    assert len(cases["async"].length("partition")) > 0
    assert (cases["async"].workers["note"] == "churn").any()
    assert not all(cases["blocking"].workers.groupby("worker")["kind"].first() == "download")
    assert noted(cases["sync"].workers["note"], "slowed").any()
    assert noted(cases["sync"].workers["note"], "cancelled").any()
    assert len(cases["blocking"].length("wait")) > 0


def test_under_a_barrier_whoever_is_done_waits_for_the_close(cases):
    for case in (cases["sync"], cases["calm"]):
        closes = seconds(case.watched.moments.now)
        assert (case.length("wait") > 0).any()
        for _, own in case.workers.groupby("worker"):
            following = own["kind"].shift(-1)
            ends = own.loc[(own["kind"] == "wait") & (following != "outage"), "end_s"]
            assert np.isin(ends, closes).all()


def test_a_cycle_is_slowed_if_it_begins_in_an_episode(case):
    spells = case.watched.spells
    episode = spells.process == len(case.watched.processes) - 1
    starts, ends = seconds(spells.start), seconds(spells.end)
    for worker, cycles in enumerate(cycles_of(case.watched)):
        for cycle in cycles:
            inside = (starts[worker] <= cycle.begin_s) & (cycle.begin_s < ends[worker])
            assert cycle.slowed == (inside & episode[worker]).any()


def test_an_all_reduce_begins_for_all_when_the_last_is_ready(cases):
    spans = cases["ring"].workers
    assert "upload" not in set(spans["kind"])
    begun = spans[(spans["kind"] == "exchange") & (spans["note"] == "")]
    computed = spans[(spans["kind"] == "compute") & ~noted(spans["note"], "lost")]
    closes = seconds(cases["ring"].watched.moments.now)
    rounds = begun.groupby(np.searchsorted(closes, begun["end_s"]))["start_s"].agg(["min", "count"])
    together = rounds[rounds["count"] == len(cases["ring"].watched.names)]
    assert len(together)
    for number, first in together["min"].items():
        inside = computed[computed["end_s"] <= closes[number]]
        assert first >= inside["end_s"].max()


def test_nobody_waits_without_a_barrier(cases):
    assert len(cases["async"].length("wait")) == 0


def test_transfers_last_as_long_as_the_world_says(cases):
    calm = cases["calm"]
    accepted = calm.workers["note"] == ""
    moved = calm.workers[accepted & calm.workers["kind"].isin(("download", "upload"))]
    moved_s, cycles = (moved["end_s"] - moved["start_s"]).sum(), len(moved) / 2
    expected_s = float(seconds(calm.outcome.totals.transfer))
    assert moved_s == pytest.approx(expected_s, abs=4 * TICK_S * cycles)


def test_updates_travel_as_long_as_the_world_says(case):
    ways = [own.end_s - own.sends_s for cycles in cycles_of(case.watched) for own in cycles
            if own.fate in ("", "rejected")]  # fmt: skip
    latency_s = float(seconds(case.outcome.totals.latency))
    assert sum(ways) == pytest.approx(latency_s, abs=4 * TICK_S * len(ways))


def test_updates_are_the_versions(case):
    updates = case.frame[case.frame["kind"] == "update"]
    assert list(updates["cycle"]) == list(range(1, int(case.outcome.version) + 1))
    assert updates["start_s"].is_monotonic_increasing
    contributions = updates["note"].str.split().str[0].astype(int)
    assert contributions.sum() == case.outcome.totals.accepted


def test_a_run_is_watched_to_its_last_cycle(cases):
    totals = cases["async"].outcome.totals
    assert totals.accepted + totals.rejected + totals.lost == 4 * SYNC["steps"]


def test_watching_changes_nothing(cases):
    experiment = jw.Experiment(scenario="simple", timing_only=True, **RUNS["blocking"])
    (own,) = group([resolve(experiment)])
    alone = engine.world_ends(own.world, own.world_knobs, [SEED])
    same = jax.tree.map(lambda a, b: np.array_equal(a, b[0]), cases["blocking"].outcome, alone)
    assert all(jax.tree.leaves(same))


def test_bytes_are_those_of_the_messages(cases):
    spans = cases["calm"].workers
    up = spans.loc[spans["kind"] == "upload", "bytes"].dropna()
    down = spans.loc[(spans["kind"] == "download") & (spans["cycle"] == 0), "bytes"].dropna()
    assert up.nunique() == 1
    assert down.nunique() == 1
    assert 0 < up.iloc[0] < down.iloc[0]


FEW = span_frame(
    {
        "near": [
            Interval("download", 0.0, 0.250123, 0, "", 0, 100),
            Interval("compute", 0.250123, 1.0, 0, "slowed", 0),
            Interval("upload", 1.0, 1.5, 0, "", 0, 50),
            Interval("wait", 1.5, 2.0, 0),
        ],
        "far": [
            Interval("compute", 0.0, 1.0, 0, "lost"),
            Interval("outage", 1.0, 2.0, note="crash, for good"),
        ],
    },
    [Interval("update", 2.0, 2.0, 1, "1 contributions")],
)


def test_later_layers_cover_earlier_ones():
    long, short = Interval("wait", 0.0, 3.0, 7), Interval("compute", 1.0, 2.0, 7)
    shown = paint([[long], [short], [Interval("outage", 1.5, 9.0)]], 4.0)
    assert [(own.kind, own.start_s, own.end_s, own.cycle) for own in shown] == [
        ("wait", 0.0, 1.0, 7), ("compute", 1.0, 1.5, 7), ("outage", 1.5, 4.0, -1),
    ]  # fmt: skip
    assert paint([], 0.0) == []


def test_the_trace_file_is_what_perfetto_reads(tmp_path):
    events = json.loads(write_trace(FEW, tmp_path / "t.json", "run").read_text())["traceEvents"]
    named = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert named == {0: "server updates", 1: "near", 2: "far"}
    spans = [event for event in events if event["ph"] == "X"]
    assert [(e["tid"], e["name"], e["ts"], e["dur"]) for e in spans] == [
        (1, "download", 0, 250_123), (1, "compute", 250_123, 749_877),
        (1, "upload", 1_000_000, 500_000), (1, "wait", 1_500_000, 500_000),
        (2, "compute (lost)", 0, 1_000_000), (2, "outage", 1_000_000, 1_000_000),
    ]  # fmt: skip
    assert spans[0]["args"] == {"cycle": 0, "staleness": 0, "bytes": 100}
    (update,) = [event for event in events if event["ph"] == "i"]
    assert (update["ts"], update["s"], update["args"]["version"]) == (2_000_000, "t", 1)
    assert {event["pid"] for event in events} == {1}


def test_rounding_to_microseconds_makes_no_overlap(case):
    events = pd.DataFrame([e for e in trace_events(case.frame) if e["ph"] == "X"])
    for _, own in events.groupby("tid"):
        assert ((own["ts"] + own["dur"]).iloc[:-1].to_numpy() == own["ts"].iloc[1:]).all()


def colours(picture):
    """Count the pixels of each colour, as web colours."""
    pixels = np.round(imread(picture)[..., :3] * 255).astype(int).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {f"#{r:02x}{g:02x}{b:02x}": n for (r, g, b), n in zip(found, counts, strict=True)}


def test_the_picture_holds_what_is_in_its_window(tmp_path):
    whole = colours(gantt(FEW, tmp_path / "t.png", Window(0.0, 2.0), "run"))
    part = colours(gantt(FEW, tmp_path / "t.png", Window(0.0, 0.9)))
    for name in ("upload", "wait", "outage"):
        assert whole[FILL[name]] > 1000
        assert part.get(FILL[name], 0) < 100
    assert whole[PALE["compute"]] == pytest.approx(2 * whole[FILL["upload"]], rel=0.1)


def test_a_picture_of_nothing_is_refused(tmp_path):
    for window in (Window(2.0, 3.0), Window(1.0, 1.0), Window(-1.0, 1.0)):
        with pytest.raises(ValueError, match="no time between"):
            gantt(FEW, tmp_path / "no.png", window)
    assert not (tmp_path / "no.png").exists()
    with pytest.raises(ValueError, match="no frame of spans: cycle missing"):
        gantt(FEW.drop(columns="cycle"), tmp_path / "no.png")


def test_the_usual_window_shows_some_cycles_and_the_first_trouble(cases):
    calm = usual_window(cases["calm"].frame)
    assert calm.start_s == 0
    rows = [Interval("compute", float(i), float(i + 1), i, "lost" if i == 60 else "")
            for i in range(100)]  # fmt: skip
    late = usual_window(span_frame({"one": rows}))
    assert late == Window(58.0, 72.0)
    assert usual_window(FEW) == Window(0.0, 2.0)


WORDS = ("--challenge", "unreliable", "--strategy", "sync:quorum=0.75", "--aggregator", "mean",
         "--steps", 30)  # fmt: skip


def call(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["jaxwan", "trace", *map(str, words)])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def test_the_command_writes_both_files(monkeypatch, capsys, tmp_path):
    words = (*WORDS, "--seed", SEED, "--to", 5, "--out", tmp_path, "--json")
    code, out, _ = call(monkeypatch, capsys, *words)
    facts = json.loads(out)
    assert code == 0
    assert facts["window_s"] == [0, 5]
    assert len(facts["workers"]) == 4
    for record in facts["workers"]:
        spent = sum(record[f"{kind}_s"] for kind in KINDS)
        assert spent == pytest.approx(facts["end_s"])
    assert (tmp_path / "trace.png").stat().st_size > 1000
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--challenge", "heterogenous"), "did you mean 'heterogeneous'"),
        (("--strategy", "sinc"), "did you mean 'sync'"),
        (("--from", "-1"), "--from: -1 is not a second of the run"),
        (("--from", "5", "--to", "5"), "--to: 5 is not after --from 5"),
        (("--seed", "-1"), "seed: expected a whole number from 0"),
        (("--steps", "1000000"), "steps: "),
        (("--steps", "many"), "--steps"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, capsys, tmp_path, words, told):
    code, out, err = call(monkeypatch, capsys, *words, "--out", tmp_path / "none")
    assert code == 2
    assert told in err
    assert len(err.splitlines()) == 1
    assert not out
    assert not (tmp_path / "none").exists()


def test_a_window_past_the_end_is_refused(monkeypatch, capsys, tmp_path):
    code, _, err = call(monkeypatch, capsys, *WORDS, "--from", "1e9", "--out", tmp_path / "none")
    assert code == 2
    assert "--from: 1e+09 is past the end of the run" in err
