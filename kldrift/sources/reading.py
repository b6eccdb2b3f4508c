"""What a file source knows while it reads: the files in sight, and the positions of those that were."""

import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kldrift.sources.base import ErrorCallback, Position, Positions
from kldrift.sources.contents import Content, Identity
from kldrift.sources.recognition import Claim
from kldrift.sources.rotation import Sought, beside

# Handles stay open so that data written just before a rename or a deletion is still read; few enough that a process
# with the usual limit of 1024 does not run out.
_MAX_HANDLES = 256
# Positions kept of files whose inode is in use again.
_MAX_REMEMBERED = 4096
#: The `state` of a position: of a file that was left by its writer and read to its end, and of one that was deleted.
FINISHED, DELETED = "finished", "deleted"
#: A file that has grown within this time is looked at in every pass.
_ACTIVE_MS = 10_000


@dataclass(slots=True)
class OpenFile:
    """A file being read, under its current name."""

    path: str
    content: Content
    quiet_since_ms: int
    status: os.stat_result
    seen: tuple[int, int] | None = None  # size and mtime when it was last read
    renamed: bool = False
    gone: bool = False
    settled: bool = False
    aside: bool = False  # no name of the pattern

    @property
    def decided(self) -> bool:
        """Whether it is known if it continues another one."""
        return self.seen is not None and not self.content.waits

    def is_idle(self, now_ms: int) -> bool:
        """Whether there is nothing to do until it changes, and it has not done so lately."""
        unchanged = self.seen == (self.status.st_size, self.status.st_mtime_ns)
        return self.settled and unchanged and not self.gone and now_ms - self.quiet_since_ms > _ACTIVE_MS

    @property
    def deleted(self) -> bool:
        """Whether it is known to have no name any more."""
        fd = self.content.open_fd()
        return fd is not None and not os.fstat(fd).st_nlink


