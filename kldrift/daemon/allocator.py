"""How the C libraries of this process hold on to memory that is free.

A daemon decodes bodies of a few megabytes all day. As they come, glibc keeps an arena for each thread, and polars'
jemalloc keeps pages for ten seconds: tens of megabytes that nobody uses, and that grow into each other. Told to give
back early, the daemon's peak under load is lower (``tests/benchmarks/footprint.py``).

What the next piece of a source will need again is kept, though. By default glibc maps every piece of 8 MB anew, and the
kernel clears its 2,000 pages first: 100 million values of files took 2.2 s to counts in place of 1.6 (two cores).
"""

import ctypes
import os
import sys

#: jemalloc(3): give back what is free for 0.2 s; as many arenas as decoding threads use.
_JEMALLOC = "dirty_decay_ms:200,muzzy_decay_ms:0,narenas:2"

#: mallopt(3). What is larger than the threshold is mapped by itself and goes back at once: more than a piece of a file
#: and its columns, and less than the large bodies that come now and then.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def give_back_early() -> None:
    """Set both allocators, where they are those; to be called before polars comes in. The environment has priority."""
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
