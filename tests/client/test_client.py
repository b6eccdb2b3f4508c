"""The client against a server that misbehaves on purpose: what is sent again, what is given up, what is counted."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kldrift.client import Client
from kldrift.client.endpoint import _seconds
from tests.client.misbehaving import Site, misbehaving
from tests.e2e.processes import free_port


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kldrift.client.delivery._FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def site() -> Iterator[Site]:
    with misbehaving() as site:
        yield site


def numbered(n: int, start: int = 0) -> list[dict[str, int]]:
    return [{"n": i} for i in range(start, start + n)]


def log_all(client: Client, rows: list[Any]) -> None:
    for row in rows:
        client.log(row)


def test_rows_arrive_in_order_in_batches_with_keys_of_their_own(site: Site) -> None:
    with Client(monitor="a/b loans", url=site.url, batch_rows=100, interval_seconds=30) as client:
        log_all(client, numbered(250))
        assert client.flush()
        assert (client.sent, client.pending, client.failed, client.dropped) == (250, 0, 0, 0)
    assert site.rows() == numbered(250)
    assert [len(seen.lines) for seen in site.seen] == [100, 100, 50]
    assert len({seen.headers["idempotency-key"] for seen in site.seen}) == 3
    assert {seen.path for seen in site.seen} == {"/v1/monitors/a%2Fb%20loans/samples"}
    assert {seen.headers["content-type"] for seen in site.seen} == {"application/x-ndjson"}
    assert site.connections == 1


def test_a_full_batch_is_sent_at_once_and_a_part_of_one_after_the_interval(site: Site) -> None:
    with Client(monitor="m", url=site.url, batch_rows=10, interval_seconds=0.3) as client:
        log_all(client, numbered(10))
        started = time.monotonic()
        wait_for(lambda: client.sent == 10)
        assert time.monotonic() - started < 0.25
        client.log({"n": 10})
        wait_for(lambda: client.sent == 11)


FAULTS = ["503", "429", "500", "409", "401", "reset", "unanswered", "garbage", "html", "close", "slow"]


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_on_the_way_each_row_is_counted_once(site: Site, fault: str) -> None:
    site.words.extend(["ok", fault, fault, "ok", fault])
    site.slow_seconds = 0.4
    with Client(monitor="m", url=site.url, batch_rows=10, timeout_seconds=0.2) as client:
        log_all(client, numbered(60))
        assert client.flush(20)
        assert (client.sent, client.failed, client.dropped) == (60, 0, 0)
        # an idle connection that was reset is retried at once and silently
        assert (client.retries > 0) == (fault != "close")
    assert site.rows() == numbered(60)


def test_the_key_and_the_body_stay_the_same_over_retries(site: Site) -> None:
    site.words.extend(["503", "garbage", "unanswered"])
    with Client(monitor="m", url=site.url) as client:
        log_all(client, numbered(5))
    assert len(site.seen) == 4
    assert len({seen.headers["idempotency-key"] for seen in site.seen}) == 1
    assert all(seen.lines == site.seen[0].lines for seen in site.seen)


def test_retry_after_is_waited_for(site: Site) -> None:
    site.words.append("503 Retry-After=1")
    with Client(monitor="m", url=site.url) as client:
        client.log({"n": 1})
        started = time.monotonic()
        assert client.flush()
        assert time.monotonic() - started >= 1
    assert site.rows() == [{"n": 1}]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2.0),
        ("-1", 0.0),
        ("1e9", 300.0),
        ("nan", None),
        ("soon", None),
        (None, None),
        ("Fri, 01 Jan 1999 00:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2199 00:00:00 GMT", 300.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_bounds(text: str | None, seconds: float | None) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("status", ["400", "404", "411", "415", "422", "301"])
def test_a_refusal_that_another_attempt_cannot_change_is_final_counted_and_logged_once(
    site: Site, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.otherwise = status
    with caplog.at_level(logging.WARNING), Client(monitor="m", url=site.url, batch_rows=10) as client:
        log_all(client, numbered(30))
        assert client.flush()
        assert (client.sent, client.failed, client.retries) == (0, 30, 0)
        site.otherwise = "ok"
        log_all(client, numbered(5))
        assert client.flush()
        assert client.sent == 5
    assert [record.getMessage() for record in caplog.records] == [
        f'monitor m: rows are lost: the daemon answered {status} {{"error": "as scripted"}}'
    ]


def test_a_batch_that_is_too_large_is_split_and_only_a_row_that_is_too_large_itself_is_lost(site: Site) -> None:
    site.largest = 3
    with Client(monitor="m", url=site.url, batch_rows=20) as client:
        log_all(client, numbered(20))
        assert client.flush()
        assert (client.sent, client.failed) == (20, 0)
        site.otherwise = "413"
        log_all(client, numbered(4))
        assert client.flush()
        assert (client.sent, client.failed) == (20, 4)
    assert site.rows() == numbered(20)
    assert max(len(lines) for lines in site.counted.values()) <= 3


def test_rows_without_room_are_dropped_and_counted_and_memory_stays_bounded(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(monitor="m", url=f"http://127.0.0.1:{free_port()}", batch_rows=10, max_rows=100)
    log_all(client, numbered(1000))
    assert 100 <= client.pending <= 110  # plus those in flight
    assert client.pending + client.dropped == 1000
    assert not client.close(0.1)
    assert (client.pending, client.sent) == (0, 0)
    assert client.failed + client.dropped == 1000
    client.log({"n": 1})
    assert client.failed + client.dropped == 1001
    logged = [record.getMessage() for record in caplog.records]
    assert sum("are already waiting to be sent" in text for text in logged) == 1
    assert any("ConnectionRefusedError" in text for text in logged)


def test_the_bound_in_bytes_follows_the_size_of_the_rows(site: Site) -> None:
    row = {"latent": [0.123456789] * 1000}  # a line of 12 KB, some 32 KB in memory
    with misbehaving(otherwise="503 Retry-After=60") as deaf:
        client = Client(monitor="m", url=deaf.url, batch_rows=10, max_bytes=1 << 20)
        log_all(client, [row] * 10)
        wait_for(lambda: client.retries == 1)
        log_all(client, [row] * 1000)
        assert 20 <= client.pending <= 60
        assert client.dropped == 1010 - client.pending
        client.close(0)


def test_the_bound_in_bytes_holds_from_the_first_row_on() -> None:
    client = Client(monitor="m", url=f"http://127.0.0.1:{free_port()}", max_bytes=1 << 20)
    log_all(client, [{"latent": [0.123456789] * 1000}] * 200)  # faster than a batch can be encoded
    assert client.pending <= 40
    assert client.pending + client.dropped == 200
    client.close(0)


def test_a_batch_is_also_limited_in_bytes(site: Site) -> None:
    row = {"text": "x" * 300_000}
    with Client(monitor="m", url=site.url, batch_rows=100, interval_seconds=30) as client:
        log_all(client, [row] * 10)
        assert client.flush()
    assert [len(seen.lines) for seen in site.seen] == [4, 4, 2]
    with misbehaving(otherwise="503") as deaf:
        client = Client(monitor="m", url=deaf.url, batch_rows=10, interval_seconds=30)
        log_all(client, [row] * 10)
        wait_for(lambda: client.retries > 0)
        assert client.pending == 10
        client.close(0)
        assert (client.failed, client.sent) == (10, 0)


def test_logging_never_raises(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[Any] = [None, 3, "row", {"n": object()}, {(1, 2): 1, "n": 2}, {"n": {1, 2}}, {"n": 1}]
    with caplog.at_level(logging.WARNING), Client(monitor="m", url=site.url) as client:
        log_all(client, rows)
        client.log_many(None)  # type: ignore[arg-type]
        client.log_many({"n": [1, 2], "m": [1]})
        assert client.flush()
        assert (client.sent, client.failed, client.invalid) == (4, 3 + 1 + 2, 3)
    assert site.rows() == [{"n": None}, {"n": 2}, {"n": None}, {"n": 1}]
    assert any(
        "expected a value that JSON can represent, got 'n': object" in record.getMessage() for record in caplog.records
    )


@pytest.mark.parametrize(
    ("url", "path"), [("http://127.0.0.1:{}/", ""), ("http://localhost:{}/behind/a%20proxy/", "/behind/a%20proxy")]
)
def test_a_url_may_have_a_path_and_a_host_name(site: Site, url: str, path: str) -> None:
    with Client(monitor="m", url=url.format(site.port)) as client:
        client.log({"n": 1})
    assert [seen.path for seen in site.seen] == [f"{path}/v1/monitors/m/samples"]


def test_the_row_may_be_changed_once_it_is_logged(site: Site) -> None:
    with Client(monitor="m", url=site.url) as client:
        row: dict[str, Any] = {"n": 1}
        client.log(row)
        row["n"] = row["m"] = 2
        row.clear()
    assert site.rows() == [{"n": 1}]


def test_columns_are_rows_side_by_side(site: Site) -> None:
    import numpy as np

    with Client(monitor="m", url=site.url, batch_rows=2) as client:
        columns = {"n": np.arange(3), "x": np.array([0.5, np.nan, 1]), "v": np.eye(3, 2, dtype=np.float32)}
        client.log_many({**columns, "c": ["a", None, "b"]})
        columns["n"][:] = 7
    assert site.rows() == [
        {"n": 0, "x": 0.5, "v": [1.0, 0.0], "c": "a"},
        {"n": 1, "x": None, "v": [0.0, 1.0], "c": None},
        {"n": 2, "x": 1.0, "v": [0.0, 0.0], "c": "b"},
    ]


def test_many_threads_may_log_and_none_of_their_rows_is_lost_or_doubled(site: Site) -> None:
    site.words.extend(["503", "reset", "unanswered"] * 3)
    with Client(monitor="m", url=site.url, batch_rows=100) as client:
        threads = [threading.Thread(target=log_all, args=(client, numbered(2000, 2000 * part))) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(30)
        assert (client.sent, client.failed, client.dropped) == (16_000, 0, 0)
    assert sorted(row["n"] for row in site.rows()) == list(range(16_000))


def test_every_row_is_in_one_count_when_many_threads_overflow_the_buffer() -> None:
    client = Client(monitor="m", url=f"http://127.0.0.1:{free_port()}", batch_rows=10, max_rows=50)
    threads = [threading.Thread(target=log_all, args=(client, numbered(5000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.pending + client.dropped == 20_000
    client.close(0)
    assert client.failed + client.dropped == 20_000


def test_an_event_loop_is_not_held_up_by_a_daemon_that_does_not_answer() -> None:
    async def serve(client: Client) -> float:
        longest = 0.0
        for number in range(200):
            started = time.perf_counter()
            client.log({"n": number})
            longest = max(longest, time.perf_counter() - started)
            await asyncio.sleep(0.001)
        assert not await asyncio.to_thread(client.flush, 0.1)
        return longest

    with misbehaving(otherwise="slow", slow_seconds=2) as site:
        client = Client(monitor="m", url=site.url, batch_rows=10, interval_seconds=0.05)
        assert asyncio.run(serve(client)) < 0.5  # a pause of a busy machine, not a timeout
        client.close(0)


def test_closing_takes_no_longer_than_allowed(site: Site) -> None:
    for word, seconds in (("503 Retry-After=60", 0.3), ("slow", 0.3), ("503", 0.3)):
        with misbehaving(otherwise=word, slow_seconds=3) as deaf:
            client = Client(monitor="m", url=deaf.url)
            log_all(client, numbered(5))
            started = time.monotonic()
            assert not client.close(seconds)
            assert time.monotonic() - started < 1.0
            assert (client.failed, client.pending) == (5, 0)


def test_a_daemon_that_comes_back_while_the_client_closes_gets_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kldrift.client.delivery._FIRST_PAUSE_SECONDS", 60)
    with misbehaving(["503"]) as site:
        client = Client(monitor="m", url=site.url)
        client.log({"n": 1})
        assert not client.flush(0.3)
        assert client.close(5)  # does not sleep for the whole minute
        assert site.rows() == [{"n": 1}]


def wait_for(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
