"""Files with secrets: read with care, and read again when they change."""

import asyncio
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from kldrift.errors import ConfigError

#: Told what should be changed but hinders nothing.
Warn = Callable[[str], None]

_MAX_BYTES = 1 << 20
#: How often files are looked at for changes.
_LOOK_SECONDS = 10.0


def read_secret(path: Path, key: str, warn: Warn) -> bytes:
    """The content of a file with secrets; `key` is where the configuration names it.

    That others may read it is worth a warning only: Kubernetes and Docker mount secrets so. That others may write it
    is an error: whoever can would let themselves in.

    Raises
    ------
    ConfigError
        it is no readable file of at most 1 MiB, or everyone may write it
    """
    content = read_file(path, key)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise ConfigError([f"{path}: expected a file that not everyone can write, got mode {mode:04o}; chmod 600 it"])
    if mode & stat.S_IROTH:
        warn(f"{path}: everyone on this machine can read it (mode {mode:04o}); chmod 600 it, or 640 for its group")
    return content


def read_file(path: Path, key: str) -> bytes:
    """The content of a file that the configuration names at `key`.

    Raises
    ------
    ConfigError
        it is no readable file of at most 1 MiB
    """
    try:
        if not path.is_file():  # to open a pipe would wait for its writer
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
    """Something made from files that can be made anew while it is in use."""

    @property
    def files(self) -> Sequence[Path]:
        """What it is made from."""
        ...

    def load(self) -> Callable[[], None]:
        """Read the files and test what they hold; calling the result puts it to use.

        Raises
        ------
        ConfigError
            with every problem; what is in use stays
        """
        ...


class Watch:
    """Looks whether files have changed, and loads what is made from them.

    Parameters
    ----------
    watched : loaded already
    on_reload : told the problems after each loading; none: it is in use
    """

    def __init__(self, watched: Sequence[Reloadable], on_reload: Callable[[Sequence[str]], None]) -> None:
        self._watched = watched
        self._on_reload = on_reload
        self._seen = [_signature(each.files) for each in watched]

    def look(self) -> None:
        """Look once."""
        for i, each in enumerate(self._watched):
            # taken before the loading, so that a change during it is seen next time
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
        """Look every ten seconds, until cancelled."""
        while self._watched:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self.look)  # a network file system may let it wait


def _signature(paths: Sequence[Path]) -> list[tuple[int, ...]]:
    """What changes when a file does, or when another takes its place (a mounted secret is a chain of links)."""
    found: list[tuple[int, ...]] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(())
        else:
            found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
    return found
