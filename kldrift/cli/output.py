"""Writing what a command makes: to a file in one piece, or to standard output."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from kldrift.cli.tables import console
from kldrift.errors import ConfigError

#: The name that stands for standard output.
STDOUT = Path("-")


def write_whole(path: Path, text: str, what: str, option: str = "-o", replace: bool = True) -> None:
    """Write text to a file so that it is there in full, or not at all. A device or a pipe is written to directly.

    Parameters
    ----------
    what : names the text in the error
    option : of the command, for the remedy
    replace : whether a file that exists is overwritten

    Raises
    ------
    ConfigError
        the file cannot be written; an existing one is left as it was
    OSError
        standard output cannot be written to
    """
    content = text.encode("utf-8", "replace")
    if path == STDOUT:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    target = path.resolve() if path.is_file() else path  # a link stays a link
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():  # renaming a file over it would remove the device
            path.write_bytes(content)
            return
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            part.replace(target)
        else:  # a file that has appeared meanwhile is not overwritten
            os.link(part, target)
            part.unlink()
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        problem = f"{path}: expected to write the {what}, got {error.strerror}; nothing was changed"
        raise ConfigError([f"{problem}, choose another place with {option}"]) from None


def messages(path: Path | None) -> Console:
    """Return the console for messages beside what goes to `path`: standard error if that is standard output."""
    return Console(stderr=True, highlight=False) if path == STDOUT else console()


def shown(path: Path) -> str:
    """Return the name of a path in messages."""
    return "standard output" if path == STDOUT else str(path)
