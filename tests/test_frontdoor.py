"""The front door: the catalog says what its sources say, lists fan out, wrong input is refused."""

import math

import numpy as np
import pytest

from jaxwan.experiment import constructors as jw
from jaxwan.experiment.catalog import challenges, load_challenge, networks, scenarios
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.jsonschema import json_schema
from jaxwan.experiment.resolve import resolve, resolve_and_warn
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.learning.compressors import COMPRESSORS

NETWORKS = {  # bandwidth, one-way delay, loss, jitter
    "datacenter": (10e9, 1e-4, 0, 1e-5),
    "lan": (1e9, 1e-3, 0, 1e-4),
    "fast_wan": (100e6, 0.05, 0.001, 0.005),
    "typical_wan": (50e6, 0.1, 0.01, 0.01),
    "slow_wan": (10e6, 0.2, 0.02, 0.02),
    "edge": (5e6, 0.3, 0.05, 0.03),
    "satellite": (1e6, 0.8, 0.15, 0.1),
}
D, F, T, S, E = (
    NETWORKS[n][0] for n in ("datacenter", "fast_wan", "typical_wan", "slow_wan", "edge")
)
CHALLENGES = {  # difficulty, links and speeds, offline, attackers, criteria, ratio, staleness
    "baseline": (1, [(D, 1)] * 4, [], [], (50, 0, 0.95), None, None),
    "wan_bandwidth": (2, [(T, 1)] * 4, [], [], (100, 0.05, 0.7), 0.01, 3),
    "wan_latency": (3, [(F, 1), (T, 1), (S, 1), (S, 1)], [], [], (150, 0.1, 0.6), 0.05, 5),
    "heterogeneous": (4, [(F, 2), (T, 1), (T, 0.5), (S, 0.2), (E, 0.1)], [], [],
                      (200, 0.15, 0.5), 0.01, 10),
    "unreliable": (5, [(T, 1), (S, 1), (E, 0.8), (E, 0.8)], [], [], (250, 0.2, 0.4), 0.01, 8),
    "churn": (6, [(T, 1), (T, 1), (S, 0.8), (S, 0.8), (E, 0.5), (E, 0.5)], [3, 4, 5], [],
              (300, 0.25, 0.35), 0.01, 10),
    "byzantine": (7, [(T, 1), (T, 1), (S, 0.8), (F, 1.2), (T, 1)], [], [3, 4],
                  (350, 0.3, 0.4), 0.05, 5),
    "extreme": (10, [(F, 2), (F, 1.5), (T, 1), (T, 1), (S, 0.5), (S, 0.5), (E, 0.3), (E, 0.2),
                     (F, 1.8)], [3, 5, 6, 7], [8], (500, 0.4, 0.25), 0.01, 15),
}  # fmt: skip
FAILURES = {  # probability per step or mean session in steps, duration in steps
    "unreliable": {"transient": (0.02, 10), "slowdown": (0.05, 20)},
    "churn": {"transient": (0.01, 15), "churn": (80, 40)},
    "extreme": {"transient": (0.03, 15), "slowdown": (0.05, 25), "churn": (60, 30)},
}
FLEET = """region,speed,up_bps,down_bps,delay_s,loss,jitter_s,online,name
eu,1.0,1e8,2e8,0.05,0.01,0.005,true,alpha
us,0.5,5e7,5e7,0.1,0,0,false,beta
"""


def experiment(**fields):
    return Experiment(**({"scenario": "simple"} | fields))


def sweep(**grid):
    return Sweep(grid={"scenario": "simple"} | grid)


def labels(plan):
    return [found for _, found in plan.expand()]


def test_networks_are_the_published_ones():
    found = {
        name: (link.bandwidth_bps, link.delay_s, link.loss, link.jitter_s)
        for name, link in networks().items()
    }
    assert found == NETWORKS


def test_there_are_eight_challenges_and_the_simple_scenario():
    assert set(challenges()) == {*CHALLENGES, "aws_regions"}
    assert "simple" in scenarios()


