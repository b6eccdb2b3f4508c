"""Memory behind which nothing can be read, and what a scenario makes of its bodies there or when it is interpreted."""

import ctypes
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np


class GuardedPages:
    """Memory whose end is followed by a page that must not be read."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = -(-size // page) * page
        self._map = mmap.mmap(-1, self._size + page)
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(self._bytes.ctypes.data + self._size)
        if libc.mprotect(address, ctypes.c_size_t(page), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def __call__(self, data: np.ndarray) -> np.ndarray:
        buffer = self._bytes[self._size - len(data) : self._size]
        buffer[:] = data
        return buffer

    def byte_behind(self) -> int:
        """Reads where it must not: the end of the process."""
        return int(self._bytes[self._size])


def save(
    results: Callable[..., Mapping[str, np.ndarray]], interpreted: int, guarded: int, out: str, *arguments: str
) -> None:
    """Save the results of so many bodies; with the argument ``guard`` each lies before a page that must not be read."""
    if not arguments:
        np.savez(Path(out), **results(interpreted))
        return
    pages = GuardedPages(1 << 18)
    if "overrun" in arguments:
        pages.byte_behind()
    np.savez(Path(out), **results(guarded, pages))
