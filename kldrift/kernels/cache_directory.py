"""Where compiled kernels are kept.

Whoever can write there runs code in every process that loads them, so nobody else may.
"""

import hashlib
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numba

#: Permission to write, for the group or for everybody.
_OTHERS_WRITE = 0o022
_PRIVATE = 0o700


class Place(NamedTuple):
    """The directory of compiled kernels, or why there is none.

    Parameters
    ----------
    directory : its path, for people; None if there is none
    reached_by : the path that numba is given: it leads to the directory that was checked, even if another one takes its
        name in the meantime
    problem : why there is none; empty if there is one
    """

    directory: Path | None
    reached_by: str = ""
    problem: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is a directory and nothing in it: the kernels are compiled, and kept from then on."""
        return self.directory is not None and not any(self.directory.iterdir())


def find_place() -> Place:
    """Make the directory for compiled kernels, or say why that is not possible or not safe.

    It is in `$KLDRIFT_CACHE_DIR`, else `$NUMBA_CACHE_DIR`, else `$XDG_CACHE_HOME/kldrift`, else `~/.cache/kldrift`, and
    named after the versions of kldrift and numba and a hash of the kernels' source text: numba itself does not notice
    when a function that a kernel calls has changed in another file.
    """
    chosen = os.environ.get("KLDRIFT_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = Path(chosen) if chosen else Path(home) / "kldrift"
    except RuntimeError:
        return Place(None, problem="this user has no home directory; set KLDRIFT_CACHE_DIR")
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    directory = root / f"kldrift-{_version()}-numba-{numba.__version__}-{digest}"
    try:
        directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            problem = _foreign(descriptor)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        return Place(None, problem=f"{directory}: {error.strerror}; set KLDRIFT_CACHE_DIR to a directory of its own")
    if problem:
        os.close(descriptor)
        return Place(None, problem=f"{directory}: {problem}; remove it, or set KLDRIFT_CACHE_DIR to another place")
    by_descriptor = f"/proc/self/fd/{descriptor}"  # the descriptor stays open as long as the process lives
    return Place(directory, by_descriptor if Path(by_descriptor).is_dir() else str(directory))


def _version() -> str:
    try:
        return version("kldrift")
    except PackageNotFoundError:
        return "unknown"


def _foreign(descriptor: int) -> str:
    """Return what somebody else owns, or could have written, at or below a directory; empty if nothing.

    A directory of ours that others may look into is closed to them.
    """
    us = os.geteuid()
    found = os.fstat(descriptor)
    if found.st_uid != us:
        return f"it belongs to user {found.st_uid}, and code from it would run as user {us}"
    if found.st_mode & _OTHERS_WRITE:
        return "other users may write to it, and code from it would run as this one"
    if found.st_mode & 0o777 != _PRIVATE:
        os.fchmod(descriptor, _PRIVATE)
    for folder, folders, files, at in os.fwalk(".", dir_fd=descriptor):
        for name in (*folders, *files):
            if os.stat(name, dir_fd=at, follow_symlinks=False).st_uid != us:
                return f"{Path(folder, name)} in it belongs to another user, and code from it would run as this one"
    return ""
