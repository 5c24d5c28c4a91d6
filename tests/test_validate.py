"""The model stands beside its truths: every check is a gate, and every check can miss."""

import io
import json
import math
import subprocess
import sys
import types

import numpy as np
import pytest
from rich.console import Console

from jaxwan.validate import closed_forms, exchanges, frame, luck, measured, streaming
from jaxwan.validate.check import Check
from jaxwan.world.collectives import COLLECTIVES, rounds_log2

PARTS = {
    "streaming": streaming.checks,
    "diloco": measured.diloco_checks,
    "intellect": measured.intellect_checks,
    "wall_clock": measured.wall_clock_checks,
    "exchanges": exchanges.checks,
    "luck": luck.checks,
} | {part.__name__: part for part in closed_forms.PARTS}


@pytest.mark.parametrize("part", PARTS)
def test_the_model_meets_its_truths(part):
    found = PARTS[part]()
    assert found
    for check in found:
        assert math.isfinite(check.error), check
        assert check.n > 0, check
        assert check.passed, check


def test_another_payload_would_miss_the_published_table(monkeypatch):
    whole = tuple(
        row._replace(training=row.training._replace(traffic=1.0)) for row in streaming.TABLE_4
    )
    monkeypatch.setattr(streaming, "TABLE_4", whole)
    assert not streaming.checks()[0].passed


@pytest.mark.parametrize("name", COLLECTIVES)
def test_a_wrong_closed_form_is_caught(monkeypatch, name):
    right = COLLECTIVES[name]
    slower = right._replace(seconds=lambda bits, n, *link: right.seconds(bits, n + 1, *link))
    monkeypatch.setattr(exchanges, "COLLECTIVES", dict(COLLECTIVES) | {name: slower})
    assert not exchanges.collective_check(name).passed


@pytest.mark.parametrize("n", [2, 3, 7, 8])
def test_an_exchange_that_leaves_somebody_out_is_refused(n):
    play = exchanges.Play(exchanges.own_parts(n), 1.0, exchanges.Link(0.1, 1.0))
    play.round([exchanges.Send(i, (i + 1) % n, [i]) for i in range(n)], add=True)
    with pytest.raises(ValueError, match="left a contribution out"):
        play.end(np.ones((n, n), int))


def test_rounds_are_the_ceiling_of_the_logarithm():
    counts = np.arange(1, 2000)
    assert np.array_equal(rounds_log2(counts), [math.ceil(math.log2(n)) for n in counts])


@pytest.mark.parametrize("name", COLLECTIVES)
def test_a_lone_worker_exchanges_nothing(name):
    assert COLLECTIVES[name].seconds(1e9, 1, 0.1, 1e9) == 0
    assert COLLECTIVES[name].seconds(0.0, 4, 0.0, 1e9) == 0


def test_a_deviation_is_counted_in_standard_errors():
    sample = np.array([-1.0, 1.0] * 50)
    error = sample.std(ddof=1) / 10
    assert closed_forms.deviation(sample, 0.5) == pytest.approx(0.5 / error)
    assert closed_forms.deviation(sample, 0.5, bias=0.5) == 0
    assert closed_forms.deviation(np.ones(9), 2.0) == math.inf


@pytest.fixture
def two_groups(monkeypatch):
    """Put two small modules in the frame: one passes, one misses and draws."""

    def check(error):
        return Check("[bold]a truth", "a source", 3, error, 1.0, "factor")

    good = types.SimpleNamespace(TITLE="Good", checks=lambda: [check(0.5)])
    bad = types.SimpleNamespace(
        checks=lambda: [check(2.0), check(math.inf)], figure=lambda path: path.write_bytes(b"png")
    )
    monkeypatch.setattr(frame, "modules", lambda names: {"good": good, "bad": bad})


def test_the_frame_collects_tells_and_draws(two_groups, tmp_path):
    heard = []
    groups = frame.collect(heard.append)
    assert heard == ["Good", "bad"]
    assert frame.passed(groups[:1])
    assert not frame.passed(groups)
    assert [record["error"] for record in frame.records(groups)] == [0.5, 2.0, None]
    assert [record["passed"] for record in frame.records(groups)] == [True, False, False]
    json.dumps(frame.records(groups), allow_nan=False)
    console = Console(width=80, record=True, file=io.StringIO())
    for group in groups:
        console.print(frame.as_table(group))
    text = console.export_text()
    assert text.count("MISSED") == 2
    assert text.count("ok") == 1
    assert "[bold]a truth" in text
    assert frame.draw(tmp_path / "pictures") == [tmp_path / "pictures" / "bad.png"]


def test_a_miss_is_exit_code_one(two_groups, tmp_path, capsys):
    import typer

    from jaxwan.commands.validate import validate_command

    with pytest.raises(typer.Exit) as ended:
        validate_command(folder=tmp_path, as_json=True)
    assert ended.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_modules_that_are_not_there_are_left_out():
    assert list(frame.modules(("streaming", "no_such_truth", "measured"))) == [
        "streaming", "measured",
    ]  # fmt: skip
    assert {"streaming", "measured", "exchanges", "closed_forms"} <= set(frame.modules())


@pytest.mark.parametrize("module", [streaming, measured])
def test_pictures_are_drawn(module, tmp_path):
    module.figure(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_option_is_one_line():
    words = [sys.executable, "-m", "jaxwan.cli", "validate", "--loud"]
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_luck_that_depends_on_others_would_be_seen(monkeypatch):
    plain = luck.Run({(0, 0): 1.0, (1, 0): 2.0}, luck.spells(luck.experiment(), 0, 2))
    assert luck.differences(plain, plain) == (2 + 2 * 8, 0)
    other = plain._replace(computed={(0, 0): 1.5, (2, 0): 2.0})
    assert luck.differences(plain, other) == (1 + 2 * 8, 1)
    elsewhere = plain._replace(spells=luck.spells(luck.experiment(failures=luck.TROUBLE), 1, 2))
    assert luck.differences(plain, elsewhere)[1] > 0
    with pytest.raises(ValueError, match="more than 2 spells"):
        luck.up_s(elsewhere.spells, 1e4)
