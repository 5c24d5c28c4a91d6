"""Choices, phase diagrams and sensitivities over frames whose answer is known."""

import io
import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jaxwan.analysis.best import best, judge
from jaxwan.analysis.outcomes import prefers_larger
from jaxwan.analysis.phase import axis_text, phase, phase_records, render_phase
from jaxwan.analysis.phase_plot import Mark, plot_phase
from jaxwan.analysis.places import Question, place_of
from jaxwan.analysis.sensitivity import render_sensitivity, sensitivity
from jaxwan.analysis.tornado_plot import drawable, plot_tornado
from jaxwan.analysis.verdict import factor, times
from jaxwan.analysis.wording import config_labels, setting_text, setting_title
from jaxwan.stats.intervals import Interval

BANDWIDTHS, DELAYS, SEEDS = (1e5, 1e6, 1e7, 1e8), (0.001, 0.03, 0.3), 6
WAYS = (("sync", np.nan, 8e6, 100), ("diloco", 10, 8e6, 10), ("diloco", 50, 8e6, 2))


def seconds(way, bandwidth, delay, luck):
    """Return a time in which few exchanges pay where links are thin or long, and cost steps."""
    name, local, payload, exchanges = way
    wasted = 0.0 if name == "sync" else 0.5 * local
    return (20 + wasted + exchanges * (payload / bandwidth + 2 * delay)) * luck


def frame_of(noise=0.01, limit=math.inf, **columns):
    """Return runs of three ways over a grid; luck is the seed's, noise the run's own."""
    rng = np.random.default_rng(0)
    rows = []
    for way, bandwidth, delay, seed in itertools.product(WAYS, BANDWIDTHS, DELAYS, range(SEEDS)):
        luck = np.random.default_rng(seed).lognormal(0, 0.3) * rng.lognormal(0, noise)
        time = seconds(way, bandwidth, delay, luck)
        rows.append({
            "config_id": f"{way[:2]} {bandwidth:g} {delay:g}", "seed": seed,
            "strategy": way[0], "strategy.local_steps": way[1],
            "link.bandwidth_bps": bandwidth, "link.delay_s": delay, "time_s": min(time, limit),
            "time_to_target_s": time if time < limit else np.nan, "reached": time < limit,
            "loss_final": 0.1, "status": "ok", "samples_per_s": 1 / time, **columns,
        })  # fmt: skip
    return pd.DataFrame(rows)


def text_of(renderable, width=100):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def two(a, b, metric="time_s", **more):
    """Return the verdict on two configurations with the given values."""
    names = ["a"] * len(a) + ["b"] * len(b)
    runs = pd.DataFrame({
        "seed": [*range(len(a)), *range(len(b))], metric: [*a, *b], "config_id": names,
        "compressor": names, **more,
    })  # fmt: skip
    question = Question(metric, prefers_larger(metric), 0.95, 0.05)
    return judge(place_of(runs, {}, ["compressor"], question), question).verdict


def test_pairs_tell_apart_what_their_spread_would_hide():
    luck = np.random.default_rng(1).lognormal(0, 1.0, 12)
    found = two(luck, 1.1 * luck * np.random.default_rng(2).lognormal(0, 0.01, 12))
    assert (found.winner, found.tied) == ("a", [])
    assert found.ratio.low < 1.1 < found.ratio.high
    assert "% sooner than b" in found.sentence
    shuffled = two(luck, 1.1 * luck[::-1])
    assert shuffled.tied == ["b"]
    assert "a tie" in shuffled.sentence


def test_more_is_better_where_it_is():
    high, low = np.arange(2.0, 8.0), np.arange(1.0, 7.0)
    assert two(high, low).winner == "b"
    assert two(high, low, metric="samples_per_s").winner == "a"
    assert two(high, low, metric="samples_per_s").ratio.low > 1
    assert two(high - 5, low - 5, metric="accuracy_final").winner == "a"  # no ratio, a difference
    assert not two(high - 5, low - 5, metric="accuracy_final").tied