@pytest.mark.parametrize("name", CHALLENGES)
def test_challenges_are_the_published_ones(name):
    difficulty, links, offline, attackers, criteria, ratio, staleness = CHALLENGES[name]
    resolved = resolve(experiment(challenge=name))
    assert load_challenge(name).difficulty == difficulty
    assert [(worker.up_bps, worker.speed) for worker in resolved.workers] == links
    assert [i for i, worker in enumerate(resolved.workers) if not worker.online] == offline
    assert [i for i, worker in enumerate(resolved.workers) if worker.attacker] == attackers
    limits = resolved.criteria
    assert (limits.min_steps, limits.max_rejection, limits.min_throughput_ratio) == criteria
    assert resolved.compressor.knobs.get("ratio") == ratio
    assert resolved.strategy.knobs.get("max_staleness") == staleness
    assert resolved.strategy.kind == ("sync" if ratio is None else "async")
    robust = name in ("byzantine", "extreme")
    assert (resolved.aggregator.kind, resolved.buffer) == (("median", 5) if robust else ("mean", 1))
    assert (resolved.attack is not None) == bool(attackers)
    assert resolved.steps == criteria[0]


@pytest.mark.parametrize("name", CHALLENGES)
def test_failures_are_the_published_ones(name):
    failures = resolve(experiment(challenge=name)).failures
    for kind in ("crash", "transient", "churn", "slowdown"):
        stated = FAILURES.get(name, {}).get(kind)
        process = getattr(failures, kind)
        assert (process is None) == (stated is None)
        if stated:
            often, duration = stated
            mean = often if often > 1 else -1 / math.log1p(-often)
            assert (process.up_mean, process.down_mean) == (pytest.approx(mean), duration)
            assert (process.up_law, process.down_law) == ("exponential", "deterministic")
            assert process.unit == "steps"
    factors = {"unreliable": 5.0, "extreme": 10.0}
    assert failures.slowdown_factor == factors.get(name, 1.0)


def test_a_word_a_table_and_an_object_say_the_same():
    said = ["topk", {"kind": "topk", "ratio": 0.01}, jw.TopK(), jw.TopK(ratio=np.float32(0.01))]
    kinds = [resolve(experiment(compressor=form)).compressor for form in said]
    assert kinds[0] == kinds[1] == kinds[2]
    assert kinds[3].knobs["ratio"] == pytest.approx(0.01)


def test_recommended_is_the_challenges_own():
    own = experiment(challenge="extreme")
    word = experiment(challenge="extreme", strategy="recommended", buffer="recommended")
    assert resolve(own) == resolve(word)


def test_links_fleet_and_device_can_be_overridden():
    resolved = resolve(experiment(
        challenge="wan_latency", network="satellite", workers=6, attackers=2,
        link={"loss": 0.5, "up_bps": 7.0}, compute={"device": "cpu", "speed": 3.0},
    ))  # fmt: skip
    assert {(w.up_bps, w.down_bps, w.loss) for w in resolved.workers} == {(7.0, 1e6, 0.5)}
    assert {(w.device, w.speed, w.delay_s) for w in resolved.workers} == {("cpu", 3.0, 0.8)}
    assert [w.attacker for w in resolved.workers] == [False] * 4 + [True] * 2
    assert len({w.name for w in resolved.workers}) == 6
    assert resolved.attack is not None


def test_a_changed_copy_is_checked_again():
    first = experiment(challenge="extreme", compressor=jw.TopK(ratio=0.5), link={"loss": 0.1})
    second = first.replace(steps=9)
    assert (second.steps, second.compressor, second.link) == (9, first.compressor, first.link)
    refused(lambda: first.replace(steps=0), "steps: 0")


def test_a_dead_link_is_allowed():
    assert resolve(experiment(link={"bandwidth_bps": 0})).workers[0].up_bps == 0


