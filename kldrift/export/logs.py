"""The log: one event a line on stderr, in logfmt or JSON.

The fields of an event are whatever is passed in `extra`. Secrets are redacted, whichever field or text holds them.
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
    """Replace what looks like a secret: user information in URLs, bearer tokens, ``password=…``."""
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


class _EventFormatter(logging.Formatter):
    """Base of the formatters: the fields of a record as time, level, logger, message, extra, exception."""

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
    """Formatter for ``ts=… level=warning msg="source failed" source=scores``; values are quoted where necessary."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, whatever the values contain."""
        return " ".join(f"{_key(name)}={_logfmt(value)}" for name, value in self.fields(record).items())


class JsonFormatter(_EventFormatter):
    """Formatter for one JSON object per line, ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, whatever the values contain."""
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
    """Send the events of all loggers to `stream` (default: stderr); replaces the handler of an earlier call.

    Returns the handler, so that it can be detached.
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
    """A log that rate-limits repeated events: at most one line per interval, with a count of those suppressed.

    Parameters
    ----------
    interval_seconds : minimum time between two lines with the same key
    clock : seconds
    max_keys : how many keys to remember; beyond that, the least recently logged is forgotten
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
        self._logged: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # when last, how many suppressed since
        self._lock = Lock()

    def event(self, level: int, message: str, **fields: FieldValue) -> None:
        """Log an event that deserves a line each time it happens."""
        self._logger.log(level, message, extra=fields)

    def repeated(
        self,
        key: Hashable,
        level: int,
        message: str,
        fields: Mapping[str, FieldValue],
        error: BaseException | None = None,
    ) -> None:
        """Log an event that may happen many times a second; events with the same `key` are the same.

        The traceback of `error` is logged with it.
        """
        now = self._clock()
        with self._lock:
            last, suppressed = self._logged.get(key, (None, 0))
            if last is not None and 0 <= now - last < self._interval_seconds:
                self._logged[key] = (last, suppressed + 1)
                return
            self._logged[key] = (now, 0)
            self._logged.move_to_end(key)
            if len(self._logged) > self._max_keys:
                self._logged.popitem(last=False)
        extra = {**fields, "suppressed": suppressed} if suppressed else dict(fields)
        self._logger.log(level, message, extra=extra, exc_info=error)
