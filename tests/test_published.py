"""Published effects: every claim has its sweep, every judge can say no, and the page tells all."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jaxwan.cli import app
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.published import local, pairs, timing
from jaxwan.published.claim import Claim, Finding
from jaxwan.published.page import PAGE, page
from jaxwan.published.registry import claims
from jaxwan.published.run import FAILED, PARTLY, REPRODUCED, Judged, chosen, records
from jaxwan.results import Results

ROOT = Path(__file__).parents[1]
SWEEPS = ROOT / "sweeps" / "published"
SEEDS = 16


def runs_of(settings, **columns):
    """Return one configuration's runs: a column's level, and a little luck of each seed."""
    luck = 1 + 0.01 * np.random.default_rng(0).normal(size=SEEDS)
    values = {name: level * luck for name, level in columns.items()}
    name = "/".join(map(str, settings.values()))
    ids = [f"{name}/{seed}" for seed in range(SEEDS)]
    return pd.DataFrame({"run_id": ids, "seed": np.arange(SEEDS), **settings, **values})


def results_of(configurations, curves=None):
    """Return results of (settings, columns) pairs."""
    frame = pd.concat([runs_of(*each[:1], **each[1]) for each in configurations], ignore_index=True)
    return Results(frame, curves)


def verdicts(found):
    """Return which findings hold."""
    return [finding.holds for finding in found]


# what every claim has


@pytest.mark.parametrize("key", claims())
def test_every_claim_has_a_sweep_that_asks_a_question_and_resolves(key):
    claim = claims()[key]
    sweep = Sweep.from_toml(SWEEPS / f"{claim.sweep}.toml")
    assert sweep.question.endswith("?")
    assert 32 <= len(sweep.seeds) <= 64
    experiments, warnings = sweep.resolve()
    assert len(experiments) > 1
    assert not warnings
    assert claim.note.endswith(".")
    assert claim.judge.__doc__


def test_every_sweep_is_a_claim_s():
    stems = {path.stem for path in SWEEPS.glob("*.toml")}
    assert stems == {claim.sweep for claim in claims().values()}


def test_the_page_lists_every_claim():
    told = (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
    assert told.startswith(PAGE), "stale: run `jaxwan published --markdown > docs/published.md`"
    for claim in claims().values():
        rows = [line for line in told.splitlines() if line.startswith(f"| {claim.key} | ")]
        assert len(rows) == 1
        assert f"| {claim.claim} | {claim.source} |" in rows[0]
        assert rows[0].rstrip("| *").endswith((REPRODUCED, PARTLY, FAILED))
        assert claim.note in " ".join(told.split())


# findings and pairs


def test_a_finding_holds_where_its_whole_interval_lies_beyond_the_bound():
    told = Finding("x", 1.2, 1.1, 1.3, 1.0, above=True)
    assert told.holds
    assert not told._replace(low=0.9).holds
    assert not told._replace(low=np.nan).holds
    assert not told._replace(above=False).holds
    assert told._replace(above=False, bound=1.4).holds


def test_pairs_share_their_seeds_and_a_lost_run_is_no_finding():
    frame = pd.concat([runs_of({"strategy": "a"}, loss=2.0), runs_of({"strategy": "b"}, loss=1.0)])
    a, b = (pairs.runs(frame, strategy=name)["loss"] for name in "ab")
    told = pairs.ratio("x", a, b.sample(frac=1, random_state=0), above=True)
    assert told.low == pytest.approx(2)  # the luck of a seed cancels
    assert told.high == pytest.approx(2)
    lost = a.where(a.index != 3)
    assert not pairs.ratio("x", lost, b, above=True).holds
    assert not pairs.difference("x", lost, b, above=True).holds
    with pytest.raises(ValueError, match="leave 0 runs"):
        pairs.runs(frame, strategy="c")
    with pytest.raises(ValueError, match="leave 32 runs"):
        pairs.runs(frame)


def test_the_loss_at_a_moment_lies_between_the_evaluations():
    own = runs_of({"strategy": "a"}, loss=1.0)
    curves = pd.DataFrame({"run_id": np.repeat(own["run_id"], 2), "time_s": [0.0, 2.0] * SEEDS,
                           "loss": [4.0, 2.0] * SEEDS})  # fmt: skip
    by_seed = pairs.runs(own)
    assert pairs.loss_at(curves, by_seed, 0.5).tolist() == [3.5] * SEEDS
    assert pairs.loss_at(curves, by_seed, 9.0).tolist() == [2.0] * SEEDS


def test_a_setting_is_tuned_on_seeds_that_do_not_judge_it():
    frame = pd.concat(
        [runs_of({"lr": lr}, loss=loss) for lr, loss in ((0.1, 2.0), (0.2, 1.0), (0.4, np.nan))]
    )
    trial, rest = pairs.split(frame)
    assert set(trial["seed"]) == set(range(4))
    assert set(rest["seed"]) == set(range(4, SEEDS))
    assert pairs.tuned(trial, "loss", ("lr",)) == {"lr": 0.2}


# the judges


def backups(best, asynchronous):
    """Return results in which the best backup and async take these times; full sync takes 4."""
    sync = {"strategy": "sync", "optimizer.lr": 0.1}
    return results_of([
        (sync | {"strategy.backup": 0.0}, {"time_to_target_s": 4.0}),
        (sync | {"strategy.backup": 2.0}, {"time_to_target_s": best}),
        (sync | {"strategy.backup": 4.0}, {"time_to_target_s": 9.0}),
        ({"strategy": "async", "optimizer.lr": 0.1}, {"time_to_target_s": asynchronous}),
        ({"strategy": "async", "optimizer.lr": 0.2}, {"time_to_target_s": np.nan}),
    ])  # fmt: skip


def test_backup_workers_must_beat_both():
    assert verdicts(timing.backup_workers(backups(2.0, 3.0))) == [True, True]
    assert verdicts(timing.backup_workers(backups(2.0, 1.9))) == [True, False]
    assert verdicts(timing.backup_workers(backups(5.0, 6.0))) == [False, True]
    assert verdicts(timing.backup_workers(backups(np.nan, 6.0))) == [False, False]


@pytest.mark.parametrize(("soon", "late", "expected"), [
    (0.5, 3.0, [True, True]), (1.5, 3.0, [False, True]), (0.5, 0.9, [True, False]),
])  # fmt: skip
def test_async_must_be_ahead_early_and_sync_in_the_end(soon, late, expected):
    results = results_of([
        ({"strategy": "sync"}, {"loss_final": 1.0}), ({"strategy": "async"}, {"loss_final": late}),
    ])  # fmt: skip
    parts = [
        pd.DataFrame({"run_id": run, "time_s": [0.0, timing.EARLY_S],
                      "loss": [9.0, soon if run.startswith("async") else 1.0]})
        for run in results.frame["run_id"]
    ]  # fmt: skip
    results.curves = pd.concat(parts)
    assert verdicts(timing.early_or_low(results)) == expected


def prices(turn):
    """Return results in which compressed rounds take as long as dense ones at `turn` bit/s.

    Dense updates that wait for the backward pass, compressed ones that do not, and those at another
    compressor's speed take times that the claim must not look at.
    """
    def time_s(compressor, overlap, rate, bps):
        if compressor == "none":
            return 1.0 if overlap else 50.0
        meant = not overlap and rate == timing.CODECS[compressor]
        return (bps / turn) ** 0.5 if meant else 0.01

    return results_of([
        ({"compressor": compressor, "strategy.overlap": overlap, "link.bandwidth_bps": bps,
          "compute.compression_bytes_per_s": rate},
         {"time_s": time_s(compressor, overlap, rate, bps)})
        for bps in (1e8, 1e9, 1e10, 1e11) for compressor in ("none", "topk", "powersgd")
        for overlap in (True, False) for rate in (0.4e9, 2.2e9)
    ])  # fmt: skip


def test_the_bandwidth_at_which_compression_stops_paying_is_found():
    found = timing.utility(prices(3e9))
    assert verdicts(found) == [True] * 6
    assert [found[place].figure for place in (2, 5)] == pytest.approx([3, 3])
    assert verdicts(timing.utility(prices(1e12))) == [True, False, False] * 2
    assert verdicts(timing.utility(prices(1e7))) == [False, True, False] * 2


def outers(nesterov, delayed, best):
    """Return results of outer optimizers; sync ends at 1, Nesterov at its best rate at `best`."""
    late = {"strategy": "async_local_sgd"}
    own = (("momentum", 0.1, nesterov), ("momentum", 0.025, best),
           ("delayed_nesterov", 0.4, delayed), ("delayed_nesterov", 0.1, 9.0))  # fmt: skip
    return results_of([
        ({"strategy": "diloco", "strategy.outer_lr": 0.4}, {"loss_final": 1.0}),
        *((late | {"strategy.outer": outer, "strategy.outer_lr": rate}, {"loss_final": loss})
          for outer, rate, loss in own),
    ])  # fmt: skip


def test_delayed_nesterov_must_recover_more_than_half():
    def judged(*losses):
        return verdicts(local.outer_momentum(outers(*losses)))

    assert judged(2.0, 1.2, 1.3) == [True, True, True, True]
    assert judged(2.0, 1.2, 1.1) == [True, True, True, False]
    assert judged(2.0, 1.7, 1.8) == [True, True, False, True]
    assert judged(2.0, 2.1, 2.2) == [True, False, False, False]
    assert not judged(0.9, 0.8, 0.9)[0]


@pytest.mark.parametrize(("worse", "saved", "expected"), [
    (0.01, 50, [True, True]), (0.05, 50, [False, True]), (0.01, 40, [True, False]),
])  # fmt: skip
def test_rare_communication_must_lose_little_and_save_bytes(worse, saved, expected):
    sync = ({"strategy": "sync"}, {"loss_final": 1.0, "bytes_sent": 1.0})
    own = ({"strategy": "diloco", "strategy.local_steps": 50.0},
           {"loss_final": 1.0 + worse, "bytes_sent": 1 / saved})  # fmt: skip
    assert verdicts(local.rare_talk(results_of([sync, own]))) == expected


# the command


def test_a_claim_is_reproduced_where_all_its_findings_hold():
    good, bad = (Finding("w", 2.0, 1.5, 2.5, bound, above=True) for bound in (1.0, 2.0))
    claim = Claim("z", "C", "S", "file", lambda results: [], "N.")
    held, missed = (Judged(claim, "Q?", 8, found) for found in ([good], [good, bad]))
    assert held.verdict == REPRODUCED
    assert missed.verdict == PARTLY
    assert Judged(claim, "Q?", 8, [bad]).verdict == FAILED
    assert Judged(claim, "Q?", 8, []).verdict == FAILED
    told = page([held, missed])
    assert "| z | C | S | w: 2.00 (1.50 to 2.50) | > 1.00 | reproduced |" in told
    assert "Does not hold: w." in told
    unknown = Judged(claim, "Q?", 8, [good._replace(figure=np.nan)])
    assert json.loads(json.dumps(records([unknown])))[0]["findings"][0]["figure"] is None


def test_an_unknown_claim_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown claim 'q'"):
        chosen(["q"])
    asked = ["published", str(tmp_path), "--only", "b", "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, asked)
    assert isinstance(found.exception, InputError)
    assert "no sweep" in str(found.exception)


def test_a_claim_runs_at_a_small_size(tmp_path):
    (tmp_path / "scenarios").mkdir()
    for name in ("utility.toml", "scenarios/resnet_26m.toml"):
        text = (SWEEPS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("seeds = 32", "seeds = 3"), encoding="utf-8")
    asked = ["published", str(tmp_path), "--only", "g", "--out", str(tmp_path / "out"), "--json"]
    told = json.loads(CliRunner().invoke(app, asked).stdout)
    assert [each["verdict"] for each in told] == [REPRODUCED]
    assert told[0]["runs"] == 3 * 156
    stops = {each["what"]: each["figure"] for each in told[0]["findings"][2::3]}
    assert 10 < stops["powersgd: stops paying at, Gbit/s"] < 20
    assert 2 < stops["topk: stops paying at, Gbit/s"] < 5
