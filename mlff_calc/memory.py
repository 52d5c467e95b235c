"""Memory that is used again instead of being returned to the system between steps.

glibc takes large arrays straight from the kernel and gives them back when they are freed, so that every step touches fresh
pages; on a crystal of 512 atoms that is a fifth of a step or more. Kept in the heap, the same pages serve the next step.
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
    """Let this process keep the memory that its arrays free, once and for the whole process.

    Memory that was used stays with the process, as it does with PyTorch on a GPU, and where sizes change from step to step
    the process may grow beyond its largest step, by holes that the next arrays do not fit. The environment variable
    MLFF_KEEP_MEMORY=0 leaves the allocator as it is.

    Returns:
        Whether the allocator was told: on Linux with glibc, unless switched off.
    """
    if os.environ.get(SWITCH, "1") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
