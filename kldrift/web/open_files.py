"""The number of files, and hence connections, that the process may have open."""

import sys

#: Reserved for everything but connections: files being read, the state, other servers, refused connections.
RESERVED = 256


def connections_within(open_files: int, wanted: int) -> int:
    """Return how many connections there may be, up to `wanted`; where files are few, a quarter of them."""
    return max(1, min(wanted, max(open_files - RESERVED, open_files // 4)))


def raise_open_files(wanted: int) -> tuple[int, int]:
    """Raise the soft limit on open files to `wanted`, or as far as the hard limit allows; never lower it.

    Returns
    -------
    before, after : the soft limit; `wanted` where the system has none
    """
    if sys.platform == "win32":
        return wanted, wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max(soft, wanted), max(soft, wanted)
    after = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (after, hard))
    except (OSError, ValueError):  # macOS has a limit of its own, below the one it reports
        return soft, soft
    return soft, after