def test_failures_are_laid_over_the_challenges_own():
    base = {"challenge": "unreliable"}
    often = resolve(experiment(**base, failures={"transient": {"p": 0.0}})).failures.transient
    assert (often.up_mean, often.down_mean) == (math.inf, 10)
    assert resolve(experiment(**base, failures={"transient": "none"})).failures.transient is None
    mixed = resolve(experiment(**base, failures={"transient": {"mtbf_s": 9.0}})).failures.transient
    assert (mixed.unit, mixed.up_mean, mixed.down_mean) == ("s", 9.0, pytest.approx(10 * 0.05))
    crash = resolve(experiment(failures={"crash": {"mtbf_steps": 5.0}})).failures.crash
    assert (crash.up_mean, crash.down_mean, crash.unit) == (5.0, math.inf, "steps")


def test_error_feedback_is_on_where_the_compressor_wants_it():
    assert resolve(experiment(compressor="topk")).error_feedback
    assert not resolve(experiment(compressor="fp16")).error_feedback
    assert not resolve(experiment(compressor=jw.TopK(error_feedback=False))).error_feedback


def test_an_aggregator_that_is_the_mean_warns():
    trimmed = {"kind": "trimmed_mean", "trim_ratio": 0.1}
    resolved, warned = resolve_and_warn(experiment(challenge="heterogeneous", strategy="sync",
                                                   aggregator=trimmed))  # fmt: skip
    assert resolved.aggregator.kind == "trimmed_mean"
    assert len(warned) == 1
    assert "equals the mean" in warned[0]


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_memory_around_what_does_not_contract_warns(kind):
    chosen = {"kind": kind, "error_feedback": True}
    _, warned = resolve_and_warn(Experiment(scenario="simple", compressor=chosen))
    told = any("grow without bound" in text for text in warned)
    assert told is not COMPRESSORS[kind].contractive
    _, warned = resolve_and_warn(Experiment(scenario="simple", compressor=kind))
    assert not any("grow without bound" in text for text in warned)


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_downlink_that_does_not_contract_warns(kind):
    _, warned = resolve_and_warn(Experiment(scenario="simple", downlink=kind))
    told = any("downlink: " in text and "grow without bound" in text for text in warned)
    assert told is not COMPRESSORS[kind].contractive


def test_buckets_are_what_an_aggregator_gets():
    krum, many = {"kind": "krum", "f": 2}, experiment(strategy="sync", workers=9)
    resolve(many.replace(aggregator=krum))
    halves = {"kind": "bucketing", "s": 2}
    text = r"at least 7 .* gets 5, which 'bucketing' makes of 9; .* sync with 13 workers"
    with pytest.raises(InputError, match=text):
        resolve(many.replace(aggregator=krum, pre_aggregator=halves))
    resolve(many.replace(aggregator=krum, pre_aggregator=halves, workers=13))
    pairs = {"kind": "bucketing", "s": 5}
    _, warned = resolve_and_warn(many.replace(aggregator="sign_majority", pre_aggregator=pairs))
    assert not warned
    trimmed = {"kind": "trimmed_mean", "trim_ratio": 0.2}
    _, warned = resolve_and_warn(many.replace(aggregator=trimmed))
    assert not warned
    thirds = {"kind": "bucketing", "s": 3}
    _, warned = resolve_and_warn(many.replace(aggregator=trimmed, pre_aggregator=thirds))
    assert warned == ["aggregator: trimmed_mean of 3 equals the mean"]


def test_lists_fan_out_in_order_and_inside_tables():
    plan = sweep(compressor=["none", {"kind": "topk", "ratio": [0.1, 0.01]}], buffer=[1, 2])
    assert labels(plan)[:3] == [
        {"scenario": "simple", "compressor": "none", "buffer": 1},
        {"scenario": "simple", "compressor": "none", "buffer": 2},
        {"scenario": "simple", "compressor": "topk", "compressor.ratio": 0.1, "buffer": 1},
    ]
    assert len(plan.expand()) == 6
    assert plan.expand()[4][0].compressor == jw.TopK(ratio=0.01)


def test_dotted_keys_and_tables_are_the_same():
    dotted = sweep(**{"link.delay_s": [0.1, 0.2], "link.loss": 0.1})
    tables = sweep(link={"delay_s": [0.1, 0.2], "loss": 0.1})
    arrays = sweep(**{"link.delay_s": np.asarray([0.1, 0.2]), "link.loss": 0.1})
    assert dotted.expand() == tables.expand() == arrays.expand()
    assert [found.link.delay_s for found, _ in dotted.expand()] == [0.1, 0.2]