def test_a_target_never_reached_is_worse_than_any_time():
    never = {"reached": [True] * 8 + [False] * 8, "time_s": [60.0] * 16}
    times_a = np.linspace(30.0, 59.0, 8)
    found = two(times_a, [np.nan] * 8, metric="time_to_target_s", **never)
    assert (found.winner, found.tied) == ("a", [])
    reached = [True] * 8 + [True] * 3 + [False] * 5
    some = two([50.0] * 8, [1.0, 1.0, 1.0, *[np.nan] * 5], metric="time_to_target_s",
               reached=reached, time_s=[300.0] * 16)  # fmt: skip
    assert (some.winner, some.tied) == ("a", [])
    few = two([5.0, 5.0, np.nan], [np.nan] * 3, metric="time_to_target_s",
              reached=[True, True, *[False] * 4])  # fmt: skip
    assert not few.tied
    swapped = two([np.nan] * 3, [5.0, 5.0, np.nan], metric="time_to_target_s",
                  reached=[False] * 3 + [True, True, False])  # fmt: skip
    assert (swapped.winner, swapped.tied) == ("b", [])
    rare = two([5.0, np.nan, np.nan], [np.nan] * 3, metric="time_to_target_s",
               reached=[True, *[False] * 5], time_s=[9.0] * 6)  # fmt: skip
    assert (rare.winner, rare.tied) == ("a", ["b"])
    nobody = two([np.nan] * 3, [np.nan] * 3, metric="time_to_target_s", reached=[False] * 6,
                 time_s=[9.0] * 6)  # fmt: skip
    assert (nobody.winner, nobody.runner_up, nobody.tied) == (None, None, [])
    assert nobody.sentence == "No configuration reaches the target in the sweep."


def test_what_accepts_nothing_has_no_speed():
    assert two([0.0] * 4, [0.1] * 4, metric="samples_per_s").winner == "b"
    assert two([0.0, 9.0, 9.0, 9.0], [5.0] * 4, metric="steps_per_s").winner == "a"
    assert two([0.0] * 4, [0.0] * 4, metric="samples_per_s").winner is None
    mixed = two([0.0, 1.0, 0.0, 1.0], [0.6] * 4, metric="throughput_ratio")
    assert mixed.winner == "b"  # not 1.0, the mean of those that have a speed


def test_what_diverges_has_no_loss_and_one_seed_decides_nothing():
    status = ["ok"] * 4 + ["diverged"] * 4
    found = two([2.0] * 4, [0.1] * 4, metric="loss_final", status=status)
    assert (found.winner, found.tied) == ("a", [])
    swapped = two([0.1] * 4, [2.0] * 4, metric="loss_final", status=status[::-1])
    assert (swapped.winner, swapped.tied) == ("b", [])
    assert "Use b: it is ahead of a, and" in swapped.sentence
    equal = two([2.0, 0.1], [2.0, 2.0], metric="loss_final", status=["ok", "diverged", "ok", "ok"])
    assert (equal.winner, equal.tied) == ("b", ["a"])
    assert two([1.0], [2.0]).tied == ["b"]
    twice = pd.DataFrame({"seed": [0, 0], "time_s": [1.0, 2.0], "config_id": ["a", "a"]})
    with pytest.raises(ValueError, match="one configuration and one seed"):
        place_of(twice, {}, [], Question("time_s", False, 0.95, 0.05))


def test_a_ratio_has_the_digits_that_its_interval_needs():
    assert times(Interval(2.134, 1.9, 2.4, 8)) == ("2.13", "1.90", "2.40")
    assert times(Interval(1.0627, 1.0603, 1.0646, 8)) == ("1.063", "1.060", "1.065")
    assert factor(Interval(2.1342, 2.1339, 2.1346, 8), 0.95)[1] == "95 % interval 2.134–2.135"
    assert factor(Interval(1.0, 1.0, 1.0, 8), 0.95)[1] == "95 % interval 0.0 to 0.0 %"
    assert factor(Interval(1.0627, 1.0626, 1.0628, 8), 0.95) == (
        "6.27 %", "95 % interval 6.26 to 6.28 %",
    )  # fmt: skip


