"""Files with secrets: read with care, and read again when they change."""

import asyncio
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from kldrift.errors import ConfigError

#: Called with what should be changed but does not prevent anything.
Warn = Callable[[str], None]

_MAX_BYTES = 1 << 20
#: Interval at which files are checked for changes.
_LOOK_SECONDS = 10.0


def read_secret(path: Path, key: str, warn: Warn) -> bytes:
    """Read a file with secrets, which the configuration names at `key`.

    If others can read it, that is only worth a warning: Kubernetes and Docker mount secrets that way. If others can
    write it, that is an error: they could let themselves in.

    Raises
    ------
    ConfigError
        it is not a readable file of at most 1 MiB, or everyone can write it
    """
    content = read_file(path, key)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise ConfigError([f"{path}: expected a file that not everyone can write, got mode {mode:04o}; chmod 600 it"])
    if mode & stat.S_IROTH:
        warn(f"{path}: everyone on this machine can read it (mode {mode:04o}); chmod 600 it, or 640 for its group")
    return content


def read_file(path: Path, key: str) -> bytes:
    """Read a file that the configuration names at `key`.

    Raises
    ------
    ConfigError
        it is not a readable file of at most 1 MiB
    """
    try:
        if not path.is_file():  # opening a pipe would block until somebody writes to it
            got = "something else" if path.exists() else "nothing"
            raise ConfigError([f"{path}: expected a file, got {got}; correct {key} or make the file"])
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            [f"{path}: expected a readable file, got {reason!r}; correct {key} or the permissions"]
        ) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError([f"{path}: expected at most 1 MiB, got more; is it the right file for {key}?"])
    return content


class Reloadable(Protocol):
    """Something loaded from files that can be reloaded while in use."""

    @property
    def files(self) -> Sequence[Path]:
        """The files it is loaded from."""
        ...

    def load(self) -> Callable[[], None]:
        """Read and check the files; calling the result puts them into use.

        Raises
        ------
        ConfigError
            with every problem; what is in use stays in use
        """
        ...


class Watch:
    """Checks whether files have changed, and reloads what depends on them.

    Parameters
    ----------
    watched : already loaded
    on_reload : called after each reload with the problems; none: the new files are in use
    """

    def __init__(self, watched: Sequence[Reloadable], on_reload: Callable[[Sequence[str]], None]) -> None:
        self._watched = watched
        self._on_reload = on_reload
        self._seen = [_signature(each.files) for each in watched]

    def look(self) -> None:
        """Check once."""
        for i, each in enumerate(self._watched):
            # taken before loading, so that a change during loading is noticed next time
            signature = _signature(each.files)
            if signature == self._seen[i]:
                continue
            self._seen[i] = signature
            try:
                each.load()()
            except ConfigError as error:
                self._on_reload(error.problems)
            else:
                self._on_reload(())

    async def run(self) -> None:
        """Check every ten seconds until cancelled."""
        while self._watched:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self.look)  # a network file system may block


def _signature(paths: Sequence[Path]) -> list[tuple[int, ...]]:
    """Return what changes when a file is changed or replaced (a mounted secret is a chain of links)."""
    found: list[tuple[int, ...]] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(())
        else:
            found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
    return found
