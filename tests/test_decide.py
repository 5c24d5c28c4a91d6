"""Seeds spent on purpose: selection, races over sweep files, and intervals as narrow as asked."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jaxwan import adaptive, cli
from jaxwan.commands.status import status_of
from jaxwan.decide.race import known_metric, race
from jaxwan.decide.select import equal_allocation, look_sizes, select
from jaxwan.decide.until import (
    Target,
    half_width,
    interval_of,
    next_round,
    seed_stream,
    targets_of,
    wide_notes,
    widths,
)
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.results import Results
from jaxwan.rounds import joined, round_folders
from jaxwan.stats.intervals import mean_interval


class Slot:
    """Configurations with known means; counts the seeds each was asked for."""

    def __init__(self, means, noise=0.2, seed=0, most=4096):
        self.means = np.asarray(means, float)
        rng = np.random.default_rng(seed)
        self.values = self.means[:, None] + noise * rng.normal(size=(len(means), most))
        self.asked = []

    def __call__(self, configs, seeds):
        self.asked += [(j, seed) for j in configs for seed in seeds]
        return self.values[configs, seeds.start : seeds.stop]


def test_selection_spends_on_contenders_and_asks_for_no_seed_twice():
    slot = Slot([1.0, 1.01, 1.5, 2.0])
    looks = []
    found = select(slot, 4, 0.02, tell=looks.append)
    assert found.winner == 0
    assert found.certified
    assert found.spent[0] >= found.spent[1] > found.spent[2] == found.spent[3] == 64
    assert len(set(slot.asked)) == len(slot.asked) == found.spent.sum()
    assert looks[-1] == (0, 0, found.spent.sum())
    np.testing.assert_array_equal(
        np.isnan(found.values).sum(axis=1), found.spent.max() - found.spent
    )
    assert found.regret <= found.delta
    assert found.probability > 0.95


def test_selection_of_the_largest_is_that_of_the_smallest_mirrored():
    one = select(Slot([1.0, 1.1, 1.3]), 3, 0.05, relative=False)
    mirrored = Slot([1.0, 1.1, 1.3])
    other = select(lambda configs, seeds: -mirrored(configs, seeds), 3, 0.05, relative=False,
                   larger=True)  # fmt: skip
    assert one.winner == other.winner == 0
    np.testing.assert_array_equal(one.spent, other.spent)
    np.testing.assert_allclose(one.mean, -other.mean)


def test_without_seeds_left_the_tie_is_said():
    found = select(Slot([1.0, 1.001, 2.0]), 3, 0.001, sizes=look_sizes(64, 128))
    assert not found.certified
    assert sorted(found.tied) == [0, 1]
    assert found.regret > found.delta
    assert found.probability < 0.95


def test_a_contender_that_was_certified_goes_on_when_the_leader_changes():
    """Two were lucky on the first seeds; the third, put aside, is better on all later ones."""
    values = np.ones((3, 512)) + 0.05 * np.random.default_rng(1).normal(size=(3, 512))
    values[[0, 2], :64] -= 0.2
    values[[0, 2], 64:] += 0.5
    sizes = look_sizes(64, 512)
    found = select(lambda configs, seeds: values[configs, seeds.start : seeds.stop], 3, 0.001,
                   sizes=sizes)  # fmt: skip
    assert found.winner == 1
    assert found.certified
    assert found.spent[1] > 64


def test_flags_that_never_differed_yet_are_not_settled():
    """Shares of 0.97 and 1: at 64 seeds one in seven shows no failure, which proves nothing."""
    repetitions, wrong = 120, 0
    sizes = look_sizes(64, 512)
    for repetition in range(repetitions):
        values = np.ones((2, sizes[-1]))
        values[0] = np.random.default_rng([8, repetition]).random(sizes[-1]) < 0.97
        found = select(lambda configs, seeds, values=values: values[configs][
            :, seeds.start : seeds.stop], 2, 0.02, larger=True, sizes=sizes)  # fmt: skip
        wrong += found.certified and found.winner == 0
    assert wrong / repetitions <= 0.05  # it was 0.14 when no failure yet counted as none ever
    numbers = select(lambda configs, seeds: np.ones((len(configs), len(seeds))), 2, 0.02,
                     flags=False, sizes=sizes)  # fmt: skip
    assert numbers.certified
    assert numbers.spent.sum() == 128


def test_what_was_not_watched_is_not_certified_and_gets_no_more_seeds():
    """The second counts as 12 and may be 5: no seeds would tell."""
    noise = 0.1 * np.random.default_rng(3).normal(size=(2, 3, 512))

    def sample(configs, seeds):
        told = np.array([[10.0, 12.0, 30.0], [10.0, 5.0, 30.0]])[:, :, None] + noise
        return told[:, configs][:, :, seeds.start : seeds.stop]

    found = select(sample, 3, 0.02, sizes=look_sizes(64, 512))
    assert not found.certified
    assert (found.winner, found.unknown, found.tied) == (0, [1], [0, 1])
    assert found.spent.tolist() == [64, 64, 64]
    assert found.regret == pytest.approx(5, abs=0.2)
    assert found.probability == 0


def test_equal_allocation_is_bechhofers():
    assert equal_allocation(1.0, 0.1, 2) == pytest.approx((2.3262 / 0.1) ** 2, rel=2e-3)
    assert equal_allocation(1.0, 0.1, 10) == pytest.approx((3.4182 / 0.1) ** 2, rel=2e-3)


def test_looks_rise_to_the_last():
    assert look_sizes(64, 64) == [64]
    assert look_sizes(64, 200) == [64, 91, 128, 181, 200]
    for wrong in ((1, 9), (64, 32)):
        with pytest.raises(ValueError, match="first <= most"):
            look_sizes(*wrong)


@pytest.mark.parametrize("wrong", [(1, 0.02, 0.95), (3, 0.0, 0.95), (3, 0.02, 1.0)])
def test_impossible_selections_are_refused(wrong):
    with pytest.raises(ValueError, match=r"nothing|above zero|strictly"):
        select(Slot([1.0, 2.0, 3.0]), *wrong)


def experiments():
    sweep = Sweep(grid={
        "scenario": "simple", "challenge": ["baseline", "unreliable"],
        "compressor": ["none", "int8", "topk"],
    }, overrides={"timing_only": True, "steps": 4})  # fmt: skip
    return sweep.resolve()[0]


class Pretend:
    """A runner whose runs take known times; it counts them."""

    def __init__(self, times, noise=0.1):
        self.times, self.noise, self.runs = times, noise, 0

    def __call__(self, experiments, seeds):
        rows = []
        for resolved in experiments:
            name = resolved.compressor.kind
            place = 1 + 4 * (resolved.challenge == "unreliable")
            for seed in seeds:
                luck = np.random.default_rng([seed, *map(ord, name)]).normal(1, self.noise)
                self.runs += 1
                rows.append({
                    "config_id": config_id(resolved), "config_index": 0, "seed": seed,
                    "scenario": "simple", "challenge": resolved.challenge, "compressor": name,
                    "time_s": place * self.times[name] * luck, "status": "ok",
                })  # fmt: skip
        return pd.DataFrame(rows)


def test_a_race_settles_every_place_for_fewer_runs():
    runner, told = Pretend({"none": 1.3, "int8": 1.0, "topk": 1.03}), []
    found = race(experiments(), "time_s", delta=0.01, runner=runner, tell=told.append)
    assert found.certified
    assert [one.winner for one in found.best.verdicts] == ["int8", "int8"]
    assert found.spent == runner.runs == len(found.runs)
    assert 0.95 < found.probability <= 1
    assert found.equal > 2 * found.spent
    rows = found.best.table.set_index(["challenge", "setting"])["n"]
    assert rows["baseline", "no compressor"] == 64 < rows["baseline", "topk"]
    assert "with 95 % confidence nothing else here is better by more than 1 %" in (
        found.best.verdicts[0].sentence
    )
    assert "leads" in told[0]


def test_a_race_passes_by_where_a_single_setting_stands():
    own = [each for each in experiments()
           if each.challenge == "baseline" or each.compressor.kind == "int8"]  # fmt: skip
    runner = Pretend({"none": 1.3, "int8": 1.0, "topk": 1.1})
    found = race(own, "time_s", delta=0.05, runner=runner)
    assert found.certified
    assert found.spent == runner.runs == 4 * 64
    assert [one.runner_up for one in found.best.verdicts].count(None) == 1
    assert "Use int8: it is the best at 1 of 2 places; at 1 there is nothing to choose" in (
        found.best.sentence
    )


def test_a_race_does_not_settle_what_was_hardly_watched():
    def runner(experiments, seeds):
        frame = Pretend({"none": 10.0, "int8": 12.0, "topk": 30.0})(experiments, seeds)
        short = (frame["compressor"] == "int8").to_numpy()
        times = frame["time_s"].where(~short)
        watch = np.where(short, 5.0, frame["time_s"] + 1)
        return frame.assign(time_to_target_s=times, reached=~short, time_s=watch)

    own = [each for each in experiments() if each.challenge == "baseline"]
    found = race(own, "time_to_target_s", delta=0.05, runner=runner)
    one = found.best.verdicts[0]
    assert not found.certified
    assert (one.winner, one.tied) == ("no compressor", ["int8"])
    assert "int8 was watched only until 5.00 s" in one.sentence
    assert found.spent == 3 * 64
    ratios = found.best.table.set_index("setting")["ratio"]
    assert np.isnan(ratios["int8"])
    assert ratios["topk"] == pytest.approx(3, rel=0.1)
    assert found.best.table["probability"].isna().all()


def test_a_race_without_seeds_left_promises_nothing():
    runner = Pretend({"none": 2.0, "int8": 1.0, "topk": 1.0001})
    found = race(experiments(), "time_s", delta=0.001, runner=runner, most=91)
    assert not found.certified
    assert "it takes more seeds" in found.best.verdicts[0].sentence
    assert found.best.verdicts[0].tied


@pytest.mark.parametrize(
    "wrong", [{"metric": "time_z"}, {"delta": 0.0}, {"confidence": 1.0}, {"most": 1},
              {"choose": ["optimizer"]}],
)  # fmt: skip
def test_wrong_races_are_refused(wrong):
    runner = Pretend({"none": 2.0, "int8": 1.0, "topk": 1.1})
    with pytest.raises(InputError):
        race(experiments(), **{"metric": "time_s", "runner": runner, **wrong})


def test_a_race_on_a_metric_that_is_zero_ends():
    """The leader's mean is zero, so the margin is, too."""
    runner = Pretend({"none": 0.0, "int8": 1.0, "topk": 2.0})
    found = race(experiments(), "time_s", runner=runner)
    assert found.certified
    assert found.equal == found.spent == 6 * 64


