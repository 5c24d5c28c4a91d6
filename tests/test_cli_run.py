"""The command line runs, is killed, resumes, and says in one line what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from jaxwan import __version__
from jaxwan.integrity import verify
from jaxwan.merge import merge
from jaxwan.results import Results
from jaxwan.store import Store

SWEEP = """\
# How much staleness pays?
seeds = {seeds}
steps = 6

[grid]
scenario = "simple"
challenge = "wan_bandwidth"
timing_only = true
strategy = [{{ kind = "async", max_staleness = [1, 2, 3, 4] }}]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Keep what the calls of this module compile in a folder of its own."""
    return os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def command(environment):
    """Return a function that runs the command line to its end."""

    def run(*words, cwd=None):
        return subprocess.run(
            [sys.executable, "-m", "jaxwan.cli", *map(str, words)],
            env=environment, cwd=cwd, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "staleness.toml"
    path.write_text(SWEEP.format(seeds=4096))
    return path


@pytest.fixture(scope="module")
def whole(command, file, tmp_path_factory):
    """Run the sweep without interruption; return its folder and what was printed."""
    folder = tmp_path_factory.mktemp("whole")
    done = command("sweep", file, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "results" / "staleness", done


def same_runs(one, other):
    pd.testing.assert_frame_equal(Results.load(one).frame, Results.load(other).frame)


def started(file, folder, environment):
    """Start a sweep and return it once a chunk is stored and others are not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxwan.cli", "sweep", str(file), "--out", str(folder)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(folder.glob("parts/*.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return process


def test_a_sweep_prints_its_answer_and_where_it_is(whole):
    folder, done = whole
    assert done.stdout.startswith("How much staleness pays?")
    assert "runs that fail a criterion, of 4096 each" in done.stdout
    assert "min_steps 4096" in done.stdout
    assert done.stderr == ""
    assert (folder / "results.png").exists()
    assert len(Store(folder).chunks) >= 8


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_was_stopped_midway_goes_on_to_the_same_end(
    how, command, file, whole, tmp_path, environment
):
    folder = tmp_path / "out"
    process = started(file, folder, environment)
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert told.strip().splitlines()[-1].startswith("interrupted: finished chunks are kept in")
        assert "Traceback" not in told
    else:
        assert process.returncode == -signal.SIGKILL
    assert not Store(folder).finished
    assert 0 < len(Store(folder).done()) < len(Store(folder).chunks)
    resumed = command("sweep", file, "--out", folder)
    assert resumed.returncode == 0, resumed.stderr
    same_runs(folder, whole[0])
    assert resumed.stdout.split("picture")[0] == whole[1].stdout.split("picture")[0]


def test_shards_merge_into_the_whole(command, file, whole, tmp_path):
    for shard in (1, 2):
        done = command("sweep", file, "--out", tmp_path / str(shard), "--shard", f"{shard}/2")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"shard {shard}/2 is done: 8,192 of 16,384 runs")
    shards = [tmp_path / "1", tmp_path / "2"]
    assert len(merge(tmp_path / "all", shards[:1]).missing) == 8
    done = command("merge", tmp_path / "all", *shards, "--json")
    assert (done.returncode, json.loads(done.stdout)["finished"]) == (0, True)
    same_runs(tmp_path / "all", whole[0])
    (part, *_) = sorted((tmp_path / "all" / "parts").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    told = command("verify", tmp_path / "all")
    assert told.returncode == 1
    assert told.stdout.startswith(f"damaged {part}: ")
    assert told.stdout.endswith("16 chunks read: 1 finding\n")
    again = command("sweep", file, "--out", tmp_path / "all")
    assert again.returncode == 0
    assert again.stderr.startswith(f"warning {part} is damaged")
    same_runs(tmp_path / "all", whole[0])
    assert verify(Store(tmp_path / "all")) == []


def test_a_shard_that_does_not_exist_is_refused(command, file, tmp_path):
    refused = command("sweep", file, "--out", tmp_path / "out", "--shard", "3/2")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error shard: expected i/n with i from 1 to n, got 3/2\n"
    assert not (tmp_path / "out").exists()


def test_results_are_reported_again_as_json(command, whole):
    folder, _ = whole
    told = json.loads(command("report", folder, "--json").stdout)
    assert told["question"] == "How much staleness pays?"
    assert len(told["summary"]) == len(told["failed_criteria"]) == 4
    assert all(row["n"] == 4096 for row in told["summary"])
    assert told["picture"].endswith("results.png")


def test_a_foreign_folder_is_refused_untouched(command, file, whole, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    other = tmp_path / "other.toml"
    other.write_text(SWEEP.format(seeds=7))
    for sweep, folder in ((file, mine), (other, whole[0])):
        before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
        refused = command("sweep", sweep, "--out", folder)
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert len(refused.stderr.strip().splitlines()) == 1
        assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before


def test_one_experiment_runs_from_options_alone(command, tmp_path):
    words = ["run", "--challenge", "baseline", "--timing-only", "--seeds", 2, "--steps", 6]
    told = json.loads(command(*words, "--json", cwd=tmp_path).stdout)
    assert told["summary"][0]["n"] == 2
    assert told["summary"][0]["loss_final_mean"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_model_that_no_machine_holds_is_refused_in_one_line(command):
    """1.04 billion parameters and 1000 workers with a memory each: eight terabytes."""
    done = command("run", "--scenario", "llm_scale", "--challenge", "baseline", "--fidelity",
                   "full", "--workers", 1000, "--compressor", "topk", "--steps", 1)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error fidelity: training 1,036,547,200 parameters with 1000")
    assert "GB of memory, and" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_without_results_is_one_line(command, tmp_path):
    refused = command("report", tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.strip().splitlines()) == 1


def test_the_version(command):
    assert command("--version").stdout == f"jaxwan {__version__}\n"