def test_the_map_shows_the_winner_of_every_place():
    found = phase(frame_of())
    assert (found.x, found.y) == ("link.bandwidth_bps", "link.delay_s")
    for (row, column), cell in found.cells.items():
        place = (found.columns[column], found.rows[row], 1.0)
        cost = {way: seconds(way, *place) for way in WAYS}
        best = min(cost, key=cost.__getitem__)
        second = sorted(cost.values())[1] / cost[best]
        label = "sync" if best[0] == "sync" else f"diloco (local steps {best[1]})"
        if second > 1.04:  # four times the noise of a paired mean
            assert cell.verdict.winner == label, place
            assert not cell.verdict.tied, place
    assert set(found.shares()) == {"sync", "diloco (local steps 10)", "diloco (local steps 50)"}
    assert sum(found.shares().values()) == 12


def test_a_map_and_best_decide_alike():
    frame = frame_of(noise=0.4, limit=60.0)
    cells = {(cell.verdict.place["link.bandwidth_bps"], cell.verdict.place["link.delay_s"]):
             cell.verdict for cell in phase(frame).cells.values()}  # fmt: skip
    found = best(frame)
    assert len(found.verdicts) == len(cells) == 12
    for one in found.verdicts:
        cell = cells[one.place["link.bandwidth_bps"], one.place["link.delay_s"]]
        assert (cell.winner, cell.tied, cell.sentence) == (one.winner, one.tied, one.sentence)
    assert any(one.tied for one in found.verdicts)
    assert any(one.winner is None for one in found.verdicts)


def test_ties_and_places_without_a_winner_are_marked(tmp_path):
    unsure = phase(frame_of(noise=0.8))
    assert any(cell.verdict.tied for cell in unsure.cells.values())
    assert re.search(r" [ABC][abc]\+? ", text_of(render_phase(unsure)))
    found = phase(frame_of(limit=100.0))
    text = text_of(render_phase(found, "Which?"))
    assert text.split("\n")[1].split()[2] == "·"  # nobody gets there over the thinnest link
    assert "600 ms" in text  # round trip
    assert axis_text("link.bandwidth_bps", 3.1623e6) == "3.16 Mbit/s"
    marks = [Mark("here", 1e6, 0.03), Mark("far away", 1e20, 9.0)]
    assert plot_phase(found, tmp_path / "deep" / "map.png", "Which?", marks).stat().st_size > 9000
    told = phase_records(found)
    assert len(told["places"]) == 12
    assert any(place["best"] is None for place in told["places"])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({"x": "nothing"}, "no number that the sweep varies"), ({"metric": "nothing"}, "no numeric"),
     ({"x": "link.delay_s", "y": "link.delay_s"}, "both axes"), ({"by": "attack"}, "does not vary"),
     ({"x": "strategy.local_steps"}, "vary too|nothing varies|tells them apart")],
)  # fmt: skip
def test_a_map_that_makes_no_sense_is_refused(arguments, problem):
    whole = frame_of()
    if arguments.get("x") == "strategy.local_steps":
        arguments = arguments | {"y": "link.delay_s", "by": "strategy"}
    with pytest.raises(ValueError, match=problem):
        phase(whole, **arguments)


def test_a_place_where_one_configuration_ran_is_nobodys_win(tmp_path):
    whole = frame_of()
    here = (whole["link.delay_s"] == 0.3) & (whole["link.bandwidth_bps"] == 1e8)
    found = phase(whole[~here | (whole["strategy"] == "sync")])
    lone = found.cells[2, 3].verdict
    assert (lone.winner, lone.runner_up, lone.tied) == ("sync", None, [])
    assert "nothing to choose here: sync is the only" in lone.sentence
    assert sum(found.shares().values()) == 11
    assert "A" in text_of(render_phase(found))
    assert plot_phase(found, tmp_path / "map.png").exists()


def test_one_swept_number_makes_no_map():
    few = frame_of()
    few = few[(few["link.delay_s"] == 0.03) & (few["strategy"] == "sync")]
    with pytest.raises(ValueError, match="two numbers"):
        phase(few)


