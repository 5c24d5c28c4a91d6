"""What must hold on an accelerator: the same runs as on a processor, within rounding."""

import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

import jaxwan as jw
from jaxwan.core.devices import use_all_cores

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _accelerator():
    """Skip where there is none; asked for late, so that collecting starts no backend."""
    use_all_cores()
    if all(device.platform == "cpu" for device in jax.devices()):
        pytest.skip("no accelerator here")


PROGRAM = """
import sys
import jaxwan as jw
fields = dict(scenario="simple", challenge="heterogeneous", steps=40)
several = [
    jw.Experiment(**fields, strategy="sync", compressor=kind, aggregator="mean")
    for kind in ("none", "int8", "topk")
] + [jw.Experiment(**fields, strategy="async", timing_only=True)]
jw.simulate(several, seeds=16).frame.to_parquet(sys.argv[1])
"""


def test_rows_agree_with_a_processor(tmp_path, monkeypatch):
    """Times to rounding; losses by their means, since one ulp can flip a level or a rank."""
    frames = {}
    for platform in ("cpu", None):
        path = tmp_path / f"{platform}.parquet"
        if platform:
            monkeypatch.setenv("JAX_PLATFORMS", platform)
        else:
            monkeypatch.delenv("JAX_PLATFORMS", raising=False)
        subprocess.run([sys.executable, "-c", PROGRAM, str(path)], check=True)
        frames[platform] = pd.read_parquet(path)
    ours, there = frames["cpu"], frames[None]
    np.testing.assert_allclose(there.time_s, ours.time_s, rtol=1e-4)
    np.testing.assert_array_equal(there.accepted, ours.accepted)
    np.testing.assert_array_equal(there.bytes_sent, ours.bytes_sent)
    dense = ours.compressor == "none"
    learned = ours.loss_final.notna()
    close = dense & learned
    np.testing.assert_allclose(there.loss_final[close], ours.loss_final[close], rtol=2e-3)
    for kind, own in ours[learned].groupby("compressor"):
        spread = own.loss_final.std(ddof=1) / np.sqrt(len(own))
        other = there.loss_final[own.index].mean()
        assert abs(other - own.loss_final.mean()) < 3 * spread, kind


def test_an_accelerator_repeats_itself():
    own = jw.Experiment(scenario="simple", challenge="baseline", steps=10, compressor="topk")
    first, second = (jw.simulate(own, seeds=8).frame for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
