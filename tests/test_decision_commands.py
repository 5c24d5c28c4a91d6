"""`report`, `phase` and `tornado` on the command line, and the design behind the last."""

import json

import numpy as np
import pandas as pd
import pytest
from frames import rows_and_curves
from typer.testing import CliRunner

from jaxwan.cli import app
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.spec import Experiment
from jaxwan.store import Store
from jaxwan.tornado import design, run_design


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Store a sweep of two compressors over four networks."""
    home = tmp_path_factory.mktemp("decisions") / "grid"
    frames, curves = [], []
    for place, (bandwidth, delay) in enumerate([(1e6, 0.01), (1e6, 0.1), (1e8, 0.01), (1e8, 0.1)]):
        frame, curve = rows_and_curves(seeds=3, challenges=("wan_bandwidth",))
        names = {"link.bandwidth_bps": bandwidth, "link.delay_s": delay}
        ids = {name: frame[name] + f"-{place}" for name in ("config_id", "run_id")}
        frames.append(frame.assign(**ids, **names, config_index=frame["config_index"] + 2 * place))
        ids = {name: curve[name] + f"-{place}" for name in ("config_id", "run_id")}
        curves.append(curve.assign(**ids))
    whole = pd.concat(frames, ignore_index=True)
    chunks = [{"name": "only", "program": 0, "runs": len(whole), "shape": len(whole)}]
    store = Store.open(home, {"sweep": {"name": "grid"}, "question": "Which <one>?",
                              "chunks": chunks, "runs": len(whole)})  # fmt: skip
    store.write("only", whole, pd.concat(curves, ignore_index=True))
    store.finish()
    return home


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_report_is_a_page_a_text_and_a_picture(folder):
    done = call("report", folder, "--png")
    assert done.exit_code == 0, done.output
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1>Which &lt;one&gt;?</h1>" in page
    assert (folder / "report.png").read_bytes()[:4] == b"\x89PNG"
    told = call("report", folder, "--text", "--metric", "throughput_ratio").output
    assert told.startswith("Which <one>?\n")
    assert "share of the free network's throughput" in told
    with pytest.raises(InputError, match="no numeric column"):
        CliRunner().invoke(app, ["report", str(folder), "--text", "--metric", "x"],
                           catch_exceptions=False, standalone_mode=False)  # fmt: skip


def test_a_report_in_json_says_what_the_metric_decides(folder, tmp_path):
    words = ["--metric", "throughput_ratio", "--confidence", "0.9"]
    drawing = ["--png", "--out", tmp_path / "page.html"]
    told = json.loads(call("report", folder, "--json", *words, *drawing).output)
    found = told["decision"]
    assert (found["metric"], found["confidence"]) == ("throughput_ratio", 0.9)
    assert found["sentence"] in " ".join(call("report", folder, "--text", *words).output.split())
    assert [place["best"] for place in found["places"]] == ["topk"] * 4
    assert [told["drawn"]] == [str(path) for path in tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "form"),
    [("compare", "--json"), ("phase", "--json"), ("tornado", "--json"), ("best", "--json"),
     ("report", "--text")],
)  # fmt: skip
def test_a_confidence_is_written_in_either_way(folder, name, form):
    words = [name, folder, "--metric", "throughput_ratio", form]
    words += ["--by", "compressor"] if name == "compare" else []
    percent, share = (call(*words, "--confidence", text) for text in ("90%", "0.9"))
    assert (percent.exit_code, share.output) == (0, percent.output)
    for wrong in ("90", "most", "150%"):
        refused = call(*words, "--confidence", wrong).exception
        assert isinstance(refused, InputError)
        assert str(refused).startswith("--confidence: ")
        assert wrong in str(refused)


def test_a_phase_diagram_is_letters_json_and_a_picture(folder, tmp_path):
    done = call("phase", folder, "--plot", tmp_path / "map.png")
    assert done.exit_code == 0, done.output
    assert "Mbit/s" in done.output
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    told = json.loads(call("phase", folder, "--json", "--metric", "throughput_ratio").output)
    assert {place["best"] for place in told["places"]} == {"topk"}
    assert (told["x"], told["y"], told["seeds"]) == ("link.bandwidth_bps", "link.delay_s", 3)


def test_a_tornado_of_a_folder_runs_nothing(folder):
    told = json.loads(call("tornado", folder, "--metric", "throughput_ratio", "--json").output)
    effects = {effect["setting"]: effect for effect in told["effects"]}
    assert effects["compressor"]["effect"] > 2
    assert abs(np.log(effects["link.delay_s"]["effect"])) < 0.5


def test_a_design_moves_one_setting_at_a_time():
    base = Experiment(scenario="simple", challenge="unreliable", timing_only=True, steps=6,
                      strategy={"kind": "diloco", "local_steps": 2})  # fmt: skip
    plan = design(base, 2.0)
    origin, *moved = plan.experiments
    assert len(moved) == 2 * 6 + 2  # two of three compressors are not the base's
    for own in moved:
        changed = [name for name in plan.base if own.labels[name] != plan.base[name]]
        assert len(changed) == 1
        assert own != origin
    wide = next(own for own in moved if own.labels["bandwidth ×"] == 2)
    assert [w.up_bps for w in wide.workers] == [2 * w.up_bps for w in origin.workers]
    assert wide.failures == origin.failures
    frail = next(own for own in moved if own.labels["failure rate ×"] == 2)
    assert frail.failures.transient.up_mean == origin.failures.transient.up_mean / 2
    assert frail.failures.transient.down_mean == origin.failures.transient.down_mean
    assert {own.labels["local_steps"] for own in moved} == {1, 2, 4}


def test_settings_that_cannot_move_are_left_out_and_unknown_ones_refused():
    calm = Experiment(scenario="simple", challenge="baseline", timing_only=True)
    assert "failure rate ×" not in design(calm).base
    assert "local_steps" not in design(calm).base
    with pytest.raises(InputError, match="did you mean 'delay'"):
        design(calm, settings=["delays"])
    with pytest.raises(InputError, match="not above 1"):
        design(calm, 1.0)


def test_compression_is_one_setting_in_one_column(monkeypatch):
    whole = rows_and_curves(seeds=2)
    monkeypatch.setattr("jaxwan.tornado.run_in_memory", lambda *_: whole)
    base = Experiment(scenario="simple", challenge="baseline", timing_only=True, steps=4)
    frame = run_design(design(base, 4.0, ["compression"]), (0, 1))
    assert whole[0]["compressor"].nunique() == 2
    assert frame["compressor"].nunique() == 1
