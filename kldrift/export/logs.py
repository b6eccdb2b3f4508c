"""The log: one event a line on stderr, in logfmt or JSON.

A field of an event is anything passed in `extra`; a secret is not printed, whatever the field or text it is in.
"""

import json
import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Literal, TextIO

LogFormat = Literal["logfmt", "json"]
FieldValue = str | int | float | bool | None

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_REDACTED = "***"
_SECRET_FIELD = re.compile(r"(passw|secret|token|api_?key|authorization|credential)(?!.*_file)", re.IGNORECASE)
_SECRET_TEXTS = (
    (re.compile(r"(?<=://)[^\s/@]+@"), _REDACTED + "@"),  # user:password@host
    (re.compile(r"(authorization[\"']?\s*[=:]\s*[\"']?)[^\"',;]+", re.IGNORECASE), rf"\1{_REDACTED}"),
    (re.compile(r"\b((?i:bearer|basic)) (?=[a-z._~+/-]*[A-Z0-9=])[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {_REDACTED}"),
    # password=hunter2, "api_key": "…"; not password_file=…, which names a file
    (
        re.compile(
            r"((?:password|passwd|secret|token|api[_-]?key)(?!_file)[\w-]*[\"']?)"
            r"(\s*=\s*[\"']?|\s*:\s*[\"'])[^\s,;&\"']+",
            re.IGNORECASE,
        ),
        rf"\1\2{_REDACTED}",
    ),
)
_BARE = re.compile(r"[^\s\"=\\]+")


def redact(text: str) -> str:
    """Text with what looks like a secret replaced: URL user information, bearer tokens, ``password=…``."""
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


class _EventFormatter(logging.Formatter):
    """Collects the fields of a record, in the order time, level, logger, message, extra, exception."""

    def fields(self, record: logging.LogRecord) -> dict[str, FieldValue]:
        at = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, FieldValue] = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": redact(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name in _STANDARD:
                continue
            if _SECRET_FIELD.search(name):
                fields[name] = _REDACTED
            elif value is None or isinstance(value, bool | int | float):
                fields[name] = value
            else:
                fields[name] = redact(str(value))
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = redact(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = redact(record.stack_info)
        return fields


class LogfmtFormatter(_EventFormatter):
    """``ts=… level=warning msg="source failed" source=scores``; a value is quoted where it must be."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        return " ".join(f"{_key(name)}={_logfmt(value)}" for name, value in self.fields(record).items())


class JsonFormatter(_EventFormatter):
    """One JSON object a line, ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        fields = {
            name: repr(value) if isinstance(value, float) and value - value != 0 else value  # NaN, Inf
            for name, value in self.fields(record).items()
        }
        return json.dumps(fields, allow_nan=False)


def _key(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _logfmt(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return repr(value)
    if value.isprintable() and _BARE.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


def configure_logging(
    log_format: LogFormat = "logfmt", level: int | str = logging.INFO, stream: TextIO | None = None
) -> logging.Handler:
    """Send every logger's events to `stream` (stderr by default) in one format; replaces an earlier call's handler.

    Returns the handler, for whoever must detach it again.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(LogfmtFormatter() if log_format == "logfmt" else JsonFormatter())
    root = logging.getLogger()
    for earlier in list(root.handlers):
        if isinstance(earlier.formatter, _EventFormatter):
            root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper() if isinstance(level, str) else level)
    return handler


class EventLog:
    """Logs events; one that repeats is told once, then at most once an interval with how often it was not told.

    Parameters
    ----------
    interval_seconds : between two lines of the same key
    clock : seconds
    max_keys : keys remembered; beyond, the one that was used longest ago is forgotten
    """

    def __init__(
        self,
        logger: logging.Logger,
        interval_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        max_keys: int = 1024,
    ) -> None:
        self._logger = logger
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._max_keys = max_keys
        self._told: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # when last, how many not since
        self._lock = Lock()

    def event(self, level: int, message: str, **fields: FieldValue) -> None:
        """Log an event that is worth a line each time it happens."""
        self._logger.log(level, message, extra=fields)

    def repeated(
        self,
        key: Hashable,
        level: int,
        message: str,
        fields: Mapping[str, FieldValue],
        error: BaseException | None = None,
    ) -> None:
        """Log an event that may come many times a second; `key` says which events are the same.

        The traceback of `error` goes with it.
        """
        now = self._clock()
        with self._lock:
            last, suppressed = self._told.get(key, (None, 0))
            if last is not None and 0 <= now - last < self._interval_seconds:
                self._told[key] = (last, suppressed + 1)
                return
            self._told[key] = (now, 0)
            self._told.move_to_end(key)
            if len(self._told) > self._max_keys:
                self._told.popitem(last=False)
        extra = {**fields, "suppressed": suppressed} if suppressed else dict(fields)
        self._logger.log(level, message, extra=extra, exc_info=error)
