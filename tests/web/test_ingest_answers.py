"""What each outcome of a post is answered with: status, headers and words, and the boundaries of what is accepted."""

import asyncio
import gzip
from typing import Any

import pytest

from kldrift.errors import Busy, KeyConflict, StateError
from kldrift.records.samples import Receipt
from kldrift.web.body import Limits
from tests.web.fakes import FakeIngest, Service, call_app
from tests.web.test_ingest import JSON_TYPE, scope_with


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Busy("full"), 503, "1"),
        (Busy("cannot store", retry_after_seconds=5), 503, "5"),
        (KeyConflict("under way", in_use=True), 409, "1"),
        (KeyConflict("another body", in_use=False), 422, None),
        (StateError("cannot be read"), 503, "5"),
    ],
)
def test_a_post_that_is_refused_says_whether_to_come_again(error: Exception, status: int, retry_after: str) -> None:
    service = Service(FakeIngest(error))
    answer = service.post(idempotency_key="k")
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry_after
    assert answer.json()["error"] == str(error)
    assert service.held_bytes == 0


class Honouring(FakeIngest):
    """Remembers keys."""

    honours_keys = True


@pytest.mark.parametrize(
    ("ingest", "key", "headers"),
    [
        (FakeIngest(Receipt(1)), None, {}),
        (FakeIngest(Receipt(1)), "k", {"idempotency-key-honoured": "false"}),
        (Honouring(Receipt(1)), "k", {}),
        (Honouring(Receipt(1, replayed=True)), "k", {"idempotent-replayed": "true"}),
        (Honouring(Receipt(1)), None, {}),
    ],
)
def test_an_answer_says_what_became_of_the_key(ingest: FakeIngest, key: str | None, headers: dict[str, str]) -> None:
    answer = Service(ingest).post(**({} if key is None else {"idempotency_key": key}))
    assert {name: value for name, value in answer.headers.items() if name.startswith("idempoten")} == headers


@pytest.mark.parametrize(
    ("key", "fine"),
    [("a", True), ("a" * 255, True), ("a" * 256, False), ("", False), (" ", True), ("~", True), ("\x7f", False)],
)
def test_a_key_is_of_1_to_255_printable_characters(key: str, fine: bool) -> None:
    headers = (JSON_TYPE, (b"content-length", b"1"), (b"idempotency-key", key.encode()))
    service = Service()
    sent = call_app(service.app, scope_with(*headers), [{"type": "http.request", "body": b"1"}])
    assert sent[0]["status"] == (200 if fine else 400)
    assert service.ingest.keys == ([key] if fine else [])
    if not fine:
        assert b"1 to 255 printable ASCII characters" in sent[1]["body"]


def test_a_caller_that_does_not_wait_is_told_at_once_that_it_was_received() -> None:
    service = Service(FakeIngest(Busy("full")))  # whatever becomes of it
    scope = scope_with(JSON_TYPE, (b"content-length", b"1")) | {"query_string": b"ack=received"}
    start, body = call_app(service.app, scope, [{"type": "http.request", "body": b"1"}])
    assert start["status"] == 202
    assert dict(start["headers"]) == {b"content-type": b"application/json", b"content-length": b"17"}
    assert body["body"] == b'{"received":true}'
    assert service.ingest.bodies == [("loans", "json", b"1")]
    assert service.seen[0][:2] == ("ingest", 202)


@pytest.mark.parametrize(
    ("query", "status"), [(b"", 200), (b"ack=committed", 200), (b"ack=maybe", 400), (b"ack=received&x=1", 400)]
)
def test_a_caller_that_waits_has_the_receipt(query: bytes, status: int) -> None:
    scope = scope_with(JSON_TYPE, (b"content-length", b"1")) | {"query_string": query}
    start, body = call_app(Service().app, scope, [{"type": "http.request", "body": b"1"}])
    assert start["status"] == status
    if status == 400:
        assert b"expected no query, ack=committed or ack=received" in body["body"]


@pytest.mark.parametrize(
    ("length", "coding", "status"),
    [
        (b"100", None, 200),
        (b"101", None, 413),
        (b"1" + b"0" * 18, None, 413),
        (b"1" + b"0" * 30, None, 413),
        (b"0" * 30 + b"1", None, 200),
        (b"-1", None, 400),
        (b"1.0", None, 400),
        (b"50", b"gzip", 200),
        (b"51", b"gzip", 413),
    ],
)
def test_the_length_is_a_number_up_to_the_limit(length: bytes, coding: bytes | None, status: int) -> None:
    limits = Limits(encoded_bytes=50, body_bytes=100, ratio=10, ratio_from_bytes=200, held_bytes=2000)
    headers = [JSON_TYPE, (b"content-length", length), *([] if coding is None else [(b"content-encoding", coding)])]
    body = gzip.compress(b"1" * 10) if coding else b"1"
    sent = call_app(Service(limits=limits).app, scope_with(*headers), [{"type": "http.request", "body": body}])
    assert sent[0]["status"] == status, sent[1]["body"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=us-ascii", 200),
        ("application/json; charset=utf8; profile=x", 200),
        ("application/json; profile=latin-1", 200),
        ("application/json; profile=x; charset=utf-16", 415),
        ("application/json;charset=", 415),
    ],
)
def test_text_is_utf_8(content_type: str, status: int) -> None:
    answer = Service().post(b"[]", content_type=content_type)
    assert answer.status_code == status


@pytest.mark.parametrize(
    "path", [b"/v1/monitors/loans/samples/", b"/v1/monitors/loans/sample", b"/v1/monitors//samples"]
)
def test_only_samples_of_a_monitor_are_taken(path: bytes) -> None:
    start, body = call_app(Service().app, scope_with(JSON_TYPE, path=path), [AssertionError])
    assert start["status"] == 404
    assert b"expected /v1/monitors/{monitor}/samples" in body["body"]


def test_without_an_intake_the_daemon_is_starting() -> None:
    service = Service()
    service.app._ingest.ingest = None
    answer = service.post()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "the daemon is starting" in answer.json()["error"]


def test_bodies_are_held_until_they_are_answered_by_client() -> None:
    service = Service()
    held: list[int] = []

    async def submit(*_: Any) -> Receipt:
        held.append(service.held_bytes)
        await asyncio.sleep(0)
        return Receipt(1)

    service.ingest.submit = submit
    assert service.post(b"x" * 77).status_code == 200
    assert held == [77]
    assert service.held_bytes == 0
