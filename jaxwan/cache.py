"""Where compiled programs are kept between calls of the command line."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path


def processor() -> str:
    """Name this kind of processor: a program compiled for another may not run here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = [platform.processor()]
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def keep_programs() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was told where already."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "jaxwan" / processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
