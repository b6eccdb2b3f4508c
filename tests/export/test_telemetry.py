import gzip
import io
import json
import logging
import subprocess
import threading

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

import kldrift
from kldrift.export.logs import JsonFormatter
from kldrift.export.source_events import REJECT_REASONS
from kldrift.export.telemetry import Telemetry
from kldrift.records.samples import BodyResult, Chunk, RowError
from kldrift.records.snapshots import AddResult
from tests.export.snapshots import feature, monitor, snapshot
from tests.export.test_metrics import key, read

NOTHING = snapshot()
NO_ROWS = np.empty(0, dtype=np.int64)


class Clock:
    now = 1_750_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log():
    """A logger, and the events it has written so far as dicts."""
    logger = logging.Logger("kldrift.test")  # noqa: LOG001  # of this test alone
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    return logger, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def telemetry(clock: Clock, log):
    telemetry = Telemetry(log[0], clock)
    telemetry.configure(["scores"], ["http"], {"loans": ("amount", "country")})
    return telemetry


def series_of(telemetry, shown=NOTHING):
    return read(telemetry.exposition(False, False, shown))


def chunk(stream="a", lag_bytes=None, lag_records=None):
    return Chunk(stream, {}, b"", 0, lag_records=lag_records, lag_bytes=lag_bytes)


# --- the body of a scrape --------------------------------------------------------------------------


def test_counters_of_configured_names_stand_at_0_from_the_start(telemetry: Telemetry) -> None:
    series = series_of(telemetry)
    for source in ("scores", "http"):
        assert series[key("kldrift_samples_received_total", source=source)] == 0
        for reason in REJECT_REASONS:
            assert series[key("kldrift_samples_rejected_total", source=source, reason=reason)] == 0
        assert series[key("kldrift_source_errors_total", source=source, reason="batch")] == 0
    assert series[key("kldrift_source_errors_total", source="scores", reason="read")] == 0
    assert series[key("kldrift_samples_late_total", monitor="loans")] == 0
    assert series[key("kldrift_segment_rows_folded_total", monitor="loans")] == 0
    assert series[key("kldrift_values_invalid_total", monitor="loans", feature="amount")] == 0
    assert series[key("kldrift_values_invalid_total", monitor="loans", feature="country")] == 0
    assert series[key("kldrift_series_limit_hit_total")] == 0
    assert series[key("kldrift_queue_bytes")] == 0
    assert series[key("kldrift_source_up", source="scores")] == 0
    assert key("kldrift_source_up", source="http") not in series


def test_what_has_not_happened_yet_is_absent(telemetry: Telemetry) -> None:
    names = {name for name, _ in series_of(telemetry)}
    assert not names & {
        "kldrift_last_sample_timestamp_seconds",
        "kldrift_last_commit_timestamp_seconds",
        "kldrift_config_last_reload_successful",
        "kldrift_config_last_reload_success_timestamp_seconds",
        "kldrift_source_lag_bytes",
        "kldrift_source_lag_records",
    }


def test_there_are_no_created_series(telemetry: Telemetry) -> None:
    for openmetrics in (False, True):
        assert b"_created" not in telemetry.exposition(openmetrics, False, NOTHING)


def test_build_and_process_are_told(telemetry: Telemetry) -> None:
    series = series_of(telemetry)
    [labels] = [dict(labels) for name, labels in series if name == "kldrift_build_info"]
    assert labels["version"] == kldrift.__version__
    assert labels.keys() == {"version", "python", "numba"}
    assert series[key("process_resident_memory_bytes")] > 1e6


