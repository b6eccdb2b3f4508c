"""Every numba option, the cache, the threads and the warm-up of the kernels."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.caching import NullCache

Function = TypeVar("Function", bound=Callable[..., Any])

# The interpreter's lock is not needed inside; x / 0 is IEEE (a Python exception would forbid vectorisation). Never
# fastmath: NaN, Inf and -0 are ordinary values here, and without it serial, parallel and interpreted agree bit by bit.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# Inlined, because LLVM otherwise links a piece's separately optimised, three times slower body in the process that
# compiles, and the kernel's own in the one that loads from the cache.
PIECE_OPTIONS: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "forceinline": True}

# No reference counts: LLVM cannot prove that those of a piece's arguments are of no use, and twenty arrays make
# reading a number take six times as long. Such pieces cannot allocate.
UNCOUNTED_OPTIONS: dict[str, Any] = {**PIECE_OPTIONS, "_nrt": False}
# Called: what comes seldom leaves the registers to what comes often.
CALLED_OPTIONS: dict[str, Any] = {**UNCOUNTED_OPTIONS, "forceinline": False}

# Workqueue: numba's own pool, always there, and idle threads sleep. OpenMP's spin after each kernel, on cores that
# the decoders need. It must not be entered by two threads at once, hence the lock in `launch`.
if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = "workqueue"


def _cache_directory() -> Path | None:
    """The directory of compiled kernels, or None when none can be written.

    `$KLDRIFT_CACHE_DIR`, else `$NUMBA_CACHE_DIR`, else `$XDG_CACHE_HOME/kldrift`, else `~/.cache/kldrift`; below it
    one directory for each kldrift, numba and text of the kernels: numba itself does not notice that a function
    called by a kernel has changed in another file.
    """
    chosen = os.environ.get("KLDRIFT_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = Path(chosen) if chosen else Path(home) / "kldrift"
        sources = sorted(Path(__file__).parent.rglob("*.py"))
        digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
        directory = root / f"kldrift-{_version()}-numba-{numba.__version__}-{digest}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None


def _version() -> str:
    try:
        return version("kldrift")
    except PackageNotFoundError:
        return "unknown"


_directory = None if numba.config.DISABLE_JIT else _cache_directory()
_kernels: dict[str, tuple[Any, tuple[Any, ...]]] = {}
_pieces: dict[str, Any] = {}
_lock = threading.RLock()
_warm = False
_threads: int | None = None


def cache_directory() -> Path | None:
    """Where compiled kernels are kept; None when there is no writable place, which costs only the compile time."""
    return _directory


def jit(function: Function) -> Function:
    """Compile a piece that only kernels call; it is compiled, inlined and cached with each of them."""
    compiled: Function = numba.njit(**PIECE_OPTIONS)(function)
    _pieces[function.__name__] = compiled
    return compiled


def kernel(*arguments: Any) -> Callable[[Function], Function]:
    """Compile an entry point, serial, for exactly these argument types (see `warm_up`)."""
    return _entry(arguments, parallel=False)


def parallel_kernel(*arguments: Any) -> Callable[[Function], Function]:
    """Compile an entry point whose ``prange`` loops run on all threads; call it through `launch`."""
    return _entry(arguments, parallel=True)


def _entry(arguments: tuple[Any, ...], parallel: bool) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        # The option is global to numba and read when the decorator runs; other users of numba keep theirs.
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(_directory or "")
        try:
            compiled: Function = numba.njit(cache=_directory is not None, parallel=parallel, **OPTIONS)(function)
        finally:
            numba.config.CACHE_DIR = before
        _kernels[function.__name__] = compiled, arguments
        return compiled

    return decorate


def warm_up() -> float:
    """Compile, or load from the cache, every kernel for its one signature, and start the threads.

    Afterwards no call can compile: other argument types are a TypeError. Read-only and writable inputs are the same.
    Anything wrong with the cache (full, unreadable, damaged) costs only the compile time.

    Returns
    -------
    float, seconds it took; 0.0 when already warm
    """
    global _warm
    with _lock:
        if _warm:
            return 0.0
        start = time.perf_counter()
        if not numba.config.DISABLE_JIT:
            for compiled, arguments in _kernels.values():
                try:
                    compiled.compile(arguments)
                except Exception:  # noqa: BLE001 (a damaged cache raises anything that unpickling can raise)
                    compiled._cache = NullCache()  # noqa: SLF001 (numba has no public way to drop a cache)
                    compiled.compile(arguments)
                compiled.disable_compile()
            numba.set_num_threads(thread_count())
        _warm = True
        return time.perf_counter() - start


def is_warm() -> bool:
    """Whether `warm_up` has run."""
    return _warm


def compiled_signatures() -> dict[str, int]:
    """How many signatures of each kernel, and of each piece of one, have been compiled or loaded."""
    every = {name: compiled for name, (compiled, _) in _kernels.items()} | _pieces
    return {name: len(getattr(compiled, "signatures", ())) for name, compiled in every.items()}


def set_threads(n: int | None) -> None:
    """Use `n` threads for parallel kernels, at most as many as numba has; None for all of them.

    Raises
    ------
    ValueError : `n` below 1
    """
    global _threads
    if n is not None and n < 1:
        raise ValueError(f"expected at least 1 thread, got {n}; give None for as many as there are cores")
    _threads = n


def thread_count() -> int:
    """Threads that a parallel kernel uses."""
    available = int(numba.config.NUMBA_NUM_THREADS)
    return available if _threads is None else min(_threads, available)


def launch(compiled: Callable[..., None], *arguments: Any) -> None:
    """Run a parallel kernel on `thread_count()` threads, one launch at a time.

    Numba's own thread count belongs to the calling thread, so it is set here and not once.
    """
    with _lock:
        numba.set_num_threads(thread_count())
        compiled(*arguments)


def ieee() -> AbstractContextManager[object]:
    """No warning at x / 0 or an overflow when kernels are interpreted; compiled ones have none."""
    return np.errstate(all="ignore") if numba.config.DISABLE_JIT else nullcontext()
