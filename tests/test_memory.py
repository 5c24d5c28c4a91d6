"""What does not fit is refused before it starts, in one line that says how much it needs."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxwan as jw
from jaxwan import memory, work
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import problem_of
from jaxwan.experiment.resolve import resolve
from jaxwan.sweep import plan_job


def full(scenario, **fields):
    """Return a resolved experiment that trains the full model for one step."""
    own = {"challenge": "baseline", "strategy": "sync", "fidelity": "full", "steps": 1}
    return resolve(jw.Experiment(scenario=scenario, **own | fields))


def with_room(monkeypatch, gigabytes):
    monkeypatch.setattr(memory, "available_bytes", lambda: gigabytes * 1e9)


def test_a_full_model_that_does_not_fit_is_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr("jaxwan.work.compiled_worlds", None)
    with_room(monkeypatch, 24.0)
    for scenario, parameters in (("very_large", 102_345_216), ("llm_scale", 1_036_547_200)):
        with pytest.raises(InputError) as caught:
            plan_job([full(scenario)], [0])
        text = str(caught.value)
        assert text.startswith(f"fidelity: training {parameters:,} parameters with 4 workers")
        assert "GB of memory, and 24 GB are free" in text
        needed = float(text.split("at least ")[1].split(" GB")[0])
        assert needed > max(24.0, 4e-9 * parameters * 5)  # workers' updates and the model
    with_room(monkeypatch, 40.0)
    plan_job([full("very_large")], [0])


def test_what_is_needed_is_counted_array_by_array():
    """One task, the model, a memory for each worker, an update for each slot, what passes."""
    program = work.programs([full("simple", compressor="topk", workers=8, optimizer="adam")], 1)[0]
    plan, dim = program.plan.learn, 235_146
    knobs = jax.tree.map(lambda column: np.asarray(column[0]), program.knobs.learn)
    model = dim * (1 + 2 + 8) + 1  # parameters, two moments, eight memories; Adam's count of steps
    step = dim * (8 + memory.PASSING) + 64 * (784 + 256 + 128 + 10)
    task = 30 * 784 + 256 * 784 + 256 + 1
    for runs in (1, 3):
        found = memory.block_bytes(plan, knobs, runs)
        assert found == 4 * (task + runs * (model + step))


def test_buffers_of_a_compiled_program_are_checked_before_it_runs(monkeypatch):
    resolved = full("very_large")
    program = work.programs([resolved], 1)[0]
    sizes = SimpleNamespace(temp_size_in_bytes=30e9, argument_size_in_bytes=1e9)
    compiled = SimpleNamespace(run=SimpleNamespace(memory_analysis=lambda: sizes))
    with_room(monkeypatch, 63.0)
    memory.check_compiled(compiled, program, [resolved], 2)
    with_room(monkeypatch, 61.0)
    with pytest.raises(InputError, match=r"needs 62 GB of memory, and 61 GB are free"):
        memory.check_compiled(compiled, program, [resolved], 2)


def test_proxies_are_not_even_traced(monkeypatch):
    with_room(monkeypatch, 0.0)
    monkeypatch.setattr(memory, "block_bytes", None)
    plan_job([full("simple", fidelity="proxy"), full("llm_scale", timing_only=True)], [0])


def test_free_memory_is_read_where_linux_tells_it(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  100 kB\nMemAvailable:  60 kB\n")
    assert memory._number(str(path), "MemAvailable:") == 60
    path.write_text("max\n")
    assert memory._number(str(path)) == np.inf
    assert memory._number(str(tmp_path / "nowhere")) == np.inf
    assert 1e8 < memory.available_bytes() < 1e15


def test_a_full_model_takes_its_scenarios_batch():
    assert problem_of(full("simple")).static["batch"] == 64
    assert problem_of(full("very_large")).static["batch"] == 32


def test_a_single_run_takes_a_single_device():
    assert plan_job([full("simple", fidelity="proxy")], [0]).devices == 1