def test_targets_are_read():
    assert targets_of("time_to_target_s: 5%, loss_final:0.01") == (
        Target("time_to_target_s", 0.05, True), Target("loss_final", 0.01, False),
    )  # fmt: skip
    with pytest.raises(InputError, match="did you mean 'time_s'"):
        targets_of("time_z: 5%")
    for wrong in ("time_s", "time_s: x", "time_s: 0%", "time_s: -1", "", "time_s: nan"):
        with pytest.raises(InputError, match="METRIC: WIDTH"):
            targets_of(wrong)
    with pytest.raises(InputError):
        known_metric("seed")


def frame_of(spreads, n=64):
    """Make one configuration per relative spread of its time."""
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"config_id": f"c{i}", "config_index": i, "seed": np.arange(n),
                      "run_id": [f"r{i}-{s}" for s in range(n)], "status": "ok",
                      "time_s": 10 * (1 + spread * rng.normal(size=n)), "success": True})
        for i, spread in enumerate(spreads)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_only_wide_configurations_get_more_seeds_and_doubled():
    frame, target = frame_of([0.01, 0.5, 0.4]), [Target("time_s", 0.05, True)]
    assert next_round(None, ["c0", "c1", "c2"], target) == (["c0", "c1", "c2"], 0, 64)
    assert next_round(frame, [], target) == (["c1", "c2"], 64, 128)
    assert next_round(frame, [], target, most=100) == (["c1", "c2"], 64, 100)
    assert next_round(frame, [], target, most=64) is None
    assert next_round(frame, [], [Target("time_s", 9.0, False)]) is None
    ahead = pd.concat([frame, frame[frame["config_id"] == "c1"].assign(seed=range(64, 128))])
    assert next_round(ahead, [], target) == (["c2"], 64, 128)
    note = wide_notes(frame, target, {"c1": "sync"})[0]
    assert "not known to ±5 % of 2 of 3 configurations; widest is sync: ±" in note
    assert not wide_notes(frame, [Target("time_s", 9.0, False)], {})


