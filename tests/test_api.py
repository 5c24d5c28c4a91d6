"""The one-call functions: the same runs whatever the door, the folder or an interruption."""

import pandas as pd
import pytest

import jaxwan as jw
from jaxwan import engine
from jaxwan.api import simulate
from jaxwan.columns import COLUMNS
from jaxwan.merge import merge
from jaxwan.store import Store, sweep_hash
from jaxwan.sweep import plan_job, run_in_store

STEPS = 6
SEEDS = 3


def same(one, other):
    """Check that two results hold the same runs bit by bit."""
    pd.testing.assert_frame_equal(one.frame, other.frame, check_exact=True)
    pd.testing.assert_frame_equal(one.curves, other.curves, check_exact=True)


def timing_sweep(**changes):
    """Make a sweep of eight chunks that compiles one small program."""
    grid = {"scenario": "simple", "challenge": "wan_bandwidth", "timing_only": True}
    grid["strategy"] = [{"kind": "async", "max_staleness": [1, 2, 3, 4]}]
    return jw.Sweep(**{"grid": grid, "seeds": SEEDS, "steps": STEPS, "name": "small"} | changes)


@pytest.fixture(scope="module")
def learned():
    experiment = jw.Experiment(scenario="simple", challenge="wan_bandwidth")
    return simulate(experiment, seeds=SEEDS, steps=STEPS)


@pytest.fixture(scope="module")
def timed():
    return jw.run(timing_sweep())


def test_a_simulation_has_a_row_per_seed_and_curves(learned):
    assert list(learned.frame.columns)[: len(COLUMNS)] == list(COLUMNS)
    assert learned.frame["seed"].tolist() == list(range(SEEDS))
    assert learned.frame["run_id"].is_unique
    assert (learned.frame["loss_final"] < learned.frame["loss_initial"]).all()
    first = learned.curves.groupby("run_id", sort=False).first()
    assert (first[["step", "time_s"]] == 0).all(axis=None)
    ends = learned.curves.groupby("run_id", sort=False)["loss"].last()
    assert ends.tolist() == learned.frame["loss_final"].tolist()
    ends = learned.curves.groupby("run_id", sort=False)["train_loss"].last()
    assert ends.tolist() == learned.frame["train_loss_final"].tolist()
    assert ends.tolist() == pytest.approx(learned.frame["loss_final"].tolist(), rel=1e-5)  # no skew
    assert len(learned.summary()) == 1


def test_a_timing_only_run_learns_nothing_and_takes_as_long(learned, timed):
    assert timed.frame["loss_final"].isna().all()
    assert timed.curves.empty
    own = timed.frame[timed.frame["strategy.max_staleness"] == 3]
    for name in ("time_s", "accepted", "rejected", "bytes_sent", "throughput_ratio"):
        assert own[name].tolist() == learned.frame[name].tolist()


def test_the_package_offers_the_function_not_the_module_of_its_name(timed):
    assert jw.simulate is simulate


def test_a_list_of_seeds_is_those_of_a_count(timed):
    chosen = jw.run(timing_sweep(seeds=[2, 0, 1]))
    same(chosen, timed)


@pytest.mark.parametrize(
    ("seeds", "problem"),
    [([1, 1], "seeds: a seed stands twice"), (0, "seeds: expected a count"),
     ([], "seeds: expected a count"), ([-1], r"seeds\[0\]: expected a whole number")],
)  # fmt: skip
def test_wrong_seeds_are_refused(seeds, problem):
    experiment = jw.Experiment(scenario="simple", challenge="baseline")
    with pytest.raises(jw.InputError, match=problem):
        simulate(experiment, seeds=seeds)


def test_a_configuration_that_stands_twice_runs_once(timed):
    experiment = jw.Experiment(
        scenario="simple", challenge="wan_bandwidth", timing_only=True, steps=STEPS,
        strategy=jw.Async(max_staleness=3),
    )  # fmt: skip
    twice = simulate([experiment, experiment.replace()], seeds=SEEDS)
    assert len(twice) == SEEDS
    own = timed.frame[timed.frame["strategy.max_staleness"] == 3]
    assert twice.frame["run_id"].tolist() == own["run_id"].tolist()
    assert twice.frame["time_s"].tolist() == own["time_s"].tolist()


def test_a_folder_keeps_what_memory_holds(tmp_path, timed):
    stored = jw.run(timing_sweep(), out=tmp_path / "out")
    same(stored, timed)
    same(jw.Results.load(tmp_path / "out"), timed)


def test_a_lost_part_is_run_again_and_is_bit_identical(tmp_path, timed):
    folder = tmp_path / "out"
    jw.run(timing_sweep(), out=folder)
    parts = sorted((folder / "parts").glob("p*.parquet"))
    bytes_before = {part.name: part.read_bytes() for part in parts}
    assert parts
    for part in parts[1::3]:
        part.unlink()
    with pytest.raises(ValueError, match="the file is gone"):
        jw.Results.load(folder)
    with pytest.warns(UserWarning, match="its chunk is run again"):
        resumed = jw.run(timing_sweep(), out=folder)
    same(resumed, timed)
    assert not resumed.warnings
    assert {part.name: part.read_bytes() for part in parts} == bytes_before


