"""Host and Origin: no page that an operator visits may read the daemon, or have it do something."""

import asyncio

import httpx
import pytest

from kldrift.web.app import App
from kldrift.web.hosts import Hosts
from tests.web.fakes import FakeIngest, FakeReaders

#: What browsers and programs send to a daemon that only its own machine can reach.
OURS = [
    "localhost", "localhost:9867", "LocalHost:9867", "localhost.", "localhost:", "127.0.0.1", "127.0.0.1:9867",
    "127.8.9.10:1", "[::1]", "[::1]:9867", "[0:0:0:0:0:0:0:1]:9867", "[::ffff:127.0.0.1]:9867",
    "drift.example.com", "DRIFT.example.com:8443", "10.1.2.3:9867", "[fd00::1]:9867", "[FD00:0::1]",
]  # fmt: skip
#: What a page of another site has as its host, and what parsers disagree about.
OTHERS = [
    "evil.example", "evil.example:9867", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost",
    "sub.drift.example.com", "drift.example.com.evil.example", "localhost:9867:80", "localhost:port",
    "localhost:123456", "evil.example@localhost", "localhost@evil.example", "localhost/x", "http://localhost",
    "localhost, evil.example", "128.0.0.1", "0.0.0.0", "192.168.0.1:9867", "[::2]", "[::1", "::1", "[127.0.0.1]",
    "[::1]evil.example", "[]", "", "löcalhost", "foo.localhost",
]  # fmt: skip


class Site:
    """The application that answers under some names; what it did is in `reloads` and `bodies`."""

    def __init__(self, *names: str, checked: bool = True) -> None:
        self.ingest = FakeIngest()
        self.readers = FakeReaders()
        self.reloads = 0
        self.readers.reload = self._reload
        self.app = App(self.ingest, self.readers, lambda *_: None, hosts=Hosts(names, checked))

    async def _reload(self):
        self.reloads += 1
        return []

    def ask(self, method="GET", path="/api/v1/monitors", host="localhost:9867", body=None, **fields):
        async def call():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://x") as client:
                named = {name.replace("_", "-"): value for name, value in fields.items()}
                headers = {b"host": host.encode("latin-1"), **{k.encode(): v.encode() for k, v in named.items()}}
                return await client.request(method, path, headers=headers, content=body)

        return asyncio.run(call())

    def reload(self, method="POST", **fields):
        return self.ask(method, "/-/reload", **fields)


@pytest.fixture
def site() -> Site:
    return Site("drift.example.com", "10.1.2.3", "fd00::1")


@pytest.mark.parametrize("host", OURS)
def test_loopback_and_the_names_of_the_configuration_are_answered_with_and_without_a_port(
    site: Site, host: str
) -> None:
    assert site.ask(host=host).status_code == 200


@pytest.mark.parametrize("host", OTHERS)
def test_another_host_is_misdirected_and_is_told_what_to_do(site: Site, host: str) -> None:
    answer = site.ask(host=host)
    assert answer.status_code == 421
    assert answer.json()["error"].startswith(
        "expected localhost, a loopback address or a name in server.hosts as Host, got "
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/configuration",
        "/monitors/loans",
        "/api/v1/status",
        "/-/healthy",
        "/-/ready",
        "/static/pages.js",
    ],
)
def test_nothing_at_all_is_read_under_another_name(site: Site, path: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert site.ask(method, path, host="evil.example:9867").status_code == 421
    assert site.ask("GET", path).status_code == 200


def test_nothing_is_posted_or_reloaded_under_another_name(site: Site) -> None:
    posted = site.ask("POST", "/v1/monitors/loans/samples", "evil.example", b"{}", content_type="application/json")
    assert posted.status_code == 421
    assert site.reload(host="evil.example", origin="http://evil.example").status_code == 421
    assert (site.ingest.bodies, site.reloads) == ([], 0)


@pytest.mark.parametrize("host", [*OURS, *OTHERS])
def test_where_other_machines_connect_any_name_will_do(host: str) -> None:
    assert Site(checked=False).ask(host=host).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},  # another port of this machine is the same site
        {"sec_fetch_site": "cross-site", "origin": "http://localhost:9867"},
        {"sec_fetch_site": "Something-new"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://localhost"},
        {"origin": "http://localhost:98671"},
        {"origin": "http://localhost:9867.evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://"},
        {"origin": "localhost:9867"},
        {"origin": "http://sub.drift.example.com"},
    ],
)
@pytest.mark.parametrize("checked", [True, False])
def test_a_page_of_another_site_changes_nothing(fields: dict[str, str], checked: bool) -> None:
    site = Site("drift.example.com", checked=checked)
    for method in ("POST", "PUT"):
        answer = site.reload(method, **fields)
        assert answer.status_code == 403
        assert answer.json()["error"].startswith("expected a request from a program or from a page of this server, got")
    csv = site.ask("POST", "/v1/monitors/loans/samples", body=b"age\n1\n", content_type="text/csv", **fields)
    assert csv.status_code == 403
    assert (site.reloads, site.ingest.bodies) == (0, [])
    assert site.ask(**fields).status_code == 200  # the browser keeps the answer from the page


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "same-origin"},
        {"origin": "http://localhost:9867"},
        {"origin": "https://LOCALHOST:9867"},  # TLS ends at a proxy
        {"origin": "https://drift.example.com"},  # the proxy replaces Host
        {"origin": "https://drift.example.com:8443"},
        {"origin": "https://app.example.com", "sec_fetch_site": "same-origin"},
    ],
)
def test_programs_and_our_own_pages_may_change_things(fields: dict[str, str]) -> None:
    site = Site("drift.example.com")
    assert site.reload(**fields).status_code == 200
    assert site.reloads == 1


def test_a_program_that_sends_neither_reloads_whatever_the_name() -> None:
    site = Site(checked=False)
    assert site.reload(host="kldrift.monitoring.svc:9867").status_code == 200
    assert site.reload(host="kldrift:9867", origin="http://kldrift:9867").status_code == 200
    assert site.reload(host="kldrift:9867", origin="http://grafana:3000").status_code == 403
    assert site.reloads == 2
