"""The Ray executor: chunks as calls to actors on the nodes of a cluster.

An actor is one device: a processor core, or an accelerator where the cluster has any. It compiles
what it needs and keeps it, so a chunk goes to an idle actor that already has its program, if there
is one. An actor that dies is replaced and its chunk is run again. Rows never depend on it, and
equal those of the local executor on the same kind of device.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import jax

from jaxwan.core.devices import core_count
from jaxwan.executors.job import Done, Job, Progress, Report
from jaxwan.executors.lessons import Tally
from jaxwan.executors.local import Local
from jaxwan.experiment.errors import InputError
from jaxwan.work import Chunk

RETRIES = 3  # of one chunk whose actors died
LOCAL = "local"
PATIENCE_S = 10.0


class Worker:
    """Runs chunks on one device; lives in a process of its own."""

    def __init__(self, job: Job, share: bool) -> None:
        if jax.config.jax_num_cpu_devices <= 0:  # type: ignore[attr-defined]
            jax.config.update("jax_num_cpu_devices", 1)
        self._local = Local(job._replace(devices=1), share)

    def run(self, chunk: Chunk) -> tuple[Done, Tally]:
        """Run one chunk; also count the curves wanted and trained so far."""
        return next(iter(self._local.execute([chunk]))), self._local.tally

    def process(self) -> int:
        """Return the number of the process."""
        return os.getpid()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        hint = "in jaxwan's folder, pip install '.[ray]'"
        raise InputError(f"Ray is not installed; {hint}", "ray") from None
    return ray


def check_reachable(address: str) -> None:
    """Refuse a cluster's HOST:PORT at which nobody listens; Ray itself would tell it at length.

    Raises:
        InputError: naming the address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"no Ray cluster at {address!r}: {reason}", "ray") from None


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep what Ray's own library writes at every failed try to itself; errors are raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def connect(address: str) -> Any:
    """Join a cluster by its address, or start one on this machine with "local".

    Raises:
        InputError: where Ray is missing or nobody answers.
    """
    ray = _ray()
    if ray.is_initialized():
        return ray
    check_reachable(address)
    own: dict[str, Any] = {"num_cpus": core_count(), "include_dashboard": False}
    where = {"address": "local", **own} if address == LOCAL else {"address": address}
    try:
        with nullcontext() if address == LOCAL else _hushed():
            ray.init(**where, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no Ray cluster at {address!r}: {reason}", "ray") from None
    return ray


class OnRay:
    """Runs chunks of one job on a Ray cluster: one actor per accelerator, or per core.

    A cluster is joined at once, so that a wrong address is told before anything is done; Ray on
    this machine is started once there is something to run.
    """

    def __init__(self, job: Job, address: str = LOCAL, share: bool = True) -> None:
        _ray()
        if address != LOCAL:
            connect(address)
        self._job, self._share, self._address = job, share, address
        self._tallies: dict[Any, Tally] = {}
        self.actors: list[Any] = []

    def _join(self) -> None:
        """Connect, and see what there is to run on."""
        self._ray = connect(self._address)
        resources = self._ray.available_resources()
        accelerators = int(resources.get("GPU", 0) or resources.get("TPU", 0))
        self._kind: dict[str, Any] = {"num_gpus" if resources.get("GPU") else "num_cpus": 1}
        if resources.get("TPU") and not resources.get("GPU"):
            self._kind = {"resources": {"TPU": 1}}
        self._count = max(accelerators or int(resources.get("CPU", 1)), 1)

    @property
    def tally(self) -> Tally:
        """Count the runs that wanted a curve, and those that were trained."""
        found = list(self._tallies.values())
        return Tally(*(sum(column) for column in zip(*found, strict=True))) if found else Tally()

    def execute(
        self, pending: list[Chunk], report: Report | None = None, before: int = 0
    ) -> Iterator[Done]:
        """Run chunks and yield them as they finish, in any order.

        Raises:
            InputError: when the actors of one chunk died again and again.
        """
        if not pending:
            return
        self._join()
        done, total = before, before + sum(chunk.wanted for chunk in pending)
        began = time.monotonic()
        kinds = len({chunk.program for chunk in pending})
        shared = self._ray.put(self._job)
        queue, failed = list(pending), Counter[str]()
        calls: dict[Any, tuple[Any, Chunk]] = {}
        known: dict[Any, set[int]] = {}
        self.actors = [self._hire(shared) for _ in range(min(self._count, len(pending)))]
        idle = list(self.actors)
        while queue or calls:
            while queue and idle:
                actor = idle.pop()
                chunk = queue.pop(_best(queue, known.setdefault(actor, set())))
                known[actor].add(chunk.program)
                calls[actor.run.remote(chunk)] = actor, chunk
            for call in self._ray.wait(list(calls), timeout=1.0)[0]:
                actor, chunk = calls.pop(call)
                try:
                    part, self._tallies[actor] = self._ray.get(call)
                except self._ray.exceptions.RayActorError:
                    failed[chunk.name] += 1
                    if failed[chunk.name] > RETRIES:
                        often = f"{RETRIES + 1} workers died on chunk {chunk.name}"
                        raise InputError(f"{often}; is there memory for it?", "ray") from None
                    queue.insert(0, chunk)
                    self.actors[self.actors.index(actor)] = actor = self._hire(shared)
                else:
                    done += chunk.wanted
                    yield part
                idle.append(actor)
            if report:
                ready = len(set().union(*known.values()))
                report(Progress(done, total, ready, kinds, time.monotonic() - began))

    def _hire(self, job: Any) -> Any:
        return self._ray.remote(**self._kind)(Worker).remote(job, self._share)


def _best(queue: list[Chunk], programs: set[int]) -> int:
    """Return the first place in the queue whose program is compiled already, or the first."""
    return next((i for i, chunk in enumerate(queue) if chunk.program in programs), 0)
