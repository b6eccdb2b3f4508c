"""What rotation makes of a file: where its rest may be, once it is no longer where it was."""

import os
import re
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from kldrift.sources.base import Position
from kldrift.sources.contents import Identity
from kldrift.sources.readers import fingerprint
from kldrift.sources.recognition import Claim

#: What rotation adds to a name: a number or a time behind it, a date in front of the extension (a number there may be
#: that of another writer), and the suffix of an archive.
_BEHIND = r"(?:[-._](?:old|\d[\d\-_.:TZ]*))?"
_WITHIN = r"[-._]\d{4}[\d\-_.:TZ]*"
_ARCHIVE = r"(?:\.gz|\.zst)?"
#: A folder that has not changed for this long keeps its listing, for all of its files: the clocks of files are coarse.
_SETTLED_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Sought:
    """A file whose rest is looked for in others, which are read first.

    Parameters
    ----------
    claim : what was read of it
    among : the streams of files that may go on behind that
    """

    claim: Claim
    among: Collection[str] = field(default_factory=tuple)

    @property
    def known_loss(self) -> int:
        """How many bytes of it were seen and not read."""
        return max(0, int(self.claim.position.get("size", 0)) - self.claim.offset)


def beside(path: str) -> Iterator[tuple[str, str]]:
    """Yield the stream and the path of every file in the folder of `path`."""
    for folder in {Path(path).parent, Path(path).resolve().parent}:  # of a link, and of what it points to
        with suppress(OSError):
            status = folder.stat()
            settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
            yield from (_listing if settled else _listing.__wrapped__)(folder, status.st_dev, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _listing(folder: Path, device: int, _: int) -> list[tuple[str, str]]:
    with os.scandir(folder) as entries:
        return [(Identity(device, entry.inode()).stream, entry.path) for entry in entries]


def generations(path: str, since_ns: int) -> list[tuple[str, os.stat_result]]:
    """Return the regular files that may be `path` under a rotated name and were changed since, the oldest first."""
    name = Path(path).name
    stem, extension = os.path.splitext(name)  # noqa: PTH122 - pathlib has no pair
    rotated = re.compile(
        f"(?:{re.escape(name)}{_BEHIND}|{re.escape(stem)}{_WITHIN}{re.escape(extension)}){_ARCHIVE}", re.ASCII
    )
    found = []
    for _, other in beside(path):
        if Path(other).name != name and rotated.fullmatch(Path(other).name):
            with suppress(OSError):
                status = Path(other).stat()
                if stat.S_ISREG(status.st_mode) and status.st_mtime_ns >= since_ns:
                    found.append((other, status))
    return sorted(found, key=lambda pair: pair[1].st_mtime_ns)


def renamed_to(stream: str, position: Position) -> str | None:
    """Return the name that a file has now in its folder, if it still begins with what was read of it."""
    read = int(position.get("mark", position["offset"]))
    for other, path in beside(str(position["path"])):
        if other == stream:
            with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - a name of any bytes
                status = os.fstat(file.fileno())
                same = Identity.of(status).stream == stream and status.st_size >= read
                if same and fingerprint(file.fileno(), read) == position["fingerprint"]:
                    return path
    return None
