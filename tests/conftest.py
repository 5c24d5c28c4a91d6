"""Settings of every test: an implicit rank promotion is an error, and compiling is short.

Four fifths of the time of the tests were compiling, and most of that was optimizing. A test marked
`optimized` is optimized as usual: one that compares the bits of two programs, or their speed. With
`JAXWAN_TESTS_OPTIMIZED=1` everything is compiled as users do.
"""

import gc
import os
import subprocess
import sys

import jax
import pytest

from jaxwan import engine

jax.config.update("jax_numpy_rank_promotion", "raise")
ALLOWED = os.environ.get("JAXWAN_TESTS_OPTIMIZED", "0") == "0"
OLDER = "--xla_cpu_use_fusion_emitters=false"  # the older emitters take a third less to compile


def compiles_with(flags):
    """Tell whether XLA knows these flags: it ends a process that names one it does not."""
    code = "import jax; jax.jit(lambda: 0)()"
    there = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=there, capture_output=True, check=False)
    return done.returncode == 0


now = {"hasty": False}


def pytest_configure():
    """Choose the older emitters before anything compiles; workers inherit the choice."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {OLDER}".strip()
    if ALLOWED and "PYTEST_XDIST_WORKER" not in os.environ and compiles_with(flags):
        os.environ["XLA_FLAGS"] = flags


def may_hurry(item):
    """Tell whether a test may run programs that are hardly optimized."""
    return ALLOWED and item.get_closest_marker("optimized") is None


def pytest_collection_modifyitems(items):
    """Put the tests that optimize first, so that what was compiled is forgotten but once."""
    items.sort(key=may_hurry)


def pytest_collection_finish():
    """Spare the garbage collector what stays until the end, and have it look less often."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Choose how programs are compiled, and forget those that were compiled otherwise."""
    if now["hasty"] == may_hurry(item):
        return
    now["hasty"] = may_hurry(item)
    jax.config.update("jax_disable_most_optimizations", now["hasty"])
    jax.clear_caches()
    engine._compiled.clear()
