"""Where results that can be made anew are kept; imports nothing heavy, since LAMMPS's program asks when it starts."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(part: str) -> Path:
    """Folder `part` of the cache: below `$MLFF_CACHE`, or `mlff_calc` below `$XDG_CACHE_HOME` or `~/.cache`."""
    if "MLFF_CACHE" in os.environ:
        return Path(os.environ["MLFF_CACHE"]) / part
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "mlff_calc" / part
