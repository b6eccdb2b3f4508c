"""Settings for the allocators of this process: when they return free memory to the system.

A daemon decodes bodies of a few megabytes all day. By default, glibc keeps an arena per thread and polars' jemalloc
keeps free pages for ten seconds, which adds up to tens of unused megabytes. Returning memory early lowers the daemon's
peak under load (``tests/benchmarks/footprint.py``).

Memory that the next piece of a source will need is kept, however. By default, glibc maps every 8 MB piece afresh and
the kernel zeroes its 2,000 pages first: counting 100 million values from files then took 2.2 s instead of 1.6 (two
cores).
"""

import ctypes
import os
import sys

#: jemalloc(3): return pages that have been free for 0.2 s; as many arenas as there are decoding threads.
_JEMALLOC = "dirty_decay_ms:200,muzzy_decay_ms:0,narenas:2"

#: mallopt(3). Blocks above the mmap threshold are mapped separately and returned at once. It is larger than a piece of
#: a file with its columns, and smaller than the occasional large body.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def give_back_early() -> None:
    """Configure both allocators, if in use. Call it before polars is imported; the environment takes priority."""
    os.environ.setdefault("_RJEM_MALLOC_CONF", _JEMALLOC)
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    for name, parameter, value in (
        ("MALLOC_TRIM_THRESHOLD_", _M_TRIM_THRESHOLD, 24 << 20),
        ("MALLOC_MMAP_THRESHOLD_", _M_MMAP_THRESHOLD, 16 << 20),
        ("MALLOC_ARENA_MAX", _M_ARENA_MAX, 2),
    ):
        if name not in os.environ:
            mallopt(parameter, value)
