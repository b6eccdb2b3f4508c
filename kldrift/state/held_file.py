"""The state file as one process holds it: nobody else uses it, and it is still the one that was opened."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from kldrift.errors import StateError

#: On these, locks and shared memory do not work as SQLite requires.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "fuse.sshfs", "fuse.s3fs"}
)

#: Files that SQLite keeps beside its database.
LOG, INDEX = "-wal", "-shm"


class _Identity(NamedTuple):
    """A file, whatever its names are."""

    device: int
    inode: int


class HeldFile:
    """The exclusive use of a state file.

    The file is locked by itself, so that a symbolic or hard link to it leads to the same lock, and a file beside it
    names the process that has it. SQLite's own locks are of another kind, and are released as soon as the process
    closes any descriptor of the file: so this one stays open until `release`.

    Parameters
    ----------
    path : the file, which need not exist

    Raises
    ------
    StateError
        another process has it, it is on a network file system, or its folder is not writable
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The file that the path leads to, through any symbolic links.
        self.real = path.resolve()
        self._descriptor: int | None = None
        self._known: dict[str, _Identity] = {}
        _refuse_network(self.real)
        self._owner = _take_lock(path, self.real)

    @property
    def has_log(self) -> bool:
        """Whether there is a write-ahead log, of this file or of one that was removed."""
        return self._beside(LOG).exists()

    def hold(self) -> None:
        """Lock the file as it is now; one that was held before is let go.

        Raises
        ------
        StateError
            another process has it
        FileNotFoundError
            it does not exist
        """
        self._let_go()
        descriptor = os.open(self.real, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StateError(
                f"{self.path}: expected to be the only process using this state, but another one has it, perhaps by"
                " another name; stop it, or give this process its own state.path"
            ) from None
        self._descriptor = descriptor

    def remember(self) -> None:
        """Take note which files they are: the database and its log, both open now."""
        self._known = {suffix: found for suffix in ("", LOG) if (found := _identity(self._beside(suffix))) is not None}

    def check(self) -> None:
        """Check that what is written goes to the files that a restart will read.

        Raises
        ------
        StateError
            the file or its log was removed, renamed or replaced
        """
        for suffix, known in self._known.items():
            found = _identity(self._beside(suffix))
            if found != known:
                what = "has been removed" if found is None else "has been replaced by another file"
                raise StateError(
                    f"{self._beside(suffix)} {what} while kldrift was using it, so nothing that is counted now would"
                    " outlive this process; put it back as it was, or restart kldrift to continue with what is there"
                )

    def release(self) -> None:
        """Let others use the file; nothing must have it open any more."""
        self._let_go()
        self._owner.close()

    def move_aside(self) -> Path:
        """Rename the file and those that belong to it; returns the new name."""
        number = 1
        while (aside := self.real.with_name(f"{self.real.name}.damaged-{number}")).exists():
            number += 1
        for suffix in ("", LOG, INDEX):
            with suppress(FileNotFoundError):
                self._beside(suffix).rename(aside.with_name(aside.name + suffix))
        return aside

    def _beside(self, suffix: str) -> Path:
        return self.real.with_name(self.real.name + suffix)

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Identity(found.st_dev, found.st_ino)


def _take_lock(path: Path, real: Path) -> TextIO:
    """Lock the file next to `real` that names the process that uses it.

    Raises
    ------
    StateError
        another process has locked it, or the folder is not writable
    """
    lock = real.with_name(real.name + ".lock")
    try:
        file = lock.open("a+")
    except OSError as error:
        raise StateError(
            f"{path}: expected a writable folder, got {error.strerror}; set state.path to another place"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read(32).strip()
        file.close()
        raise StateError(
            f"{path}: expected to be the only process using this state, but process {owner or 'unknown'} has it;"
            " stop it, or give this process its own state.path"
        ) from None
    try:
        file.truncate(0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    except OSError as error:
        file.close()
        raise StateError(f"{path}: expected to write to {lock.name}, got {error.strerror}; {remedy(error)}") from None
    return file


def _refuse_network(path: Path) -> None:
    """Refuse a file system on which locks and shared memory do not work as SQLite requires.

    Raises
    ------
    StateError
        the file would be on such a file system
    """
    folder = path.absolute().parent.resolve()
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux: file systems are unknown, nothing is refused
        return
    found = ("", "")
    for line in mounts:
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    if found[1] in NETWORK_FILE_SYSTEMS:
        raise StateError(
            f"{path}: expected a local disk, {found[0]} is {found[1]}, where two processes could both believe they own"
            " the file and a power cut could lose confirmed samples; put state.path on a local disk"
        )


def remedy(error: Exception) -> str:
    """Say what to do about an error of the disk or of SQLite."""
    text = str(error).lower()
    if "full" in text or "no space" in text:
        return "free up disk space"
    if "readonly" in text or "read-only" in text or "unable to open" in text or "denied" in text:
        return "make the folder of state.path writable for this user"
    return "check the disk, or set state.path to another file"