@pytest.mark.parametrize("openmetrics", [False, True])
def test_own_and_drift_families_are_one_valid_body(telemetry: Telemetry, openmetrics: bool) -> None:
    body = telemetry.exposition(openmetrics, False, snapshot(monitor()))
    if openmetrics:
        assert body.endswith(b"\n# EOF\n")
        assert body.count(b"# EOF") == 1
        names = [family.name for family in parse_openmetrics(body.decode())]
    else:
        assert b"# EOF" not in body
        names = [line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert "kldrift_kl_divergence_nats" in names
    assert "kldrift_queue_bytes" in names


def test_promtool_finds_nothing_to_say(telemetry: Telemetry, promtool: str) -> None:
    telemetry.reload_succeeded(1)
    telemetry.committed(0.1, 1)
    telemetry.batch_decoded("http", 1, {})
    telemetry.source_lag("scores", chunk(lag_bytes=1, lag_records=1))
    telemetry.http_answered("ingest", 200, 0.001)
    body = telemetry.exposition(False, False, snapshot(monitor()))
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_names_that_are_not_valid_utf8_do_not_break_a_scrape(clock: Clock, log) -> None:
    telemetry = Telemetry(log[0], clock)
    telemetry.configure(["a\udc80\x00"], [], {"m\udfff": ('x"\n\\',)})
    telemetry.batch_decoded("a\udc80\x00", 1, {})
    for openmetrics in (False, True):
        series = read(telemetry.exposition(openmetrics, False, NOTHING).removesuffix(b"# EOF\n"), openmetrics)
        assert series[key("kldrift_samples_received_total", source="a\\udc80\\x00")] == 1
        assert series[key("kldrift_values_invalid_total", monitor="m\\udfff", feature='x"\n\\')] == 0
    telemetry.configure([], [], {})
    assert not [labels for _, labels in series_of(telemetry) if "source" in dict(labels)]


def test_all_series_together_stay_within_the_limit_and_the_cut_is_counted_and_logged(clock: Clock, log) -> None:
    logger, events = log
    telemetry = Telemetry(logger, clock, max_series=300)
    telemetry.configure([], ["http"], {"loans": ("amount",)})
    shown = snapshot(monitor(features=[feature(f"f{i}") for i in range(40)]))
    assert len(series_of(telemetry, shown)) <= 300
    assert series_of(telemetry, shown)[key("kldrift_series_limit_hit_total")] == 1
    [event] = events()
    assert event["level"] == "warning"
    assert event["limit"] == 300
    assert event["dropped"] > 100


# --- events ----------------------------------------------------------------------------------------


def test_decoded_rows_are_received_and_rejected_ones_counted_by_reason(telemetry: Telemetry, clock: Clock, log) -> None:
    telemetry.batch_decoded("http", 90, {"malformed": 7, "timestamp": 3, "unreadable": 0})
    clock.now += 5
    telemetry.batch_decoded("http", 0, {})
    series = series_of(telemetry)
    assert series[key("kldrift_samples_received_total", source="http")] == 100
    assert series[key("kldrift_samples_rejected_total", source="http", reason="malformed")] == 7
    assert series[key("kldrift_samples_rejected_total", source="http", reason="timestamp")] == 3
    assert series[key("kldrift_samples_rejected_total", source="http", reason="unreadable")] == 0
    assert series[key("kldrift_last_sample_timestamp_seconds", source="http")] == 1_750_000_000
    assert [(e["msg"], e["reason"], e["rows"]) for e in log[1]()] == [
        ("rows rejected", "malformed", 7),
        ("rows rejected", "timestamp", 3),
    ]


def test_added_rows_late_rows_future_rows_and_invalid_values_are_counted(telemetry: Telemetry, log) -> None:
    result = AddResult(10, np.array([0, 3]), np.array([5]), np.array([0, 4]))
    for _ in range(2):
        telemetry.rows_added("loans", "http", result, ["amount", "country"])
    series = series_of(telemetry)
    assert series[key("kldrift_samples_counted_total", monitor="loans")] == 20
    assert series[key("kldrift_samples_late_total", monitor="loans")] == 4
    assert series[key("kldrift_samples_rejected_total", source="http", reason="future")] == 2
    assert series[key("kldrift_values_invalid_total", monitor="loans", feature="amount")] == 0
    assert series[key("kldrift_values_invalid_total", monitor="loans", feature="country")] == 8
    events = log[1]()
    assert len(events) == 3  # the second time is not told
    assert events[2]["features"] == "country: 4"


def test_rows_without_a_segment_of_their_own_are_counted_and_told_once_a_minute(telemetry: Telemetry, log) -> None:
    for rows in (0, 5, 7):
        telemetry.segments_folded("loans", rows)
    assert series_of(telemetry)[key("kldrift_segment_rows_folded_total", monitor="loans")] == 12
    assert [(e["level"], e["monitor"], e["rows"]) for e in log[1]()] == [("info", "loans", 5)]
    telemetry.configure([], [], {})
    assert key("kldrift_segment_rows_folded_total", monitor="loans") not in series_of(telemetry)


def test_rows_in_order_are_only_counted(telemetry: Telemetry, log) -> None:
    telemetry.rows_added("loans", "http", AddResult(10, NO_ROWS, NO_ROWS, np.zeros(2, dtype=np.int64)), ["a", "b"])
    assert series_of(telemetry)[key("kldrift_samples_counted_total", monitor="loans")] == 10
    assert log[1]() == []


def test_a_failing_source_is_down_counted_and_logged_once_a_minute(telemetry: Telemetry, clock: Clock, log) -> None:
    telemetry.source_up("scores", up=True)
    assert series_of(telemetry)[key("kldrift_source_up", source="scores")] == 1
    for _ in range(70):
        telemetry.source_failed("scores", "permission", "expected a readable file, got permission denied")
        clock.now += 1
    series = series_of(telemetry)
    assert series[key("kldrift_source_up", source="scores")] == 0
    assert series[key("kldrift_source_errors_total", source="scores", reason="permission")] == 70
    first, second = log[1]()
    assert first["error"] == "expected a readable file, got permission denied"
    assert "suppressed" not in first
    assert second["suppressed"] == 59


def test_an_error_in_a_part_of_a_source_does_not_take_it_down(telemetry: Telemetry, log) -> None:
    telemetry.source_up("scores", up=True)
    telemetry.source_error("scores", "unreadable", "data/a.ndjson: permission denied")
    series = series_of(telemetry)
    assert series[key("kldrift_source_up", source="scores")] == 1
    assert series[key("kldrift_source_errors_total", source="scores", reason="unreadable")] == 1
    (event,) = log[1]()
    assert event["error"] == "data/a.ndjson: permission denied"
    assert (event["level"], event["msg"]) == ("warning", "part of the source could not be read")


def test_what_a_source_has_lost_is_counted_in_bytes_and_logged(telemetry: Telemetry, log) -> None:
    telemetry.configure(["scores"], [], {})
    lost, errors = (
        key("kldrift_source_lost_bytes_total", source="scores"),
        key("kldrift_source_errors_total", source="scores", reason="rest_lost"),
    )
    assert [series_of(telemetry)[name] for name in (lost, errors)] == [0, 0]  # so that `increase` sees the first
    telemetry.source_lost("scores", 5_000, "log: its rest was not found")
    telemetry.source_lost("scores", 0, "log: its rest was not found")
    assert [series_of(telemetry)[name] for name in (lost, errors)] == [5_000, 2]
    assert log[1]()[0]["error"] == "log: its rest was not found"
    telemetry.configure([], ["http"], {})
    assert lost not in series_of(telemetry)


def test_the_state_of_a_source_is_what_happened_to_it_last(telemetry: Telemetry) -> None:
    assert telemetry.source_state("scores") == (False, None, None)
    telemetry.source_up("scores", up=True)
    telemetry.source_lag("scores", chunk("a", lag_records=3))
    telemetry.source_lag("scores", chunk("b", lag_bytes=5, lag_records=4))
    assert telemetry.source_state("scores") == (True, 7, None)
    telemetry.source_failed("scores", "read", "expected a broker, got silence")
    assert telemetry.source_state("scores") == (False, 7, "expected a broker, got silence")
    telemetry.configure([], ["http"], {})
    assert telemetry.source_state("scores") == (False, None, None)


def test_a_caught_up_source_has_no_lag_rather_than_an_unknown_one(telemetry: Telemetry) -> None:
    telemetry.source_lag("scores", chunk("a", lag_records=0))
    assert telemetry.source_state("scores")[1] == 0


def test_a_gzipped_scrape_is_the_plain_one(telemetry: Telemetry) -> None:
    shown = snapshot(monitor())
    plain, packed = (telemetry.exposition(True, compress, shown) for compress in (False, True))
    drift = plain[plain.index(b"# HELP kldrift_kl_") :]
    assert gzip.decompress(packed).endswith(drift)
    assert len(packed) < len(plain) / 3


def test_jumps_of_the_wall_clock_are_counted_and_logged_with_what_comes_of_them(telemetry: Telemetry, log) -> None:
    telemetry.clock_jumped(172_800_000, False)
    telemetry.clock_jumped(172_800_000, True)
    telemetry.clock_jumped(0, True)
    jumped, followed, back = log[1]()
    assert "it is not followed until it has stayed there for five minutes" in jumped["msg"]
    assert (jumped["level"], jumped["ahead_seconds"]) == ("warning", 172_800)
    assert (followed["msg"], back["msg"]) == (
        "the wall clock is followed",
        "the wall clock is where it was before it jumped",
    )
    assert telemetry._metrics.clock_jumps._value.get() == 1


def test_what_the_user_should_know_at_start_and_reload_is_logged(telemetry: Telemetry, log) -> None:
    telemetry.config_warning("listens on all addresses without authentication")
    telemetry.ready(9867, 1.23456)
    telemetry.monitor_changed("loans", ["feature age: its windows start empty (it is new)"])
    telemetry.monitor_changed("loans", [])
    warning, ready, anew, kept = log[1]()
    assert warning["warning"] == "listens on all addresses without authentication"
    assert (ready["msg"], ready["port"], ready["seconds"]) == ("ready", 9867, 1.235)
    assert (anew["level"], anew["monitor"]) == ("warning", "loans")
    assert anew["part"] == "feature age: its windows start empty (it is new)"
    assert (kept["level"], kept["msg"]) == ("info", "monitor changed, and goes on with all its counts")


def test_references_are_logged_as_they_are_learned_with_the_reason_where_one_is_unusable(
    telemetry: Telemetry, log
) -> None:
    telemetry.references_learned("loans", {"x": None, "y": "it has next to no values", "z": None})
    telemetry.references_learned("loans", {"y": "it has next to no values"})
    learned, unusable, again = log[1]()
    assert (learned["level"], learned["msg"], learned["features"]) == ("info", "reference learned", "x, z")
    assert (unusable["level"], unusable["feature"]) == ("warning", "y")
    assert unusable["reason"] == again["reason"] == "it has next to no values"


def test_lag_is_the_sum_over_the_streams_of_a_source(telemetry: Telemetry) -> None:
    lag = key("kldrift_source_lag_bytes", source="scores")
    telemetry.source_lag("scores", chunk("a"))
    assert lag not in series_of(telemetry)
    telemetry.source_lag("scores", chunk("a", lag_bytes=100))
    telemetry.source_lag("scores", chunk("b", lag_bytes=20, lag_records=3))
    series = series_of(telemetry)
    assert series[lag] == 120
    assert series[key("kldrift_source_lag_records", source="scores")] == 3
    telemetry.source_lag("scores", chunk("a", lag_bytes=0))
    assert series_of(telemetry)[lag] == 20
    telemetry.source_lag("scores", chunk("b", lag_bytes=0, lag_records=0))
    series = series_of(telemetry)
    assert series[lag] == 0
    assert series[key("kldrift_source_lag_records", source="scores")] == 0


def test_bodies_of_a_source_that_cannot_be_read_are_logged_with_the_reason(telemetry: Telemetry, log) -> None:
    bad_row = BodyResult(3, {"malformed": 1}, (RowError(2, "amount", "expected a number, got 'x'"),))
    telemetry.bodies_decoded("scores", "data/a.ndjson", [BodyResult(5), bad_row, bad_row])
    telemetry.bodies_decoded("scores", "data/b.csv", [BodyResult(0, unreadable="expected a header line")])
    row, piece = log[1]()
    assert (row["level"], row["stream"], row["feature"]) == ("warning", "data/a.ndjson", "amount")
    assert row["error"] == "expected a number, got 'x'"
    assert (piece["level"], piece["stream"], piece["error"]) == ("error", "data/b.csv", "expected a header line")


def test_an_unforeseen_error_is_counted_and_logged_with_its_traceback(telemetry: Telemetry, log) -> None:
    try:
        raise ZeroDivisionError("that cannot be")
    except ZeroDivisionError as error:
        telemetry.batch_failed("http", error)
    assert series_of(telemetry)[key("kldrift_source_errors_total", source="http", reason="batch")] == 1
    [event] = log[1]()
    assert event["error"] == "ZeroDivisionError: that cannot be"
    assert "test_an_unforeseen_error" in event["exception"]


def test_an_unknown_field_is_logged_once_and_never_more_than_a_thousand(telemetry: Telemetry, log) -> None:
    telemetry.unknown_fields("loans", ["b", "a" * 10_000, "b"])
    telemetry.unknown_fields("loans", ["b", "c"])
    assert [event["field"] for event in log[1]()] == ["a" * 100, "b", "c"]
    telemetry.unknown_fields("loans", [f"x{i}" for i in range(5000)])
    telemetry.unknown_fields("loans", ["y"])
    events = log[1]()
    assert len(events) == 1001
    assert events[-1]["msg"] == "further unknown fields are not listed"


def test_reloads_are_told(telemetry: Telemetry, log) -> None:
    telemetry.reload_succeeded(1_750_000_000_250)
    telemetry.reload_failed(["kldrift.yaml:3: a", "kldrift.yaml:4: b"])
    series = series_of(telemetry)
    assert series[key("kldrift_config_last_reload_successful")] == 0
    assert series[key("kldrift_config_last_reload_success_timestamp_seconds")] == 1_750_000_000.25
    assert [event.get("problem") for event in log[1]()] == [None, "kldrift.yaml:3: a", "kldrift.yaml:4: b"]
    telemetry.reload_succeeded(1_750_000_001_000)
    assert series_of(telemetry)[key("kldrift_config_last_reload_successful")] == 1


def test_a_reload_ends_the_series_of_what_is_gone_and_keeps_the_counts_of_what_stays(telemetry: Telemetry) -> None:
    telemetry.batch_decoded("http", 5, {})
    telemetry.batch_decoded("scores", 5, {"malformed": 1})
    telemetry.source_lag("scores", chunk(lag_bytes=4))
    telemetry.rows_added("loans", "http", AddResult(5, NO_ROWS, NO_ROWS, np.array([1, 2])), ["amount", "country"])
    telemetry.configure(["files"], ["http"], {"loans": ("country", "age"), "clicks": ("dwell",)})
    series = series_of(telemetry)
    assert {dict(labels).get("source") for _, labels in series} == {None, "http", "files"}
    assert series[key("kldrift_samples_received_total", source="http")] == 5
    assert series[key("kldrift_samples_counted_total", monitor="loans")] == 5
    invalid = {dict(labels)["feature"]: v for (name, labels), v in series.items() if "values_invalid" in name}
    assert invalid == {"country": 2, "age": 0, "dwell": 0}
    telemetry.configure(["files"], ["http"], {"clicks": ("dwell",)})
    assert {dict(labels).get("monitor") for _, labels in series_of(telemetry)} == {None, "clicks"}


def test_durations_queue_and_requests_are_measured(telemetry: Telemetry) -> None:
    telemetry.evaluated(0.02, 1)
    telemetry.committed(0.2, 1_750_000_000_500)
    telemetry.queue_changed(4096)
    telemetry.http_answered("ingest", 200, 0.004)
    telemetry.http_answered("ingest", 400, 0.004)
    series = series_of(telemetry)
    assert series[key("kldrift_evaluation_duration_seconds_sum")] == 0.02
    assert series[key("kldrift_commit_duration_seconds_bucket", le="0.1")] == 0
    assert series[key("kldrift_commit_duration_seconds_bucket", le="0.25")] == 1
    assert series[key("kldrift_last_commit_timestamp_seconds")] == 1_750_000_000.5
    assert series[key("kldrift_queue_bytes")] == 4096
    assert series[key("kldrift_http_requests_total", handler="ingest", code="200")] == 1
    assert series[key("kldrift_http_requests_total", handler="ingest", code="400")] == 1
    assert series[key("kldrift_http_request_duration_seconds_count", handler="ingest")] == 2


def test_events_scrapes_and_reloads_from_many_threads_lose_nothing(telemetry: Telemetry) -> None:
    errors = []
    shown = snapshot(monitor())
    result = AddResult(1, np.array([0]), NO_ROWS, np.array([1, 0]))

    def count() -> None:
        for i in range(200):
            telemetry.batch_decoded("http", 1, {"malformed": 1})
            telemetry.rows_added("loans", "http", result, ["amount", "country"])
            telemetry.source_failed("scores", f"reason {i % 20}", "no")

    def look() -> None:
        for i in range(20):
            try:
                telemetry.configure(["scores"], ["http"], {"loans": ("amount", "country"), f"m{i % 3}": ("a",)})
                telemetry.exposition(bool(i % 2), False, shown)
            except Exception as error:  # noqa: BLE001
                errors.append(error)

    threads = [threading.Thread(target=work) for work in (count, count, look, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    series = series_of(telemetry)
    assert errors == []
    assert series[key("kldrift_samples_received_total", source="http")] == 800
    assert series[key("kldrift_samples_late_total", monitor="loans")] == 400
    assert series[key("kldrift_values_invalid_total", monitor="loans", feature="amount")] == 400


def test_connections_are_counted_by_bounded_reasons_and_idle_ones_are_no_news(telemetry: Telemetry, log) -> None:
    before = series_of(telemetry)
    assert before[key("kldrift_http_evicted_total", reason="header")] == 0
    assert before[key("kldrift_http_connections_refused_total", reason="client")] == 0
    telemetry.http_connections(7)
    for reason in ("header", "header", "idle"):
        telemetry.http_evicted(reason)
    telemetry.http_refused("client")
    after = series_of(telemetry)
    assert after[key("kldrift_http_connections")] == 7
    assert after[key("kldrift_http_evicted_total", reason="header")] == 2
    assert after[key("kldrift_http_evicted_total", reason="idle")] == 1
    assert after[key("kldrift_http_connections_refused_total", reason="client")] == 1
    assert [event["msg"] for event in log[1]()] == ["connection closed because it took too long", "connection refused"]


def test_the_limit_of_open_files_is_told_when_it_changes_or_does_not_suffice(telemetry: Telemetry, log) -> None:
    telemetry.open_files(8192, 8192, 4096, 4096)
    assert log[1]() == []
    telemetry.open_files(1024, 4096, 3840, 4096)
    raised, too_few = log[1]()
    assert (raised["before"], raised["after"]) == (1024, 4096)
    assert (too_few["connections"], too_few["wanted"], too_few["level"]) == (3840, 4096, "warning")