def test_widths_are_those_of_the_metrics_own_interval():
    runs = frame_of([0.3])
    expected = mean_interval(runs["time_s"])
    half = float(expected.high - expected.mean)
    assert half_width(runs, Target("time_s", 1, False)) == pytest.approx(half)
    share = half_width(runs, Target("time_s", 1, True))
    assert share == pytest.approx(half / expected.mean)
    assert interval_of(runs, "success").low > 0.9
    diverged = runs.assign(loss_final=1.0, status=["diverged"] + ["ok"] * 63)
    assert half_width(diverged, Target("loss_final", 1, False)) == np.inf
    assert list(widths(runs, [Target("time_s", 99, False)])["narrow"]) == [True]


def test_a_target_that_nobody_reaches_is_not_known_narrowly():
    runs = pd.DataFrame({
        "config_id": "a", "time_to_target_s": np.nan, "reached": False, "time_s": [9.0] * 64,
        "status": "ok",
    })  # fmt: skip
    assert not widths(runs, targets_of("time_to_target_s: 5%"))["narrow"].any()
    one = runs.assign(reached=[True] + [False] * 63, time_to_target_s=[5.0] + [np.nan] * 63)
    assert not widths(one, targets_of("time_to_target_s: 5%"))["narrow"].any()
    some = runs.assign(reached=True, time_to_target_s=np.linspace(5.0, 5.1, 64))
    assert widths(some, targets_of("time_to_target_s: 5%"))["narrow"].all()


