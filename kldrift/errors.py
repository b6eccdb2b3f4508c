"""Every exception that kldrift raises on purpose.

KldriftError
├── ConfigError          the configuration file is invalid; carries every problem found
├── ReferenceProblem     a reference cannot be read, built or used
│   └── DataFileProblem  a data file cannot be read: most are references
├── DecodeError          a whole body or file cannot be read (a bad *row* is counted, not raised)
├── SourceError          a source cannot be opened or read
├── StateError           the state cannot be opened, read or written
├── ListenError          the address to listen on is unavailable
├── KeyConflict          an idempotency key is in use, or was used with another body
└── Busy                 the intake is full; try again later
    └── Uncommitted      samples are counted but cannot be stored yet; they will be once that is possible
"""

from collections.abc import Sequence


class KldriftError(Exception):
    """Base class; its text is written for users and says what to do."""


class ConfigError(KldriftError):
    """The configuration is invalid.

    Parameters
    ----------
    problems : one line each, ``file:line: path: expected …, got …; what to do``
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ReferenceProblem(KldriftError):
    """A reference cannot be read, built, or used for a feature."""


class DataFileProblem(ReferenceProblem):
    """A data file cannot be read: that of a reference, or one given to a command."""


class DecodeError(KldriftError):
    """A body or a file cannot be read at all."""


class SourceError(KldriftError):
    """A source cannot be opened or read.

    Parameters
    ----------
    reason : a word from a bounded set, used as a metric label
    """

    def __init__(self, message: str, reason: str = "read") -> None:
        self.reason = reason
        super().__init__(message)


class StateError(KldriftError):
    """The state cannot be opened, read or written."""


class ListenError(KldriftError):
    """The address to listen on is in use, unknown or not allowed."""


class KeyConflict(KldriftError):
    """An idempotency key cannot be used for this post.

    Parameters
    ----------
    in_use : the first post with the key has not been answered yet; otherwise the key was used with another body
    """

    def __init__(self, message: str, in_use: bool) -> None:
        self.in_use = in_use
        super().__init__(message)


class Busy(KldriftError):
    """The intake queue is full; nothing of this body was accepted."""

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class Uncommitted(Busy):
    """The samples are counted but cannot be stored yet; they will be once that is possible, unless the process ends
    first.
    """
