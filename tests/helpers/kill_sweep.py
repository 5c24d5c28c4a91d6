"""Kill the real command at random moments, resume it, and compare with an uninterrupted run.

    python tests/helpers/kill_sweep.py [KILLS] [SEED]

Takes a few minutes, so it is no test of the suite: `test_cli_run.py` kills once, `test_store.py`
kills twenty writers. Ends with code 1 where rows or files differ.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from jaxwan.results import Results
from jaxwan.store import Store

SWEEP = """\
# How much staleness pays?
seeds = 8192
steps = 12

[grid]
scenario = "simple"
challenge = "wan_bandwidth"
timing_only = true
strategy = [{ kind = "async", max_staleness = [1, 2, 3, 4] }, { kind = "sync" }]
"""


def start(file, folder):
    """Start the command."""
    words = [sys.executable, "-m", "jaxwan.cli", "sweep", str(file), "--out", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def stamps(folder):
    """Count the chunks that are stored."""
    return len(list(folder.glob("parts/*.json")))


def killed_once(file, folder, moments):
    """Start the command, kill it at a random moment, and say what was stored by then.

    A third of the kills land anywhere in the start; the others after some chunks more.
    """
    process, before = start(file, folder), stamps(folder)
    more = moments.choice([0, 1, 3])
    while more and stamps(folder) < before + more and process.poll() is None:
        time.sleep(0.001)
    time.sleep(moments.uniform(0.0, 0.05) if more else moments.uniform(0.0, 6.0))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode, stamps(folder)


def main(kills, seed):
    """Run the comparison and say what came of it."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        file = root / "staleness.toml"
        file.write_text(SWEEP)
        assert start(file, root / "whole").wait() == 0
        met = [killed_once(file, root / "out", moments) for _ in range(kills)]
        sys.stdout.write(f"exit code and chunks stored at each kill: {met}\n")
        last = start(file, root / "out")
        _, told = last.communicate()
        assert (last.returncode, told) == (0, b""), told
        one, other = Results.load(root / "out"), Results.load(root / "whole")
        pd.testing.assert_frame_equal(one.frame, other.frame, check_exact=True)
        for part in sorted((root / "whole" / "parts").iterdir()):
            assert (root / "out" / "parts" / part.name).read_bytes() == part.read_bytes(), part
        assert Store(root / "out").finished
        names = {name for name in os.listdir(root / "out" / "parts")}
        assert names == set(os.listdir(root / "whole" / "parts"))
        count = sum(code == -signal.SIGKILL for code, _ in met)
        sys.stdout.write(f"{count} kills landed; {len(one)} rows and all bytes are identical\n")


if __name__ == "__main__":
    main(*(int(word) for word in [*sys.argv[1:], *("20", "0")[len(sys.argv) - 1 :]]))