def test_objects_fan_out():
    plan = sweep(strategy=[jw.Sync(), jw.Async(max_staleness=3, buffer=2)])
    assert [found.get("strategy.buffer") for found in labels(plan)] == [None, 2]
    assert [r.buffer for r in plan.resolve()[0]] == [1, 2]


def test_overrides_win_over_the_catalog_and_are_no_label():
    plan = Sweep(grid={"scenario": "simple"}, overrides={"link.loss": 0.25}, seeds=3, steps=9)
    [resolved], warned = plan.resolve()
    assert {worker.loss for worker in resolved.workers} == {0.25}
    assert (resolved.labels, resolved.steps, warned) == ({"scenario": "simple"}, 9, [])
    assert plan.seeds == (0, 1, 2)


SWEEP = """# Which one?
seeds = [3, 5]
steps = 7
[grid]
scenario = "simple"
challenge = ["fleet.csv", "baseline", "other.csv"]
[overrides]
link.loss = 0.0
"""


def test_a_sweep_file_finds_fleets_beside_it_first(tmp_path, monkeypatch):
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder, names in ((beside, ["fleet"]), (here, ["fleet", "other"])):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.csv").write_text(FLEET.replace("alpha", f"{folder.name}-{name}"))
    (beside / "question.toml").write_text(SWEEP)
    monkeypatch.chdir(here)
    plan = Sweep.from_toml(beside / "question.toml")
    assert (plan.question, plan.name, plan.seeds) == ("Which one?", "question", (3, 5))
    first, second, third = plan.resolve()[0]
    assert [entry.challenge for entry in (first, second, third)] == ["fleet", "baseline", "other"]
    assert first.workers[0].name == "beside-fleet"
    assert third.workers[0].name == "here-other"
    assert first.steps == 7
    assert labels(plan)[0]["challenge"] == "fleet.csv"
    assert len(Sweep.from_toml(beside / "question.toml", seeds=4).seeds) == 4


def test_csv_fleet(tmp_path):
    (tmp_path / "fleet.csv").write_text(FLEET)
    resolved = resolve(experiment(challenge=str(tmp_path / "fleet.csv")))
    alpha, beta = resolved.workers
    assert (alpha.name, alpha.region, alpha.up_bps, alpha.down_bps) == ("alpha", "eu", 1e8, 2e8)
    assert (beta.online, beta.speed, beta.delay_s, beta.loss) == (False, 0.5, 0.1, 0.0)
    assert (resolved.strategy.kind, resolved.compressor.kind) == ("sync", "none")
    assert (resolved.criteria.min_steps, resolved.criteria.max_rejection) == (100, 1.0)