def test_main_effects_are_those_the_runs_were_made_with(tmp_path):
    rows = []
    for a, b, kind, seed in itertools.product((1, 2, 4), (1, 3), ("x", "y"), range(8)):
        rng = np.random.default_rng([a, b, kind == "x", seed])
        luck = np.random.default_rng(seed).lognormal(0, 1.0)
        time = a**-1.5 * b**0.2 * (1.5 if kind == "y" else 1) * luck * rng.lognormal(0, 0.01)
        rows.append({"seed": seed, "a": a, "b": b, "kind": kind, "time_s": time})
    table = sensitivity(pd.DataFrame(rows), "time_s")
    assert list(table["setting"]) == ["a", "kind", "b"]
    for (_, row), truth in zip(table.iterrows(), (4**-1.5, 1.5, 3**0.2), strict=True):
        assert row["effect_lo"] < truth < row["effect_hi"]
        assert row["effect_hi"] / row["effect_lo"] < 1.02  # pairing takes the seed's luck out
        assert row["effect"] == pytest.approx(row["at_high"] / row["at_low"])
    assert table["places"].tolist() == [4, 6, 6]
    assert table["gain"].iloc[0] == pytest.approx(8, rel=0.02)
    assert "a" in text_of(render_sensitivity(table))
    assert plot_tornado(table, tmp_path / "t.png", "Which?").read_bytes()[:4] == b"\x89PNG"


def test_an_interval_is_over_seeds_whatever_the_number_of_places():
    rows = [
        {"seed": s, "a": a, "b": b, "time_s": 2.0 ** (a * (1 + 0.5 * (-1) ** s)) * (1 + b)}
        for s in range(4) for a in (0, 1) for b in range(50)
    ]  # fmt: skip
    row = sensitivity(pd.DataFrame(rows), "time_s").set_index("setting").loc["a"]
    spread = 0.5 * math.sqrt(4 / 3) / 2 * 3.1824  # of the exponent: Student's t, three degrees
    assert math.log2(row["effect_hi"]) == pytest.approx(1 + spread, rel=1e-3)


def test_a_design_is_measured_from_its_base():
    rows = [
        {"seed": seed, "speed ×": s, "size ×": z, "time_s": (100 / s + 10 * z) * (1 + 0.1 * seed)}
        for s, z in ((1.0, 1.0), (0.25, 1.0), (4.0, 1.0), (1.0, 0.25), (1.0, 4.0))
        for seed in range(3)
    ]
    table = sensitivity(pd.DataFrame(rows), "time_s", base={"speed ×": 1.0, "size ×": 1.0})
    speed = table.iloc[0]
    assert (speed["setting"], speed["low"], speed["high"]) == ("speed ×", "÷4", "×4")
    assert speed["at_low"] == pytest.approx(410 / 110)
    assert speed["at_high"] == pytest.approx(35 / 110)
    assert table["places"].tolist() == [1, 1]


def test_levels_that_never_get_there_are_said_not_averaged():
    table = sensitivity(frame_of(limit=300.0))
    row = table[table["setting"] == "link.bandwidth_bps"].iloc[0]
    assert row["without"] == ["100 kbit/s"]
    assert row["low"] == "1 Mbit/s"
    assert "under half have a value at 100 kbit/s" in text_of(render_sensitivity(table), 200)


def test_values_that_are_not_positive_give_differences():
    rows = [{"seed": s, "a": a, "x": a + 0.1 * s - 1.5} for s in range(4) for a in (0, 1)]
    table = sensitivity(pd.DataFrame(rows), "x")
    assert not table["is_ratio"].iloc[0]
    assert table["effect"].iloc[0] == pytest.approx(1.0)
    assert sensitivity(pd.DataFrame(rows)[:1], "x").empty
    assert drawable(table)["effect"].tolist() == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("name", "value", "title", "text"),
    [
        ("link.bandwidth_bps", 5e7, "bandwidth", "50 Mbit/s"),
        ("link.delay_s", 0.05, "delay", "50 ms"),
        ("strategy.local_steps", 25, "local steps (H)", "25"),
        ("compressor", None, "compressor", "–"),
        ("compressor.ratio", 0.01, "compressor ratio", "0.01"),
        ("x ×", 0.5, "x", "÷2"),
    ],
)
def test_settings_read_as_people_say_them(name, value, title, text):
    assert setting_title(name) == title
    assert setting_text(name, value) == text


def test_names_hold_what_varies_and_no_more():
    frame = frame_of(scenario="simple")
    names = config_labels(frame, ["scenario", "strategy", "strategy.local_steps"])
    assert set(names) == {"sync", "diloco (local steps 10)", "diloco (local steps 50)"}
    assert set(config_labels(frame, ["scenario"])) == {""}
