import io
import json
import logging
import sys

import pytest

from kldrift.export.logs import (
    EventLog,
    JsonFormatter,
    LogfmtFormatter,
    configure_logging,
    redact,
)

FORMATTERS = {"logfmt": LogfmtFormatter(), "json": JsonFormatter()}


def record(message, *args, exc_info=None, **fields):
    made = logging.LogRecord("kldrift.x", logging.WARNING, "file.py", 1, message, args, exc_info)
    made.created = 1_750_000_000.25
    vars(made).update(fields)
    return made


def test_logfmt_quotes_what_must_be_quoted() -> None:
    line = LogfmtFormatter().format(
        record("%d rows rejected", 3, source="scores", error='expected "a" = b', up=True, seconds=0.5, feature=None)
    )
    assert line == (
        'ts=2025-06-15T15:06:40.250Z level=warning logger=kldrift.x msg="3 rows rejected" source=scores '
        r'error="expected \"a\" = b" up=true seconds=0.5 feature=null'
    )


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record("rows rejected", source="scores", rows=3, kl=float("inf"), up=False))
    assert json.loads(line) == {
        "ts": "2025-06-15T15:06:40.250Z",
        "level": "warning",
        "logger": "kldrift.x",
        "msg": "rows rejected",
        "source": "scores",
        "rows": 3,
        "kl": "inf",
        "up": False,
    }


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS)
@pytest.mark.parametrize(
    "text", ["two\nlines", "a\r\nb", "\x1b[31mred", "nul\x00", "\udc80", "\u2028", "", "=", "\x85"]
)
def test_no_value_breaks_out_of_its_line(formatter: JsonFormatter | LogfmtFormatter, text: str) -> None:
    """What a client sends cannot forge a line of the log, nor reach the terminal."""
    line = formatter.format(record(text, field=text))
    assert line.isprintable()
    line.encode("utf-8")
    shown = json.loads(line) if isinstance(formatter, JsonFormatter) else None
    if shown:
        assert shown["msg"] == shown["field"] == text


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS)
def test_an_exception_is_on_the_same_line(formatter: JsonFormatter | LogfmtFormatter) -> None:
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        line = formatter.format(record("failed", exc_info=sys.exc_info()))
    assert "ValueError" in line
    assert "Traceback" in line
    assert "hunter2" not in line
    assert "\n" not in line


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS)
@pytest.mark.parametrize(
    "fields",
    [
        {"password": "hunter2"},
        {"sasl_password": "hunter2"},
        {"Authorization": "hunter2"},
        {"api_key": "hunter2"},
        {"url": "https://me:hunter2@example.org/x"},
        {"url": "kafka://hunter2@example.org"},
        {"header": "Bearer hunter2hunter2"},
        {"header": "Basic bWU6aHVudGVyMg=="},
        {"error": "header Authorization: Digest hunter2"},
        {"error": "cannot connect with password=hunter2, giving up"},
        {"error": "got {'token': 'hunter2', 'a': 1}"},
        {"error": 'sasl.password = "hunter2"'},
    ],
)
def test_a_secret_is_never_printed(formatter: JsonFormatter | LogfmtFormatter, fields: dict[str, str]) -> None:
    """hunter2, or its base64."""
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    for line in (formatter.format(record("connecting", **fields)), formatter.format(record(text))):
        assert "hunter2" not in line
        assert "bWU6aHVudGVyMg" not in line
        assert "***" in line


@pytest.mark.parametrize(
    "text",
    [
        "kldrift.yaml:3: sources.scores.password_file: expected a file that can be read, got /etc/x; make it",
        "kldrift.yaml:3: sources.scores.password: expected a reference such as ${NAME}",
        "12 rows rejected: basic type wanted",
        "see https://example.org/a@b for tokens: many",
    ],
)
def test_what_is_no_secret_is_printed(text: str) -> None:
    assert redact(text) == text


def test_configured_again_the_earlier_handler_goes() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    first, second = io.StringIO(), io.StringIO()
    try:
        configure_logging("logfmt", "INFO", first)
        handler = configure_logging("json", "WARNING", second)
        logging.getLogger("kldrift.a").info("not told")
        logging.getLogger("kldrift.a").warning("told", extra={"source": "x"})
        assert first.getvalue() == ""
        assert json.loads(second.getvalue())["source"] == "x"
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert root.handlers == before


# --- repeated events ---------------------------------------------------------------------------------


class Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records = []

    def emit(self, record) -> None:
        self.records.append((record.getMessage(), getattr(record, "suppressed", 0)))


@pytest.fixture
def told():
    """(logger, list of (message, suppressed))."""
    logger = logging.Logger("kldrift.test")  # noqa: LOG001  # of this test alone
    handler = Told()
    logger.addHandler(handler)
    return logger, handler.records


def test_a_repeated_event_is_told_once_a_minute_with_how_often_it_was_not(told) -> None:
    """
    seconds  0  20  40  59 60  80      200
    a        !  .   .   .  !   .       !
    b               !
    """
    now = [0.0]
    log = EventLog(told[0], interval_seconds=60, clock=lambda: now[0])
    for seconds, key in [(0, "a"), (20, "a"), (40, "a"), (40, "b"), (59, "a"), (60, "a"), (80, "a"), (200, "a")]:
        now[0] = seconds
        log.repeated(key, logging.WARNING, f"{key} at {seconds}", {})
    assert told[1] == [("a at 0", 0), ("b at 40", 0), ("a at 60", 3), ("a at 200", 1)]


def test_a_clock_that_is_set_back_does_not_silence_an_event(told) -> None:
    now = [1e9]
    log = EventLog(told[0], clock=lambda: now[0])
    log.repeated("a", logging.WARNING, "before", {})
    now[0] = 0.0
    log.repeated("a", logging.WARNING, "after", {})
    assert told[1] == [("before", 0), ("after", 0)]


def test_only_so_many_keys_are_remembered(told) -> None:
    log = EventLog(told[0], clock=lambda: 0.0, max_keys=3)
    for i in (*range(4), 3, 0):  # 0 was forgotten, 3 was not
        log.repeated(i, logging.WARNING, str(i), {})
    assert [message for message, _ in told[1]] == ["0", "1", "2", "3", "0"]
