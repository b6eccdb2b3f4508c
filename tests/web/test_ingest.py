"""The ingest endpoint, without a socket."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kldrift.errors import Busy
from kldrift.records.samples import Receipt, RowError
from kldrift.web.app import App
from kldrift.web.body import Limits
from tests.web.fakes import FakeIngest, Service, call_app

PATH = b"/v1/monitors/loans/samples"


def test_samples_are_submitted_and_the_receipt_answered() -> None:
    service = Service(
        FakeIngest(Receipt(3, 2, 1, (RowError(4, "age", "expected a number"), RowError(5, None, "not JSON"))))
    )
    answer = service.post()
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 3,
        "rejected": 2,
        "late": 1,
        "errors": [
            {"row": 4, "feature": "age", "reason": "expected a number"},
            {"row": 5, "feature": None, "reason": "not JSON"},
        ],
    }
    assert answer.headers["content-type"] == "application/json"
    assert service.ingest.bodies == [("loans", "ndjson", b'{"age": 1}\n')]
    [(handler, status, seconds)] = service.seen
    assert (handler, status) == ("ingest", 200)
    assert seconds > 0
    assert service.held_bytes == 0


def test_at_most_ten_errors_are_answered() -> None:
    service = Service(FakeIngest(Receipt(0, 30, 0, tuple(RowError(row, None, "bad") for row in range(30)))))
    assert [error["row"] for error in service.post().json()["errors"]] == list(range(10))


def test_receipts_that_differ_in_one_number_are_not_confused() -> None:
    for receipt in (Receipt(1), Receipt(1, 1), Receipt(1, 0, 1), Receipt(2)):
        answer = Service(FakeIngest(receipt)).post().json()
        assert answer == {
            "accepted": receipt.accepted,
            "rejected": receipt.rejected,
            "late": receipt.late,
            "errors": [],
        }


def test_a_lone_surrogate_in_a_reason_is_escaped() -> None:
    service = Service(FakeIngest(Receipt(0, 1, 0, (RowError(0, "age", "got '\ud800'"),))))
    answer = service.post()
    assert answer.status_code == 200
    assert rb"\ud800" in answer.content


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/x-ndjson", "ndjson"),
        ("application/ndjson", "ndjson"),
        ("application/jsonl", "ndjson"),
        ("application/json", "json"),
        ("Application/JSON; Charset=UTF-8", "json"),
        ('text/csv; header=present; charset="utf-8"', "csv"),
        ("application/vnd.apache.arrow.stream", "arrow"),
    ],
)
def test_the_content_type_chooses_the_format(content_type: str, expected: str) -> None:
    service = Service()
    assert service.post(content_type=content_type).status_code == 200
    assert service.ingest.bodies[0][1] == expected


@pytest.mark.parametrize("content_type", ["", "text/html", "application/x-www-form-urlencoded", ";", "json"])
def test_another_media_type_is_415_with_the_list(content_type: str) -> None:
    service = Service()
    answer = service.post(content_type=content_type)
    assert answer.status_code == 415
    for media_type in ("application/x-ndjson", "application/json", "text/csv", "application/vnd.apache.arrow.stream"):
        assert media_type in answer.json()["error"]
        assert media_type in answer.headers["accept"]
    assert service.ingest.bodies == []


def test_another_charset_is_415() -> None:
    answer = Service().post(content_type="text/csv; charset=latin-1")
    assert (answer.status_code, answer.json()["error"]) == (
        415,
        "expected charset=utf-8, got 'latin-1'; send the body in UTF-8",
    )


def test_an_unknown_content_encoding_is_415_with_the_known_ones() -> None:
    answer = Service().post(content_encoding="br")
    assert answer.status_code == 415
    assert answer.json()["error"] == (
        "expected a Content-Encoding among gzip, zstd, identity; got 'br'; use one of them"
    )
    assert answer.headers["accept-encoding"] == "gzip, zstd, identity"


@pytest.mark.parametrize("coding", ["gzip, zstd", "gzip, gzip"])
def test_several_content_encodings_are_415(coding: str) -> None:
    assert Service().post(content_encoding=coding).status_code == 415


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("zstd", zstandard.compress),
        ("identity", bytes),
        ("", bytes),
    ],
)
@pytest.mark.parametrize("rows", [1, 200_000])  # decoded on the event loop, and in a thread
def test_content_encodings_are_undone(coding: str, compress: Callable[..., Any] | type[Any], rows: int) -> None:
    body = b"".join(b'{"age": %d}\n' % row for row in range(rows))
    service = Service()
    assert service.post(compress(body), content_encoding=coding).status_code == 200
    assert service.ingest.bodies == [("loans", "ndjson", body)]
    assert service.held_bytes == 0


def test_a_corrupt_encoding_is_400_and_nothing_is_submitted() -> None:
    service = Service()
    answer = service.post(b"not gzip at all", content_encoding="gzip")
    assert answer.status_code == 400
    assert "expected a complete gzip body" in answer.json()["error"]
    assert service.ingest.bodies == []
    assert service.held_bytes == 0


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_an_empty_body_is_400(coding: str) -> None:
    body = gzip.compress(b"") if coding == "gzip" else b""
    answer = Service().post(body, content_encoding=coding)
    assert answer.status_code == 400
    assert answer.json() == {"error": "expected samples, got an empty body; send at least one row"}


def test_an_unreadable_body_is_400_with_its_reason() -> None:
    service = Service(FakeIngest(Receipt(0, unreadable="expected an Arrow IPC stream, got 3 bytes; send it whole")))
    answer = service.post()
    assert answer.status_code == 400
    assert answer.json() == {"error": "expected an Arrow IPC stream, got 3 bytes; send it whole"}


def test_a_full_intake_is_503_with_retry_after() -> None:
    service = Service(FakeIngest(Busy("the queue is full; send it again later", retry_after_seconds=7)))
    answer = service.post()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert answer.json() == {"error": "the queue is full; send it again later"}
    assert service.held_bytes == 0


def test_samples_are_refused_with_503_until_the_daemon_takes_them() -> None:
    service = Service()
    service.app = App(None, service.readers, lambda *_: None)
    refused = service.post()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    service.app.take_samples(service.ingest)
    assert service.post().status_code == 200
    assert len(service.ingest.bodies) == 1


def test_an_error_of_our_own_is_500_in_json_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(FakeIngest(ZeroDivisionError("secret")))
    answer = service.post()
    assert answer.status_code == 500
    assert "secret" not in answer.json()["error"]
    assert "ZeroDivisionError" in caplog.text
    assert service.seen[0][:2] == ("ingest", 500)
    assert service.held_bytes == 0


def test_an_unknown_monitor_is_404_with_the_nearest_and_the_known_ones() -> None:
    service = Service(FakeIngest(monitors=("loans", "cards")))
    answer = service.post(path="/v1/monitors/loan/samples")
    assert answer.status_code == 404
    assert answer.json()["error"] == (
        "expected a known monitor, got 'loan'; did you mean 'loans'? known: 'loans', 'cards'"
    )


def test_the_list_of_known_monitors_is_bounded() -> None:
    service = Service(FakeIngest(monitors=tuple(f"m{i}" for i in range(500))))
    error = service.post(path="/v1/monitors/zzzz/samples").json()["error"]
    assert error.endswith("'m9' and 490 more")
    assert Service(FakeIngest(monitors=())).post().json()["error"].endswith("no monitor is configured")


def test_percent_encoded_monitor_names_are_decoded() -> None:
    service = Service()
    assert service.post(path="/v1/monitors/a%2Fb%20%C3%BC/samples").status_code == 200
    assert service.ingest.bodies[0][0] == "a/b ü"


def test_a_name_that_is_not_utf8_is_404() -> None:
    answer = Service().post(path="/v1/monitors/%ff%fe/samples")
    assert answer.status_code == 404
    assert "percent-encoded UTF-8" in answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v1/monitors/loans", "/v1/monitors/", "/v1/monitors//samples", "/v1/monitors/a/b/samples"]
)
def test_another_path_below_monitors_is_404(path: str) -> None:
    answer = Service().post(path=path)
    assert answer.status_code == 404
    assert "/v1/monitors/{monitor}/samples" in answer.json()["error"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_is_405_with_allow(method: str) -> None:
    answer = Service().request(method, PATH.decode())
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "expected POST" in answer.json()["error"]


def test_an_idempotency_key_is_not_honoured_and_the_answer_says_so() -> None:
    service = Service()
    assert service.post(idempotency_key="abc").headers["idempotency-key-honoured"] == "false"
    assert "idempotency-key-honoured" not in service.post().headers


def scope_with(*headers, method="POST", path=PATH):
    return {"type": "http", "method": method, "path": path.decode(), "raw_path": path, "headers": list(headers)}


JSON_TYPE = (b"content-type", b"application/json")


def test_a_body_without_length_is_411() -> None:
    sent = call_app(Service().app, scope_with(JSON_TYPE), [{"type": "http.request", "body": b""}])
    assert sent[0]["status"] == 411
    assert b"Content-Length" in sent[1]["body"]


def test_chunks_are_joined_in_order() -> None:
    service = Service()
    chunks = [{"type": "http.request", "body": b"%d," % i, "more_body": i < 9} for i in range(10)]
    sent = call_app(service.app, scope_with(JSON_TYPE, (b"transfer-encoding", b"chunked")), chunks)
    assert sent[0]["status"] == 200
    assert service.ingest.bodies == [("loans", "json", b"0,1,2,3,4,5,6,7,8,9,")]
    assert service.held_bytes == 0


@pytest.mark.parametrize("n_chunks", [0, 1, 3])
def test_a_client_that_goes_away_is_nobodys_error(n_chunks: int, caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    chunks = [{"type": "http.request", "body": b"{", "more_body": True}] * n_chunks
    sent = call_app(service.app, scope_with(JSON_TYPE, (b"content-length", b"100")), chunks)
    assert sent == []
    assert service.ingest.bodies == []
    assert service.seen[0][:2] == ("ingest", 499)
    assert caplog.text == ""
    assert service.held_bytes == 0


SMALL = Limits(encoded_bytes=100, body_bytes=1000, ratio=10, ratio_from_bytes=200, held_bytes=2000)


def test_a_declared_length_past_the_limit_is_refused_before_the_body_is_asked_for() -> None:
    service = Service(limits=SMALL)
    for coding, length in ((b"identity", b"1001"), (b"gzip", b"101"), (b"identity", b"9" * 5000)):
        sent = call_app(
            service.app,
            scope_with(JSON_TYPE, (b"content-length", length), (b"content-encoding", coding)),
            [AssertionError],
        )
        assert sent[0]["status"] == 413
    assert Service(limits=SMALL).post(b"x" * 1000).status_code == 200


def test_chunks_past_the_limit_are_refused() -> None:
    service = Service(limits=SMALL)
    chunks = [{"type": "http.request", "body": b"x" * 400, "more_body": True}] * 3 + [AssertionError]
    sent = call_app(service.app, scope_with(JSON_TYPE, (b"transfer-encoding", b"chunked")), chunks)
    assert sent[0]["status"] == 413
    assert service.ingest.bodies == []
    assert service.held_bytes == 0


def test_when_all_bodies_together_hold_too_much_the_next_is_503() -> None:
    service = Service(limits=SMALL)

    async def scenario() -> None:
        committed = asyncio.Event()

        async def submit(monitor, format, body, key=None):  # noqa: A002 as the port has it
            await committed.wait()
            return Receipt(1)

        service.ingest.submit = submit
        sent = []

        async def post(size) -> None:
            async def receive():
                return {"type": "http.request", "body": b"x" * size}

            async def send(message) -> None:
                sent.append(message)

            await service.app(scope_with(JSON_TYPE, (b"content-length", b"%d" % size)), receive, send)

        first = [asyncio.create_task(post(900)) for _ in range(2)]
        await asyncio.sleep(0)
        await post(900)
        assert sent[0]["status"] == 503
        assert (b"retry-after", b"1") in sent[0]["headers"]
        committed.set()
        await asyncio.gather(*first)
        assert [message["status"] for message in sent if "status" in message] == [503, 200, 200]

    asyncio.run(scenario())
    assert service.held_bytes == 0


header_values = st.one_of(
    st.sampled_from(
        [b"application/json", b"text/csv;charset=x", b"gzip", b"zstd", b"identity", b"chunked", b"12", b"-1", b"\xff"]
    ),
    st.binary(max_size=20),
)
header_names = st.sampled_from(
    [b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"idempotency-key", b"accept"]
)
bodies = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(gzip.compress),
    st.binary(max_size=300).map(zstandard.compress),
    st.tuples(st.binary(max_size=300).map(zstandard.compress), st.integers(0, 40), st.integers(0, 255)).map(
        lambda parts: parts[0][: parts[1]] + bytes([parts[2]]) + parts[0][parts[1] + 1 :]
    ),
)


@settings(max_examples=400, deadline=None)
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT"]),
    path=st.one_of(st.just(PATH), st.text("/%aé\x00", max_size=9).map(lambda t: ("/v1/monitors/" + t).encode())),
    headers=st.lists(st.tuples(header_names, header_values), max_size=5),
    body=bodies,
    cut=st.integers(0, 300),
)
def test_no_input_gives_a_5xx(method, path, headers, body, cut) -> None:
    """Any method, path, headers and body, also an encoded and damaged one: an answer below 500, in JSON."""
    service = Service(limits=SMALL)
    messages = [
        {"type": "http.request", "body": body[:cut], "more_body": True},
        {"type": "http.request", "body": body[cut:], "more_body": False},
    ]
    scope = {"type": "http", "method": method, "path": path.decode(), "raw_path": path, "headers": headers}
    sent = call_app(service.app, scope, messages)
    assert 200 <= sent[0]["status"] < 500
    assert sent[1]["body"].startswith(b'{"')
    assert bool(service.ingest.bodies) == (sent[0]["status"] == 200)
    assert service.held_bytes == 0
