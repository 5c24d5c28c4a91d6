"""The best of a sweep: who wins, who ties, what remains possible, and how it reads."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from jaxwan.analysis.best import best
from jaxwan.analysis.best_table import best_records, render_best
from jaxwan.analysis.censored import censored_summary, common_horizon
from jaxwan.analysis.places import roles, told_apart
from jaxwan.analysis.verdict import sureness, verdict
from jaxwan.cli import app
from jaxwan.commands.shell import share_of
from jaxwan.experiment.errors import InputError
from jaxwan.results import Results
from jaxwan.stats.best import better_at_most, gaps, probability_best, robust, surely_within
from jaxwan.stats.intervals import Interval
from jaxwan.stats.paired import share_bound, share_tail
from jaxwan.store import Store


def runs_of(times, n=64, seed=0, noise=0.1, metric="time_s", **settings):
    """Make runs of compressors whose mean metric is `times`, with luck shared by seed."""
    rng = np.random.default_rng(seed)
    luck = rng.normal(1, 0.2, n)
    parts = []
    for index, (name, mean) in enumerate(times.items()):
        own = mean * (luck + rng.normal(0, noise, n))
        identity = {"compressor": name, **settings}
        part = pd.DataFrame({"seed": np.arange(n), "status": "ok", metric: own}).assign(**identity)
        key = "-".join(map(str, identity.values()))
        parts.append(part.assign(config_id=key, config_index=index))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(reached=True) if metric == "time_to_target_s" else frame


def text_of(found, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(render_best(found))
    return console.file.getvalue()


def test_the_winner_and_how_sure_it_is():
    frame = runs_of({"none": 20.0, "int8": 10.0, "topk": 12.0})
    found = best(frame, "time_s")
    one = found.verdicts[0]
    assert (one.winner, one.runner_up, one.tied) == ("int8", "topk", [])
    assert one.ratio.low < 1.2 < one.ratio.high
    assert one.regret == 0
    assert one.probability > 0.999
    assert one.sure > 0.999
    assert list(found.table["setting"]) == ["int8", "topk", "no compressor"]
    assert found.sentence == one.sentence
    assert found.sentence.startswith("Use int8: it ends ")
    assert "with more than 99.9 % confidence nothing else in the sweep" in found.sentence


def test_ties_are_told_and_bounded():
    frame = runs_of({"none": 10.0, "int8": 10.02, "topk": 14.0}, seed=3)
    one = best(frame, "time_s").verdicts[0]
    assert set(one.tied) | {one.winner} == {"int8", "no compressor"}
    assert 0 < one.regret < 0.1
    assert 0.05 < one.probability < 0.95 or one.probability > 0.5
    assert "a tie" in one.sentence
    row = best(frame, "time_s").table.set_index("setting").loc["topk"]
    assert not row["tied"]
    assert row["p_holm"] < 1e-6


def test_more_is_better_for_a_throughput_unless_told():
    frame = runs_of({"none": 10.0, "int8": 20.0}, metric="samples_per_s")
    assert best(frame, "samples_per_s").verdicts[0].winner == "int8"
    assert "faster than no compressor" in best(frame, "samples_per_s").sentence
    assert best(frame, "samples_per_s", larger=False).verdicts[0].winner == "no compressor"
    row = best(frame, "samples_per_s").table.iloc[0]
    assert row["lo"] < row["mean"] < row["hi"]


def test_runs_that_never_reach_the_target_count_as_the_longest_watch():
    frame = runs_of({"none": 10.0, "int8": 8.0}, metric="time_to_target_s").assign(time_s=50.0)
    frame.loc[(frame["compressor"] == "int8") & (frame["seed"] < 20), "reached"] = False
    found = best(frame)
    assert found.verdicts[0].winner == "no compressor"
    row = found.table.set_index("setting").loc["int8"]
    own = frame[frame["compressor"] == "int8"]
    expected = np.where(own["reached"], own["time_to_target_s"], 50.0).mean()
    assert (row["mean"], row["filled"]) == (pytest.approx(expected), 20)
    assert "20 runs did not reach the target" in text_of(found)
    assert "≥ " in text_of(found)
    assert "reached by" in text_of(found)


def watched(own, until, status="ok"):
    """Make runs of a winner that gets there at 10 s and of a rival, watched `until` only."""
    frame = runs_of({"none": 10.0, "int8": 9.0}, metric="time_to_target_s", noise=0.02)
    rival = frame["compressor"] == "int8"
    late = rival & (frame["seed"] >= own)
    return frame.assign(
        time_s=np.where(rival, until, 12.0 + frame["time_to_target_s"]),
        reached=~late, status=np.where(late, status, "ok"),
        time_to_target_s=frame["time_to_target_s"].where(~late).clip(upper=until if own else None),
    )  # fmt: skip


def test_what_was_hardly_watched_is_not_known():
    """The rival was watched until 5 s, half of what the winner takes: it may be twice as fast."""
    found = best(watched(0, 5.0))
    one = found.verdicts[0]
    assert (one.winner, one.tied) == ("no compressor", ["int8"])
    assert one.sure < 1e-6
    assert np.isnan([one.probability, one.ratio.mean]).all()
    assert one.unknown == "int8 was watched only until 5.00 s"
    assert one.sentence == (
        "Use no compressor: it is ahead of int8, a tie, and what else may be better is not known: "
        "int8 was watched only until 5.00 s."
    )
    assert "not known: int8 was watched only until 5.00 s" in found.notes
    row = found.table.set_index("setting").loc["int8"]
    assert row["better_at_most"] == pytest.approx(0.5, abs=0.1)
    assert row["watched_s"] == 5
    json.dumps(best_records(found), allow_nan=False)
    text_of(found)


def test_what_was_watched_for_long_or_never_will_get_there_is_known():
    for frame in (watched(0, 30.0), watched(0, 5.0, "diverged"), watched(0, 5.0, "no_workers")):
        one = best(frame).verdicts[0]
        assert (one.winner, one.tied, one.unknown) == ("no compressor", [], None)
        assert one.sure > 0.999
        assert one.probability > 0.999


def test_a_few_unreached_runs_count_as_their_own_watch_in_bounds():
    """Seven in eight get there at 9 s, the rest was watched until 9.5 s: they may be as soon."""
    frame = watched(56, 40.0)
    assert best(frame).verdicts[0].unknown is None
    one = best(frame.assign(time_s=frame["time_s"].where(frame["reached"], 9.5))).verdicts[0]
    assert one.winner == "no compressor"
    assert one.unknown == "int8 was watched only until 9.50 s"
    assert one.tied == ["int8"]


def flags_of(shares, n=64, metric="success"):
    """Make flags that hold in the first of n seeds."""
    parts = [pd.DataFrame({"seed": np.arange(n), "status": "ok", metric: np.arange(n) < hits,
                           "config_id": name, "config_index": i, "compressor": name})
             for i, (name, hits) in enumerate(shares.items())]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_flags_that_never_differ_are_not_certain():
    for hits in (0, 8):
        one = best(flags_of({"a": hits, "b": hits}, n=8), "success").verdicts[0]
        assert one.tied
        assert one.sure < 0.9
        assert one.regret > 0.2
    rows = best(flags_of({"a": 0, "b": 0}, n=8), "success").table
    assert not np.signbit(rows[["mean", "lo", "hi", "better_at_most"]].to_numpy(float)).any()
    assert (rows["hi"] > 0.2).all()
    far = best(flags_of({"a": 64, "b": 20}), "success").verdicts[0]
    assert (far.winner, far.tied) == ("a", [])
    assert far.sure > 0.999
    same = runs_of({"none": 1.0, "int8": 1.0}, noise=0.0)
    assert best(same, "time_s").verdicts[0].sure == 1


def brute(a, b, n, margin):
    """Return the p-value with the likelihood under the margin maximized on a grid."""
    only_b = np.linspace(1e-7, (1 - margin) / 2 - 1e-7, 200_001)
    likelihood = (a * np.log(only_b + margin) + b * np.log(only_b)
                  + (n - a - b) * np.log(1 - 2 * only_b - margin))  # fmt: skip
    spread = n * (2 * only_b[np.argmax(likelihood)] + margin - margin**2)
    return stats.norm.cdf((a - b - n * margin) / np.sqrt(spread))


def test_bounds_of_paired_shares_are_tangos():
    """Without pairs that differ Wilson's, without a margin McNemar's, else by brute force."""
    for n, tail in ((8, 0.05), (64, 0.001)):
        z2 = stats.norm.isf(tail) ** 2
        assert share_bound(0, 0, n, tail) == pytest.approx(z2 / (n + z2))
    a, b = 9, 3
    assert share_tail(a, b, 30, 0.0) == pytest.approx(stats.norm.cdf(6 / np.sqrt(12)))
    margin = share_bound(a, b, 30, 0.01)
    assert share_tail(a, b, 30, margin) == pytest.approx(0.01)
    assert share_tail(a, b, 30, 1.0) == 0
    for margin in (0.05, 0.3):
        assert share_tail(a, b, 30, margin) == pytest.approx(brute(a, b, 30, margin), abs=1e-5)


def test_a_diverged_loss_counts_as_the_worst():
    frame = runs_of({"none": 0.5, "int8": 0.4}, metric="loss_final")
    frame.loc[(frame["compressor"] == "int8") & (frame["seed"] < 30), "status"] = "diverged"
    found = best(frame, "loss_final")
    assert found.verdicts[0].winner == "no compressor"
    assert np.isfinite(found.table["mean"]).all()


def places():
    """Make two networks: int8 wins on the slow one, none on the fast one, topk nowhere by far."""
    slow = runs_of({"none": 100.0, "int8": 20.0, "topk": 22.0}, challenge="slow")
    fast = runs_of({"none": 1.0, "int8": 1.6, "topk": 1.1}, challenge="fast")
    return pd.concat([slow, fast], ignore_index=True)


def test_every_place_has_its_own_verdict():
    found = best(places(), "time_s")
    assert [(one.place["challenge"], one.winner) for one in found.verdicts] == [
        ("slow", "int8"), ("fast", "no compressor"),
    ]  # fmt: skip
    assert found.sentence == "Of 2 places, best is int8 at 1, no compressor at 1."


def test_a_place_with_one_setting_has_nothing_to_choose():
    whole = places()
    lone = runs_of({"int8": 3.0}, challenge="lone")
    found = best(pd.concat([whole, lone], ignore_index=True), "time_s")
    assert found.sentence == (
        "Of 3 places, best is int8 at 1, no compressor at 1; at 1 there is nothing to choose: a "
        "single setting stands there."
    )
    one = found.verdicts[2]
    assert one.sentence == "There is nothing to choose here: int8 is the only configuration."
    row = found.table[found.table["challenge"] == "lone"].iloc[0]
    assert not row["winner"]
    assert not row["tied"]
    assert np.isnan(row["probability"])
    assert "nothing to choose here" in text_of(found)
    rest = best(pd.concat([whole[whole["challenge"] == "slow"], lone]), "time_s")
    assert rest.sentence.startswith("Use int8: it is the best at 1 of 2 places; at 1 there is")
    alone = [lone, lone.assign(challenge="quiet", config_id="q", compressor="topk")]
    assert best(pd.concat(alone), "time_s").sentence == (
        "There is no choice at any of 2 places; at 2 there is nothing to choose: a single setting "
        "stands there."
    )


def test_places_where_nobody_reaches_the_target_have_no_winner():
    frame = runs_of({"none": 10.0, "int8": 8.0}, metric="time_to_target_s", challenge="easy")
    hard = frame.assign(challenge="hard", config_id=frame["config_id"] + "h", reached=False)
    found = best(pd.concat([frame, hard]).assign(time_s=50.0))
    assert [one.winner for one in found.verdicts] == ["int8", None]
    assert found.sentence == (
        "Use int8: it is the best at 1 of 2 places; at 1 no configuration reaches the target."
    )
    more = hard.assign(challenge="harsh", config_id=hard["config_id"] + "h")
    none = best(pd.concat([hard, more]))
    assert none.sentence == "No configuration reaches the target at any of 2 places."
    assert none.notes[-1].startswith("256 runs did not reach the target")
    assert json.dumps(best_records(found), allow_nan=False)
    assert "No configuration reaches the target here." in text_of(found)


def test_what_is_best_or_tied_at_most_places_is_said():
    even = {"none": 10.0, "int8": 10.01}
    parts = [runs_of({"none": 10.0, "int8": 14.0}, challenge="a"),
             *(runs_of(even, challenge=name, seed=seed, noise=0.3)
               for seed, name in enumerate("bcdef"))]  # fmt: skip
    found = best(pd.concat(parts, ignore_index=True), "time_s")
    assert all(one.tied for one in found.verdicts[1:])
    assert len({one.winner for one in found.verdicts}) == 2
    assert found.sentence.endswith("; no compressor is best or tied at 6.")


def test_robust_choices_over_an_uncertain_place():
    found = best(places(), "time_s", over="challenge")
    rows = found.robust.set_index("setting")
    assert rows.loc["int8", "mean_winner"]
    assert rows.loc["topk", "regret_winner"]
    assert rows.loc["topk", "regret"] == pytest.approx(0.1, abs=0.05)
    assert rows.loc["no compressor", "regret"] == pytest.approx(4, abs=0.5)
    assert rows["regret_probability"].sum() == pytest.approx(1)
    assert rows.loc["topk", "regret_probability"] > 0.95
    assert found.sentence.startswith("Over 2 values of challenge: ")
    assert "worst decile" in text_of(found)


def test_equal_settings_share_the_robust_choice():
    twins = places().query("compressor != 'topk'")
    other = twins[twins["compressor"] == "int8"]
    same = other.assign(compressor="topk", config_id="t" + other["config_id"])
    frame = pd.concat([other, same], ignore_index=True)
    rows = best(frame, "time_s", over="challenge").robust
    for name in ("mean", "worst_decile", "regret"):
        np.testing.assert_allclose(rows[f"{name}_probability"], [0.5, 0.5])


def test_robust_measures_match_their_definitions():
    values = np.random.default_rng(1).exponential(size=(3, 4, 50))
    found = robust(values)
    flat = np.sort(values.reshape(3, -1), axis=1)
    np.testing.assert_allclose(found.worst_decile, flat[:, -20:].mean(axis=1))
    means = values.mean(axis=2)
    np.testing.assert_allclose(found.regret, (means / means.min(axis=0) - 1).max(axis=1))
    twice = robust(np.repeat(values[:, :, :25], 2, axis=2))
    again = robust(values, np.repeat([2.0, 0.0], 25))
    for one, other in zip(twice, again, strict=True):
        np.testing.assert_allclose(one, other)


def test_bounds_are_bonferronis_paired_t():
    values = np.random.default_rng(2).normal(10, 1, (4, 30)) + np.arange(4)[:, None] / 4
    found = gaps(values, 0)
    bound = better_at_most(found, 0, 0.9)
    for j in (1, 3):
        gap = values[0] - values[j]
        expected = gap.mean() + stats.t.ppf(1 - 0.1 / 3, 29) * stats.sem(gap)
        assert bound[j] == pytest.approx(expected)
    margin = bound.max()
    assert surely_within(found, 0, margin) >= 0.9
    assert surely_within(found, 0, margin / 2) < surely_within(found, 0, margin)


def test_probabilities_agree_with_the_closed_form_and_share_ties():
    rng = np.random.default_rng(3)
    a = rng.normal(0, 1, 100)
    b = a + rng.normal(0.02, 0.1, 100)
    gap = b - a
    expected = stats.norm.cdf(gap.mean() / (gap.std(ddof=1) / 10))
    assert probability_best(np.array([a, b]))[0] == pytest.approx(expected, abs=0.012)
    np.testing.assert_allclose(probability_best(np.array([a, a, a + 9])), [0.5, 0.5, 0])
    few = np.full(100, np.nan)
    assert np.isnan(probability_best(np.array([a, few]))).all()


def test_seeds_that_only_some_have_are_used_where_both_have_them():
    frame = runs_of({"none": 20.0, "int8": 10.0, "topk": 10.1}, n=128)
    fewer = frame[(frame["compressor"] != "none") | (frame["seed"] < 64)]
    found = best(fewer, "time_s")
    assert found.table.set_index("setting").loc["no compressor", "n"] == 64
    assert found.notes[0].startswith("64 to 128 seeds")
    whole, part = best(frame, "time_s").verdicts[0], found.verdicts[0]
    assert whole.ratio == part.ratio


def test_what_is_given_and_what_is_chosen():
    frame = places().assign(**{"link.bandwidth_bps": np.tile([1e6, 1e7], 192)})
    frame = frame.assign(config_id=frame["config_id"] + frame["link.bandwidth_bps"].map(str))
    assert roles(frame) == (["compressor"], ["challenge", "link.bandwidth_bps"])
    assert roles(frame, over="challenge")[1] == ["challenge", "link.bandwidth_bps"]
    assert roles(frame, ["challenge"])[0] == ["challenge"]
    one = frame[frame["compressor"] == "int8"]
    assert roles(one) == (["link.bandwidth_bps"], ["challenge"])
    assert roles(one, ["challenge"]) == (["challenge"], ["link.bandwidth_bps"])
    worlds = one.drop(columns="link.bandwidth_bps")
    assert told_apart(worlds) == ([], ["challenge"])
    with pytest.raises(ValueError, match=r"only challenge varies.*--choose challenge"):
        roles(worlds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "time_z"}, "did you mean 'time_s'"),
        ({"metric": "seed"}, "no metric 'seed'"),
        ({"over": "chalenge"}, "did you mean 'challenge'"),
        ({"over": "compressor"}, "nothing to choose|cannot be both|no setting was run"),
        ({"confidence": 1.0}, "strictly between"),
        ({"delta": -0.1}, "zero or more"),
        ({"choose": ["optimizer"]}, "no setting 'optimizer'"),
    ],
)
def test_wrong_questions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        best(places(), **{"metric": "time_s", **change})


def test_nothing_to_choose_from():
    with pytest.raises(ValueError, match="nothing to choose from"):
        best(runs_of({"none": 1.0}), "time_s")
    with pytest.raises(ValueError, match="no runs"):
        best(places().iloc[:0], "time_s")


def test_sentences():
    ratio = Interval(2.1, 1.9, 2.4, 64)
    said = verdict("X", "time_to_target_s", runner_up="Y", ratio=ratio, sure=0.984, margin=0.05)
    assert said == (
        "Use X: it reaches the target 2.1× sooner than Y (95 % interval 1.9–2.4), and with 98 % "
        "confidence nothing else in the sweep is better by more than 5 %."
    )
    close = Interval(1.042, 1.039, 1.045, 64)
    said = verdict("X", "cost_usd", runner_up="Y", ratio=close, sure=0.3, tied=["Y", "Z"])
    assert "costs 4.2 % less than Y (95 % interval 3.9 to 4.5 %), though 2 others tie" in said
    assert "it takes more seeds to rule out" in said
    assert verdict("X", "time_s") == (
        "There is nothing to choose in the sweep: X is the only configuration."
    )
    assert verdict(None, "loss_final", among="here") == "No configuration has a final loss here."
    assert verdict(None, "samples_per_s") == (
        "No configuration gets anything accepted in the sweep."
    )
    assert [sureness(x) for x in (0.9849, 0.9951, 0.99996)] == [
        "98 %",
        "99.5 %",
        "more than 99.9 %",
    ]


def test_tables_read_well_at_any_width():
    for width in (80, 120):
        text = text_of(best(places(), "time_s"), width)
        assert max(map(len, text.splitlines())) <= width
        assert "p best" in text
        assert "slow" in text


def test_medians_and_restricted_means_join_the_summary():
    frame = runs_of({"none": 10.0, "int8": 8.0}, metric="time_to_target_s")
    frame = frame.assign(time_s=12.0, scenario="simple")
    late = frame["time_to_target_s"] > 12
    frame = frame.assign(reached=~late, time_to_target_s=frame["time_to_target_s"].where(~late))
    found = censored_summary(frame)["none"]
    own = frame[frame["compressor"] == "none"]
    assert found["time_to_target_s_horizon"] == 12
    capped = own["time_to_target_s"].fillna(12.0)
    assert found["time_to_target_s_restricted"] == pytest.approx(capped.mean())
    assert found["time_to_target_s_km50_lo"] < found["time_to_target_s_km50"] < 12
    summary = Results(frame).summary(["time_to_target_s"]).set_index("config_id")
    assert summary.loc["none", "time_to_target_s_restricted"] == pytest.approx(capped.mean())


def test_a_run_whose_workers_are_gone_shortens_no_horizon():
    frame = runs_of({"none": 10.0}, metric="time_to_target_s").assign(time_s=99.0)
    frame.loc[0, ["reached", "time_s", "status"]] = [False, 0.5, "no_workers"]
    found = censored_summary(frame)["none"]
    assert found["time_to_target_s_horizon"] > 5
    times = frame["time_to_target_s"].to_numpy()[1:]
    expected = (times.sum() + found["time_to_target_s_horizon"]) / 64
    assert found["time_to_target_s_restricted"] == pytest.approx(expected)
    assert np.isnan(common_horizon([]))


def test_the_command_answers_and_refuses(tmp_path):
    Store.open(tmp_path / "s", {"sweep": {}, "chunks": []}).write("a", places())
    run = CliRunner()
    told = run.invoke(app, ["best", str(tmp_path / "s"), "--metric", "time_s", "--json"])
    data = json.loads(told.stdout)
    assert [one["winner"] for one in data["verdicts"]] == ["int8", "no compressor"]
    assert data["robust"] is None
    arguments = ["best", str(tmp_path / "s"), "--metric", "time_s", "--over", "challenge"]
    assert "Over 2 values" in run.invoke(app, arguments).stdout
    assert json.loads(run.invoke(app, [*arguments, "--json"]).stdout)["robust"]
    for wrong in (["--metric", "time_z"], ["--maximize", "--minimize"], ["--delta", "x"]):
        assert isinstance(
            run.invoke(app, ["best", str(tmp_path / "s"), *wrong]).exception, InputError
        )
    assert isinstance(run.invoke(app, ["best", str(tmp_path)]).exception, InputError)


def test_shares_are_read():
    assert (share_of("2%", ""), share_of(" 2 %", ""), share_of("0.02", "")) == (0.02, 0.02, 0.02)
    for wrong in ("two", "120%", "-1%", "nan"):
        with pytest.raises(InputError):
            share_of(wrong, "--delta")


def test_records_are_json():
    text = json.dumps(best_records(best(places(), "time_s", over="challenge")), allow_nan=False)
    assert json.loads(text)["metric"] == "time_s"