class Reading:
    """The state of one call of `FileSource.chunks`.

    Parameters
    ----------
    positions : where each stream continues
    on_error : called once for each file and reason, until the file can be read again
    """

    def __init__(self, positions: Positions, stop: threading.Event, on_error: ErrorCallback) -> None:
        self.stop = stop
        self.files: dict[str, OpenFile] = {}
        self.complaints: dict[str, str] = {}
        self.sought: dict[str, Sought] = {}  # by the stream of the file
        self.first_pass = True
        self.n_bytes = 0
        self._on_error = on_error
        self._held: dict[str, OpenFile] = {}  # have an open handle; most recently read last
        self._positions: dict[str, Position] = {}
        self._streams: dict[str, dict[str, None]] = {}  # by path
        # Of files whose inode another one has got since.
        self._past: deque[tuple[str, Position]] = deque(maxlen=_MAX_REMEMBERED)
        for stream, position in list(positions.items()):  # the caller adds to them meanwhile
            self.moved(stream, position)

    def moved(self, stream: str, position: Position) -> None:
        """Remember where a stream continues."""
        before = self._positions.get(stream)
        if before is not None and before.get("path") != position.get("path"):
            self._streams[str(before.get("path"))].pop(stream, None)
        self._positions[stream] = position
        self._streams.setdefault(str(position.get("path")), {})[stream] = None

    def has_other_content(self, stream: str) -> None:
        """Remember the position in the file whose inode another one has got, since its archive may come yet."""
        if stream in self._positions:
            self._past.append((stream, self._positions[stream]))

    def position(self, stream: str) -> Position:
        """Return where a stream continues; one whose file was deleted begins anew, as its inode is another file's."""
        position = self._positions.get(stream, {})
        return {} if position.get("state") == DELETED else position

    def claims(self, stream: str, path: str, archived: bool) -> list[Claim]:
        """Return what a new file may continue: an archive any file, another one what it has replaced at `path`."""
        sought = [sought.claim for sought in self.sought.values()]
        return sought + (self._archivable() if archived else self._replaced(stream, path))

    def open_positions(self) -> list[tuple[str, Position]]:
        """Return the positions in plain files of which more may be expected, and in archives that continue one."""
        return [
            (stream, position)
            for stream, position in self._positions.items()
            if "state" not in position and ("sum" in position or "continues" in position)
        ]

    def is_wanted(self, stream: str) -> bool:
        """Return whether a file that the pattern does not match is not read yet, or not to its end."""
        position = self.position(stream)
        return stream not in self.files and "state" not in position and not position.get("complete")

    def is_continued(self, stream: str, offset: int, streams: Iterable[str]) -> bool:
        """Return whether one of these streams goes on behind what was read of a file."""
        known = (self._positions.get(other, {}) for other in streams)
        return any(p.get("continues") == stream and int(p["offset"]) >= offset for p in known)

    def _archivable(self) -> list[Claim]:
        now = [
            Claim(stream, position, open=stream in self.files and "state" not in position)
            for stream, position in self._positions.items()
            if "sum" in position and stream not in self.sought
        ]
        return [*now, *(Claim(stream, position) for stream, position in self._past if "sum" in position)]

    def _replaced(self, stream: str, path: str) -> list[Claim]:
        """Return the last position of this name, if its file was deleted.

        Tools that write a file anew (rsync, editors, ``mv``) unlink the old one, whereas rotation renames it.
        """
        before = [
            Claim(other, self._positions[other], replaced=True)
            for other in self._streams.get(printable(path), {})
            if "modified" in self._positions[other] and (other != stream or not self.position(other))
        ]
        before = [claim for claim in before if self._is_deleted(claim, path)]
        return sorted(before, key=lambda claim: int(claim.position["modified"]))[-1:]

    def _is_deleted(self, claim: Claim, path: str) -> bool:
        if claim.position.get("state") == DELETED:
            return True
        file = self.files.get(claim.stream)
        if file is not None and file.content.open_fd() is not None:
            return file.deleted
        return claim.stream not in (stream for stream, _ in beside(path))

    def superseded(self, stream: str, by: OpenFile) -> Position | None:
        """Let go of a file whose rest is in the one that replaced it; return its position, None if it has more."""
        old = self.files.get(stream)
        if old is None:
            self.moved(stream, {**self._positions[stream], "state": DELETED})
            return self._positions[stream]
        mine, its = old.content.open_fd(), by.content.open_fd()
        if mine is not None and its is not None:
            offset = int(old.content.position()["offset"])
            rest = os.pread(mine, os.fstat(mine).st_size - offset, offset)
            if os.pread(its, len(rest), offset) != rest:
                return None
        return self.let_go(stream, old, deleted=True)

    def let_go(self, stream: str, file: OpenFile, deleted: bool) -> Position:
        """Forget a file that is out of sight, except for its position; returns that."""
        position = placed(stream, file.path, file.content.position())
        if deleted:
            position["state"] = DELETED
        self.moved(stream, position)
        file.content.close()
        del self.files[stream]
        self._held.pop(stream, None)
        self.complaints.pop(file.path, None)
        return position

    def hold(self, stream: str, file: OpenFile) -> None:
        """Close the handles of the files that were read longest ago, to bound their number."""
        self._held.pop(stream, None)
        if file.content.open_fd() is None:
            return
        self._held[stream] = file
        if len(self._held) > _MAX_HANDLES:
            oldest = next((s for s, f in self._held.items() if not f.gone), stream)
            self._held.pop(oldest).content.close()

    def complain_of(self, path: str, error: OSError) -> None:
        """Report that the file system refused a file."""
        match error:
            case FileNotFoundError():
                reason = "vanished"
            case PermissionError():
                reason = "permission"
            case _:
                reason = "read"
        self.complain(path, reason, f"{path}: cannot be read ({error.strerror}); will retry")

    def complain(self, path: str, reason: str, detail: str) -> None:
        """Report what is wrong with a file, once."""
        if self.complaints.get(path) != reason:
            self.complaints[path] = reason
            self._on_error(reason, detail)

    def close(self) -> None:
        """Close every file."""
        for file in self.files.values():
            file.content.close()


def look_again(files: Iterable[tuple[str, OpenFile]]) -> bool:
    """Look at known files alone; False if one of them is no longer where it was."""
    for stream, file in files:
        if not file.gone:
            try:
                status = os.stat(file.path)  # noqa: PTH116 - fast enough for a thousand files
            except OSError:
                return False
            if Identity.of(status).stream != stream:
                return False
            file.status = status
    return True


def placed(stream: str, path: str, position: Position) -> dict[str, int | str]:
    """Return a position in a file with the file that it belongs to."""
    device, inode = (int(part) for part in stream.split(":"))
    return {"path": printable(path), "device": device, "inode": inode, **position}


def is_at(path: str, identity: Identity) -> bool:
    """Return whether this is the name of the file."""
    try:
        return Identity.of(Path(path).stat()) == identity
    except OSError:
        return False


def printable(path: str) -> str:
    """Return a path as text that can be stored and logged, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