def test_stopping_when_narrow_keeps_the_coverage():
    """Chow and Robbins' rule over 2,000 repetitions; looks at 64 to 1,024, stopping about 256."""
    for law, truth in (("normal", 0.0), ("exponential", 1.0)):
        draws = getattr(np.random.default_rng(1), law)(size=(1024, 2000))
        hit, open_ones, stopped = np.zeros(2000, bool), np.ones(2000, bool), []
        for n in (64, 128, 256, 512, 1024):
            found = mean_interval(draws[:n])
            stop = open_ones & ((found.high - found.low) / 2 <= 0.125)
            hit[stop] = ((found.low <= truth) & (truth <= found.high))[stop]
            open_ones &= ~stop
            stopped += [n] * int(stop.sum())
        assert not open_ones.any()
        assert len(set(stopped)) > 1
        assert hit.mean() > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000) - 0.01


def test_seeds_go_on_where_the_given_ones_end():
    stream = seed_stream([3, 0, 7])
    assert [next(stream) for _ in range(6)] == [3, 0, 7, 1, 2, 4]


def test_rounds_join_in_the_order_of_the_first():
    first = frame_of([0.1, 0.1])
    more = frame_of([0.1]).assign(config_id="c1", seed=range(64, 128))
    more["run_id"] = [f"x{s}" for s in range(64)]
    curve = pd.DataFrame({"run_id": ["x0", "r0-0"], "config_id": ["c1", "c0"], "step": 0,
                          "time_s": 1.0, "loss": 1.0, "accuracy": 1.0})  # fmt: skip
    frame, curves = joined([first, more], [curve, pd.DataFrame()])
    assert list(frame["config_id"]) == ["c0"] * 64 + ["c1"] * 128
    assert (frame["config_index"] == [0] * 64 + [1] * 128).all()
    assert list(curves["run_id"]) == ["r0-0", "x0"]


@pytest.fixture
def few(monkeypatch):
    """Let rounds begin at four seeds, so that tests are quick."""
    monkeypatch.setattr(adaptive, "FIRST", 4)


GRID = {"scenario": "simple", "challenge": "unreliable", "compressor": ["none", "int8"]}
SWEEP = {"grid": GRID, "seeds": 2,
         "overrides": {"timing_only": True, "steps": 8}}  # fmt: skip


