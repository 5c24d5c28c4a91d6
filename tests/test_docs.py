"""What the documents show works as it stands there."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxwan.api import simulate
from jaxwan.experiment.choices import FAMILIES
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.families import page, settings_of
from jaxwan.learning.compressors import Form

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```toml\n# (\S+\.toml)\n(.*?)```", re.DOTALL)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write every named TOML block of the page on extending into an empty folder."""
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / "extending.md").read_text(encoding="utf-8"))
    for name, text in blocks:
        Path(name).write_text(text, encoding="utf-8")
    return [name for name, _ in blocks]


def test_own_scenario_and_challenge_run_as_the_page_says(files):
    assert files == ["keywords.toml", "clinics.toml", "question.toml"]
    own = Experiment(scenario="keywords.toml", challenge="clinics.toml")
    frame = simulate(own, seeds=2, steps=6).frame
    assert (frame["scenario"] == "keywords").all()
    assert (frame["challenge"] == "clinics").all()
    assert (frame["status"] == "ok").all()
    weights = 1960 * 512 + 512 + 512 * 256 + 256 + 256 * 12 + 12
    kept = round(0.05 * weights)
    bitmap = weights / 8 + 4 * kept  # shorter than an index each
    assert (abs(frame["bytes_sent"] / frame["submitted"] / bitmap - 1) < 1e-4).all()


def test_the_sweep_file_of_the_page_fans_out(files):
    sweep = Sweep.from_toml("question.toml")
    experiments, warnings = sweep.resolve()
    assert len(experiments) == 6
    assert not warnings
    assert sweep.question == "Which compressor suits the clinics?"
    timed = [experiment.replace(timing_only=True) for experiment, _ in sweep.expand()]
    assert set(simulate(timed, seeds=2).frame["status"]) == {"ok"}


def test_the_sweeps_of_the_page_on_learning_resolve(tmp_path):
    blocks = BLOCK.findall((DOCS / "learning.md").read_text(encoding="utf-8"))
    counts = {}
    for name, text in blocks:
        (tmp_path / name).write_text(text, encoding="utf-8")
        counts[name] = len(Sweep.from_toml(str(tmp_path / name)).resolve()[0])
    assert counts == {"compress.toml": 4, "attacked.toml": 8}


def test_the_page_of_families_is_what_the_registries_say():
    told = (DOCS / "families.md").read_text(encoding="utf-8")
    assert told == page(), "stale: run `python -m jaxwan.families > docs/families.md`"


def test_the_page_of_families_tells_every_setting_of_every_member():
    told = page()
    for family in FAMILIES.values():
        for name, member in family.items():
            assert f"| `{name}` | {member.summary.replace('|', chr(92) + '|')} |" in told
            entry = told.split(f"\n- **{name}**")[1:]
            assert any(all(f"`{key}`" in text.split("\n- **")[0] for key in settings_of(member))
                       for text in entry), name  # fmt: skip


def test_a_network_beside_its_fleet_is_found_from_anywhere(tmp_path, monkeypatch):
    home = tmp_path / "fleets"
    home.mkdir()
    (home / "attic.toml").write_text("bandwidth_bps = 3e6\ndelay_s = 0.07\n")
    (home / "house.toml").write_text('[[worker]]\nnetwork = "attic.toml"\n')
    monkeypatch.chdir(tmp_path)
    (worker,) = resolve(Experiment(scenario="simple", challenge="fleets/house.toml")).workers
    assert (worker.up_bps, worker.delay_s) == (3e6, 0.07)


def test_the_compressor_of_the_page_is_what_it_claims():
    """A message is as long as claimed and decodes to what was sent, as the contract tests ask."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    code = next(block for block in text.split("```") if "DECADES" in block)
    space = {}
    exec(code.removeprefix("python\n"), space)
    member, form = space["DECADES"]["decades"], Form(((7, 11),))
    update = np.random.default_rng(0).normal(0.0, 0.01, form.dim).astype(np.float32)
    update[:3] = 0.0, 1e-9, 1e30
    knobs = {name: knob.default for name, knob in member.knobs.items()}
    sent, _ = member.apply(form, knobs, (), None, jnp.asarray(update))
    blob = member.pack(form, knobs, None, np.asarray(sent))
    assert len(blob) == member.wire(form, knobs).bytes
    assert np.allclose(member.unpack(form, knobs, blob), sent, rtol=1e-5)
    big = np.abs(update) > 1e-4
    assert np.allclose(np.log10(np.abs(sent[big][1:] / update[big][1:])), 0.0, atol=0.51)
    assert not np.any(sent[:2])
