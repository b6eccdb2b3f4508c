"""Numba's options, the cache, the threads and the warm-up of all kernels."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.caching import NullCache

from kldrift.kernels.cache_directory import Place, find_place

Function = TypeVar("Function", bound=Callable[..., Any])

# Kernels release the interpreter's lock; x / 0 is IEEE (a Python exception would prevent vectorisation). Never
# fastmath: NaN, Inf and -0 are ordinary values here, and without it serial, parallel and interpreted kernels agree to
# the bit.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# Inlined, because otherwise the process that compiles links a separately optimised body of the piece that is three
# times slower, while a process that loads from the cache gets the kernel's own.
PIECE_OPTIONS: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "forceinline": True}

# Without reference counts: LLVM cannot prove that counting references to a piece's arguments is pointless, and with
# twenty arrays it makes reading a number take six times as long. Such pieces cannot allocate.
UNCOUNTED_OPTIONS: dict[str, Any] = {**PIECE_OPTIONS, "_nrt": False}
# Called, not inlined: rare cases leave the registers to the common ones.
CALLED_OPTIONS: dict[str, Any] = {**UNCOUNTED_OPTIONS, "forceinline": False}

# Workqueue is numba's own pool: it is always available, and its idle threads sleep, whereas those of OpenMP spin after
# each kernel on cores that the decoders need. Two threads must not enter it at once, hence the lock in `run`.
if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = "workqueue"


#: Where compiled kernels are kept, or why they are not.
PLACE = Place(None) if numba.config.DISABLE_JIT else find_place()
_kernels: dict[str, tuple[Any, tuple[Any, ...]]] = {}
_pieces: dict[str, Any] = {}
_lock = threading.RLock()
_warm = False
_threads: int | None = None


def jit(function: Function) -> Function:
    """Compile a piece that only kernels call; it is compiled into each of them, and cached with them."""
    compiled: Function = numba.njit(**PIECE_OPTIONS)(function)
    _pieces[function.__name__] = compiled
    return compiled


def kernel(*arguments: Any) -> Callable[[Function], Function]:
    """Compile a serial entry point for exactly these argument types (see `warm_up`)."""
    return _entry(arguments, parallel=False)


def parallel_kernel(*arguments: Any) -> Callable[[Function], Function]:
    """Compile an entry point whose ``prange`` loops run on all threads; call it through `run`."""
    return _entry(arguments, parallel=True)


def _entry(arguments: tuple[Any, ...], parallel: bool) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        # Numba reads this global option when the decorator runs; other users of numba in the process keep theirs.
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = PLACE.reached_by
        try:
            compiled: Function = numba.njit(cache=PLACE.directory is not None, parallel=parallel, **OPTIONS)(function)
        finally:
            numba.config.CACHE_DIR = before
        _kernels[function.__name__] = compiled, arguments
        return compiled

    return decorate


def warm_up() -> float:
    """Compile every kernel for its one signature, or load it from the cache, and start the threads.

    Nothing compiles after this: other argument types are a TypeError, whereas an array that a kernel takes as read-only
    may be writable. Any problem with the cache (full, unreadable, damaged) costs only the time to compile.

    Returns
    -------
    float, seconds taken; 0.0 if the kernels were warm already
    """
    if _warm:  # without waiting for kernels that other threads run
        return 0.0
    with _lock:
        return _warm_up()


def _warm_up() -> float:
    global _warm
    if _warm:
        return 0.0
    start = time.perf_counter()
    if not numba.config.DISABLE_JIT:
        for compiled, arguments in _kernels.values():
            try:
                compiled.compile(arguments)
            except Exception:  # noqa: BLE001 (with a damaged cache, unpickling can raise anything)
                compiled._cache = NullCache()  # noqa: SLF001 (numba has no public way to drop a cache)
                compiled.compile(arguments)
            compiled.disable_compile()
        numba.set_num_threads(thread_count())
    _warm = True
    return time.perf_counter() - start


def compiled_signatures() -> dict[str, int]:
    """Return the number of signatures compiled or loaded so far, for each kernel and each piece."""
    every = {name: compiled for name, (compiled, _) in _kernels.items()} | _pieces
    return {name: len(getattr(compiled, "signatures", ())) for name, compiled in every.items()}


def set_threads(n: int | None) -> None:
    """Use `n` threads for parallel kernels, or as many as numba has if that is fewer; None for all of them.

    Raises
    ------
    ValueError : `n` below 1
    """
    global _threads
    if n is not None and n < 1:
        raise ValueError(f"expected at least 1 thread, got {n}; use None for all cores")
    _threads = n


def thread_count() -> int:
    """Return the number of threads that a parallel kernel uses."""
    available = int(numba.config.NUMBA_NUM_THREADS)
    return available if _threads is None else min(_threads, available)


def threads_for(size: int, least: int) -> int:
    """Return the number of threads to share work of this size: 1 if the size is below `least`."""
    return thread_count() if size >= least else 1


def run(serial: Callable[..., None], parallel: Callable[..., None], in_parallel: bool, *arguments: object) -> None:
    """Run one of two kernels that do the same; the parallel one on `thread_count()` threads, one call at a time.

    Numba's own thread count belongs to the calling thread, so it has to be set for each call.
    """
    with ieee():
        if not in_parallel:
            serial(*arguments)
            return
        with _lock:
            numba.set_num_threads(thread_count())
            parallel(*arguments)


def ieee() -> AbstractContextManager[object]:
    """Suppress warnings about x / 0 and overflow in interpreted kernels; compiled ones give none."""
    return np.errstate(all="ignore") if numba.config.DISABLE_JIT else nullcontext()
