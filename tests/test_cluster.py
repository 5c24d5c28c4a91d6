"""On a Ray cluster: the rows of the local executor, whoever dies."""

import os
import signal
import socket
import threading
import time

import pandas as pd
import pytest

from jaxwan.executors.cluster import OnRay
from jaxwan.executors.job import distinct
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.sweep import plan_job, run_in_memory

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install '.[ray]'")
pytestmark = [pytest.mark.optimized, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def job():
    runs = [Experiment(scenario="simple", challenge="unreliable", strategy=strategy, buffer=1,
                       aggregator="mean", steps=4, timing_only=strategy == "async")
            for strategy in ("sync", "async")]  # fmt: skip
    found = plan_job([resolve(run) for run in runs], range(200))
    assert len(found.chunks) >= 4
    assert len(distinct(found.experiments)) == 2
    return found


@pytest.fixture(scope="module")
def local(job):
    return run_in_memory(job)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    yield
    ray.shutdown()


def same(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_rows_on_ray_equal_local_ones_though_a_worker_is_killed(job, local):
    executor, killed = OnRay(job), []

    def kill():
        while not executor.actors:
            time.sleep(0.05)
        process = ray.get(executor.actors[0].process.remote())
        os.kill(process, signal.SIGKILL)
        killed.append(process)

    threading.Thread(target=kill, daemon=True).start()
    same(run_in_memory(job, executor=executor), local)
    assert killed
    assert executor.tally.wanted >= 200


def test_a_cluster_that_is_not_there_is_named():
    ray.shutdown()
    with pytest.raises(InputError, match="no Ray cluster at 'nonsense'"):
        OnRay(None, "nonsense")


def test_an_address_at_which_nobody_listens_is_told_before_ray_is_asked(capfd):
    ray.shutdown()
    with socket.socket() as held:  # bound and never listened on
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no Ray cluster at '{address}': Connection refused"):
            OnRay(None, address)
    assert capfd.readouterr().err == ""


def test_nothing_to_run_starts_nothing():
    ray.shutdown()
    assert list(OnRay(None).execute([])) == []
    assert not ray.is_initialized()
