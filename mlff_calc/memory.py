"""Reuse of memory between steps instead of returning it to the system.

glibc takes large arrays directly from the kernel and returns them when they are freed, so every step touches fresh
pages. On a crystal of 512 atoms this costs a fifth of a step or more. Memory kept in the heap serves the next step
again.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names and values of <malloc.h>
SWITCH = "MLFF_KEEP_MEMORY"


@cache
def keep_freed_memory() -> bool:
    """Make this process keep the memory that its arrays free; done once for the whole process.

    Used memory stays with the process, as with PyTorch on a GPU. Where sizes change from step to step, the process may
    grow beyond its largest step, because of holes too small for later arrays. The environment variable
    MLFF_KEEP_MEMORY=0 leaves the allocator unchanged.

    Returns:
        Whether the allocator was changed, which needs Linux with glibc.
    """
    if os.environ.get(SWITCH, "1") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