def test_toml_fleet(tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text('[[worker]]\nnetwork = "edge"\ncount = 2\n[[worker]]\nbandwidth_bps = 1e6\n')
    workers = resolve(experiment(challenge=str(file))).workers
    assert [worker.up_bps for worker in workers] == [5e6, 5e6, 1e6]
    assert len({worker.name for worker in workers}) == 3


BAD_EXPERIMENTS = {
    "scenario": ({"scenario": "simpel"}, ["scenario: ", "'simpel'", "did you mean 'simple'"]),
    "no scenario": ({"scenario": None}, ["scenario: "]),
    "challenge": ({"challenge": "churm"}, ["challenge: ", "did you mean 'churn'"]),
    "file": ({"challenge": "nowhere.csv"}, ["challenge: ", "no such file: nowhere.csv"]),
    "network": ({"network": "edgy"}, ["network: ", "did you mean 'edge'"]),
    "kind": ({"compressor": "topp"}, ["compressor: ", "did you mean 'topk'", "fp16"]),
    "knob": ({"compressor": {"kind": "topk", "ratoi": 1}}, ["compressor: ", "mean 'ratio'"]),
    "ratio 0": ({"compressor": {"kind": "topk", "ratio": 0}}, ["compressor.ratio: ", "(0, 1]"]),
    "percent": ({"compressor": {"kind": "topk", "ratio": "1%"}}, ["compressor.ratio", "number"]),
    "no kind": ({"compressor": {"ratio": 0.1}}, ["compressor: ", "kind", "topk"]),
    "other family": ({"compressor": jw.Sync()}, ["compressor: ", "Sync"]),
    "staleness": ({"strategy": {"kind": "async", "max_staleness": -1}}, ["max_staleness", ">= 0"]),
    "part": ({"strategy": {"kind": "async", "max_staleness": 1.5}}, ["whole number", "1.5"]),
    "field": ({"bufer": 3}, ["'bufer'", "did you mean 'buffer'"]),
    "unit": ({"link": {"bandwidth_bps": "10Mbit"}}, ["link.bandwidth_bps: ", "bit/s", "'10Mbit'"]),
    "negative": ({"link": {"delay_s": -0.1}}, ["link.delay_s: ", "-0.1", "0"]),
    "nan": ({"link": {"loss": math.nan}}, ["link.loss: ", "nan", "[0, 1)"]),
    "numpy nan": ({"link": {"loss": np.float32("nan")}}, ["link.loss: ", "nan"]),
    "transport": ({"link": {"transport": "idea"}}, ["link.transport: ", "did you mean 'ideal'"]),
    "probability": ({"failures": {"transient": {"p": 1.0}}}, ["failures.transient.p: ", "[0, 1)"]),
    "twice": ({"failures": {"crash": {"p": 0.1, "mtbf_s": 1}}}, ["failures.crash: ", "only one"]),
    "duration": ({"failures": {"transient": {"p": 0.1}}}, ["transient: ", "duration_s"]),
    "factor": ({"failures": {"slowdown": {"p": 0.1, "duration_s": 1}}}, ["slowdown: ", "factor"]),
    "law": ({"failures": {"crash": {"p": 0.1, "law": "weibul"}}}, [".law: ", "mean 'weibull'"]),
    "steps": ({"steps": 0}, ["steps: 0", ">= 1"]),
    "bool": ({"steps": True}, ["steps: ", "whole number", "true"]),
    "word": ({"timing_only": "yes"}, ["timing_only: ", "true or false"]),
    "literal": ({"fidelity": "prxy"}, ["fidelity: ", "did you mean 'proxy'"]),
    "buffer": ({"buffer": 5}, ["buffer: 5", "fleet of 4", "1 to 4"]),
    "two buffers": ({"strategy": jw.Async(buffer=2), "buffer": 3}, ["buffer: 3", "2"]),
    "attackers": ({"attackers": 5}, ["attackers: 5", "fleet of 4"]),
    "slots": ({"strategy": "async", "aggregator": "median"}, ["aggregator: ", "buffer = 3"]),
    "slots, two workers": ({"workers": 2, "aggregator": "median"}, ["aggregator: ", "least 3"]),
}


def refused(action, *wanted):
    with pytest.raises(InputError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    for part in wanted:
        assert part in text


@pytest.mark.parametrize("case", BAD_EXPERIMENTS)
def test_a_wrong_experiment_is_refused_in_one_line(case):
    fields, wanted = BAD_EXPERIMENTS[case]
    refused(lambda: resolve(experiment(**fields)), *wanted)


def test_a_wrong_constructor_is_refused():
    refused(lambda: jw.TopK(ratio=1.5), "ratio: 1.5", "(0, 1]")
    refused(lambda: jw.TopK(rato=0.1), "'rato'", "did you mean 'ratio'")


TOPK = {"kind": "topk", "ratio": [0.1, 0.0]}
BAD_SWEEPS = {
    "empty grid": ({"grid": {}}, ["grid: ", "empty", "scenario"]),
    "empty list": ({"grid": {"scenario": []}}, ["grid.scenario: ", "empty"]),
    "inner list": ({"grid": {"scenario": "simple", "compressor": ["none", TOPK]}},
                   ["grid.compressor[1].ratio[1]: 0.0"]),
    "no scenario": ({"grid": {"challenge": "churn"}}, ["grid: ", "'scenario' is missing"]),
    "list of lists": ({"grid": {"scenario": "simple", "link.delay_s": [[1.0]]}},
                      ["grid.link.delay_s[0]: "]),
    "twice": ({"grid": {"scenario": "simple", "link.loss": 0.1, "link": {"loss": 0.2}}},
              ["grid.link: ", "twice"]),
    "both": ({"grid": {"scenario": "simple"}, "overrides": {"scenario": "simple"}},
             ["overrides.scenario: ", "also in the grid"]),
    "override list": ({"grid": {"scenario": "simple"}, "overrides": {"link.loss": [0.1]}},
                      ["overrides.link.loss: ", "overrides never fan out"]),
    "no seeds": ({"grid": {"scenario": "simple"}, "seeds": 0}, ["seeds: ", "0"]),
    "word seeds": ({"grid": {"scenario": "simple"}, "seeds": "many"}, ["seeds: ", "'many'"]),
    "twin seeds": ({"grid": {"scenario": "simple"}, "seeds": [1, 1]}, ["seeds: ", "twice"]),
    "steps": ({"grid": {"scenario": "simple"}, "steps": 1.5}, ["steps: ", "1.5"]),
    "field": ({"grid": {"scenario": "simple"}, "overides": {}}, ["mean 'overrides'"]),
    "buffer": ({"grid": {"scenario": "simple", "buffer": [1, 9]}}, ["grid.buffer[1]: 9"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SWEEPS)
def test_a_wrong_sweep_is_refused_in_one_line(case):
    fields, wanted = BAD_SWEEPS[case]
    refused(lambda: Sweep(**fields).resolve(), *wanted)


BAD_FLEETS = {
    "missing column": (FLEET.replace("delay_s,", ""), ["missing column 'delay_s'"]),
    "unknown column": (FLEET.replace(",name", ",nam"), ["unknown column 'nam'"]),
    "duplicate": (FLEET.replace("beta", "alpha"), ["duplicate worker 'alpha'", "2, 3"]),
    "nan": (FLEET.replace("1e8", "nan"), ["line 2: up_bps", "nan"]),
    "negative": (FLEET.replace(",0.1,", ",-0.1,"), ["line 3: delay_s", "-0.1"]),
    "no bandwidth": (FLEET.replace("5e7,5e7", "0,5e7"), ["line 3: up_bps", "> 0"]),
    "word": (FLEET.replace("0.5,", "half,"), ["line 3: speed", "'half'"]),
    "empty cell": (FLEET.replace("0.5,", ","), ["line 3: speed is empty"]),
    "short line": (FLEET.replace(",false,beta", ""), ["line 3", "cells"]),
    "online": (FLEET.replace("true", "maybe"), ["line 2: online", "'maybe'"]),
    "no workers": (FLEET.splitlines()[0], ["no workers"]),
    "nothing": ("", ["missing column"]),
}


@pytest.mark.parametrize("case", BAD_FLEETS)
def test_a_wrong_fleet_is_refused_with_its_line(case, tmp_path):
    text, wanted = BAD_FLEETS[case]
    file = tmp_path / "fleet.csv"
    file.write_text(text)
    refused(lambda: experiment(challenge=str(file)), "challenge: ", "fleet.csv: ", *wanted)


BAD_FILES = {
    "syntax": ("[grid\n", ["line 1"]),
    "field": ('name = "x"\n[grid]\nscenario = "simple"\n', ["unknown field 'name'", "grid"]),
    "place": ('[grid]\nscenario = "simple"\nbuffer = [1, "two"]\n', ["grid.buffer[1]: ", "'two'"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_wrong_sweep_file_is_refused_with_its_name(case, tmp_path):
    text, wanted = BAD_FILES[case]
    file = tmp_path / "bad.toml"
    file.write_text(text)
    refused(lambda: Sweep.from_toml(file), "bad.toml: ", *wanted)


def test_the_schema_lists_every_field_and_kind():
    schema = json_schema()
    grid = schema["properties"]["grid"]["properties"]
    assert set(grid) == set(Experiment.model_fields)
    text = str(schema)
    for word in ("topk", "max_staleness", "wan_bandwidth", "trim_ratio", "recommended"):
        assert f"'{word}'" in text
