"""Fill a store with children that are killed at random moments, then let one finish.

Run as a script: FRAMES (a pickle of chunk name -> rows and curves), FOLDER, KILLS, SEED. A fresh
process, so that forking is safe: nothing here has started threads. Tells what the kills met.
"""

import json
import os
import pickle
import random
import signal
import sys
import time
from pathlib import Path

from jaxwan.columns import COLUMNS
from jaxwan.parts import parquet
from jaxwan.store import Store


def fill(folder, manifest, chunks):
    """Resume the store and write what it lacks."""
    store = Store.open(folder, manifest)
    present = store.resume(set(chunks))
    with store.writer() as write:
        for name, (rows, curves) in chunks.items():
            if name not in present:
                write(name, rows, curves)
    store.finish()


def warm(chunks):
    """Return what encodes the first chunk's rows."""
    rows, _ = next(iter(chunks.values()))
    return rows, COLUMNS, "", ""


def child(work):
    """Fork a child that works and exits."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return process


def wait_for(folder, files):
    """Wait until so many more files are there."""
    before = len(list(folder.glob("parts/*")))
    end = time.monotonic() + 5
    while len(list(folder.glob("parts/*"))) < before + files and time.monotonic() < end:
        time.sleep(0.001)


def main(frames, folder, kills, seed):
    """Kill that many children, each after a random while, and finish."""
    manifest, chunks = pickle.loads(Path(frames).read_bytes())
    moments, met = random.Random(seed), []
    parquet(*warm(chunks))  # what is imported on first use is imported before the forks
    for _ in range(kills):
        process = child(lambda: fill(folder, manifest, chunks))
        wait_for(Path(folder), moments.randint(0, 7))
        time.sleep(moments.uniform(0.0, 0.01))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        parts = list(Path(folder).glob("parts/*"))
        done = sum(part.suffix == ".json" for part in parts)
        met.append({"killed": os.WIFSIGNALED(status), "done": done, "files": len(parts)})
    _, status = os.waitpid(child(lambda: fill(folder, manifest, chunks)), 0)
    json.dump({"met": met, "end": os.waitstatus_to_exitcode(status)}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