def test_shards_in_one_folder_or_in_several_make_the_whole(tmp_path, timed):
    for shard in ((2, 3), (3, 3), (1, 3)):
        shared = jw.run(timing_sweep(), out=tmp_path / "shared", shard=shard)
        jw.run(timing_sweep(), out=tmp_path / str(shard[0]), shard=shard)
        assert bool(shared.warnings) == (shard != (1, 3))
    same(shared, timed)
    merged = merge(tmp_path / "all", [tmp_path / name for name in "123"])
    assert (merged.doubles, merged.store.finished) == ([], True)
    same(jw.Results.load(tmp_path / "all"), timed)


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1,), "1", "a/b", 7])
def test_a_wrong_shard_is_refused_before_anything_is_written(tmp_path, shard):
    with pytest.raises(jw.InputError, match="shard: expected i/n"):
        jw.run(timing_sweep(), out=tmp_path / "out", shard=shard)
    assert not (tmp_path / "out").exists()


def test_a_shard_needs_a_folder():
    with pytest.raises(jw.InputError, match="out="):
        jw.run(timing_sweep(), shard=(1, 2))


def test_a_finished_sweep_runs_nothing_again(tmp_path, timed, monkeypatch):
    jw.run(timing_sweep(), out=tmp_path / "out")
    monkeypatch.setattr("jaxwan.work.compiled_worlds", None)
    same(jw.run(timing_sweep(), out=tmp_path / "out"), timed)


def test_another_sweeps_folder_is_refused_untouched(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(jw.InputError, match="out"):
        jw.run(timing_sweep(), out=folder)
    assert [item.name for item in folder.iterdir()] == ["thesis.txt"]


def test_progress_ends_at_the_number_of_runs(timed):
    from jaxwan.sweep import plan_job, run_in_memory

    sweep, told = timing_sweep(), []
    frame, _ = run_in_memory(plan_job(sweep.resolve()[0], sweep.seeds), told.append)
    assert (told[0].runs_done, told[-1].runs_done) == (0, len(frame))
    assert told[-1].runs_total == len(frame) == len(timed)


def test_the_layout_of_a_sweep_does_not_depend_on_the_cores(monkeypatch):
    experiments, _ = timing_sweep(seeds=200).resolve()
    layouts = []
    for devices in (1, 2, 7):
        monkeypatch.setattr(engine, "device_count", lambda devices=devices: devices)
        layouts.append(plan_job(experiments, range(200)).chunk_list())
    assert layouts[0] == layouts[1] == layouts[2]
    assert len(layouts[0]) > 1


def test_a_changed_fleet_file_is_another_sweep(tmp_path):
    fleet = tmp_path / "mine.toml"
    hashes = []
    for bandwidth in (1e6, 1e5):
        fleet.write_text(f"[[worker]]\nbandwidth_bps = {bandwidth}\ncount = 2\n")
        sweep = jw.Sweep(grid={"scenario": "simple", "challenge": str(fleet)})
        job = plan_job(sweep.resolve()[0], (0,))
        hashes.append(sweep_hash(job.manifest({"name": "mine"}, "", [])["sweep"]))
    assert hashes[0] != hashes[1]


def test_a_store_of_another_layout_is_refused(tmp_path):
    experiments, _ = timing_sweep().resolve()
    job = plan_job(experiments, (0, 1))
    manifest = job.manifest({}, "", [])
    manifest["chunks"] = [*manifest["chunks"][:-1], {"name": "p9", "runs": 1, "shape": 1}]
    store = Store.open(tmp_path / "out", manifest)
    with pytest.raises(ValueError, match="other chunks"):
        run_in_store(job, store)


@pytest.mark.parametrize(("experiments", "seeds"), [([], 2), ("baseline", 2), (None, 2.5)])
def test_what_is_no_experiment_or_seed_is_refused(experiments, seeds):
    own = jw.Experiment(scenario="simple", challenge="baseline")
    with pytest.raises(jw.InputError):
        simulate(own if experiments is None else experiments, seeds=seeds)


def test_a_wrong_network_in_a_fleet_file_is_named_with_its_place(tmp_path):
    fleet = tmp_path / "mine.toml"
    fleet.write_text("[[worker]]\nnetwork = 'typcal_wan'\n")
    with pytest.raises(jw.InputError, match=r"mine\.toml: worker\[0\]\.network: .*typical_wan"):
        simulate(jw.Experiment(scenario="simple", challenge=str(fleet)), seeds=1)


def test_more_cycles_than_a_counter_holds_are_refused():
    long = jw.Experiment(scenario="simple", challenge="baseline", steps=9_999_999_999)
    with pytest.raises(jw.InputError, match="steps"):
        simulate(long, seeds=1)