def test_adaptive_sweeps_extend_resume_and_load_as_one(few, tmp_path):
    """One program for all of it: first wide, then narrower from the same folder."""
    sweep, folder = Sweep(**SWEEP), tmp_path / "out"
    wide = adaptive.run_until(sweep, "time_s: 90%", folder, most=8)
    assert (len(wide), len(round_folders(folder))) == (8, 1)
    narrow = adaptive.run_until(sweep, "time_s: 0.001%", folder, most=8)
    assert (len(narrow), len(round_folders(folder))) == (16, 2)
    assert "not known to ±0.001 % of 2 of 2" in narrow.warnings[-1]
    loaded = Results.load(folder)
    pd.testing.assert_frame_equal(loaded.frame, narrow.frame)
    assert list(loaded.frame["seed"]) == [*range(8)] * 2
    pd.testing.assert_frame_equal(
        loaded.frame[loaded.frame["seed"] < 4].reset_index(drop=True), wide.frame
    )
    parts = round_folders(folder)[1] / "parts"
    lost = next(parts.glob("*.parquet"))
    lost.unlink()
    lost.with_suffix(".json").unlink()
    again = adaptive.run_until(sweep, "time_s: 0.001%", folder, most=8)
    pd.testing.assert_frame_equal(again.frame, narrow.frame)
    facts = status_of(folder)
    assert (facts["runs_done"], facts["runs_total"], facts["finished"]) == (16, 16, True)
    check_commands_of_rounds(folder)
    other = Sweep(**SWEEP | {"grid": {"scenario": "simple", "challenge": "churn"}})
    with pytest.raises(InputError, match="another sweep"):
        adaptive.run_until(other, "time_s: 90%", folder, most=8)
    in_memory = adaptive.run_until(sweep, "time_s: 90%", most=8)
    pd.testing.assert_frame_equal(in_memory.frame, wide.frame)


def check_commands_of_rounds(folder):
    """All that look at a results folder take one of rounds, and `verify` finds a lost stamp."""
    run = CliRunner()
    for words in (["verify"], ["report", "--text"], ["best", "--metric", "time_s"],
                  ["compare", "--by", "compressor", "--metric", "time_s"]):  # fmt: skip
        done = run.invoke(cli.app, [words[0], str(folder), *words[1:]])
        assert done.exit_code == 0, (words, done.output, done.exception)
    stamp = next((round_folders(folder)[0] / "parts").glob("*.json"))
    kept = stamp.read_bytes()
    stamp.unlink()
    done = run.invoke(cli.app, ["verify", str(folder), "--json"])
    assert done.exit_code == 1
    assert [found["kind"] for found in json.loads(done.stdout)["findings"]] == ["unfinished"]
    assert not status_of(folder)["finished"]
    stamp.write_bytes(kept)


def test_until_takes_no_shard(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('[grid]\nscenario = "simple"\nchallenge = "baseline"\ntiming_only = true\n')
    done = CliRunner().invoke(cli.app, ["sweep", str(file), "--until", "time_s: 5%", "--shard",
                                        "1/2", "--out", str(tmp_path / "out")])  # fmt: skip
    assert isinstance(done.exception, InputError)
    assert "--shard" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_fixed_seeds_and_too_few_seeds_are_refused(few, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="fixed seeds"):
        adaptive.run_until(Sweep(**SWEEP), "time_s: 90%", tmp_path, most=8)
    with pytest.raises(InputError, match="at least 4 seeds"):
        adaptive.run_until(Sweep(**SWEEP), "time_s: 90%", most=2)


def test_the_command_races_a_sweep_file(tmp_path, monkeypatch):
    """The same small program as above; few seeds, so nothing is promised that is not there."""
    file = tmp_path / "few.toml"
    file.write_text(
        '# Which?\nseeds = 1\nsteps = 8\n[grid]\nscenario = "simple"\nchallenge = "unreliable"\n'
        'compressor = ["none", "int8"]\n[overrides]\ntiming_only = true\n'
    )
    run = CliRunner()
    line = ["best", str(file), "--metric", "time_s", "--most", "4", "--delta", "50%"]
    told = run.invoke(cli.app, [*line, "--json"])
    data = json.loads(told.stdout)
    assert data["verdicts"][0]["winner"] == "int8"
    assert data["runs"] == 8
    assert 0 <= data["probability"] <= 1
    assert "probability of correct selection, within 50 %" in run.invoke(cli.app, line).stdout
    assert "equally many for each would take" in run.invoke(cli.app, line).stdout
    for wrong in (["--over", "network"], ["--metric", "time_z"]):
        assert isinstance(run.invoke(cli.app, [*line, *wrong]).exception, InputError)
