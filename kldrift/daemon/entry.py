"""Who gets in: TLS and access as configured, reloaded when their files change."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from kldrift.config.records import ServerConfig
from kldrift.errors import ConfigError
from kldrift.export.telemetry import Telemetry
from kldrift.records.addresses import is_loopback
from kldrift.web.access import REFUSALS, Access
from kldrift.web.credentials import load_credentials
from kldrift.web.hosts import Hosts
from kldrift.web.secret_files import Reloadable, Watch
from kldrift.web.tls import HANDSHAKE_FAILURES, Tls, load_context

Result = TypeVar("Result")


class Entry:
    """TLS, access control and the hosts that are answered, between the port and the daemon.

    Raises
    ------
    ConfigError
        with every problem in the files
    """

    def __init__(self, server: ServerConfig, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self.tls: Tls | None = None
        self.access: Access | None = None
        self.hosts = accepted_hosts(server)
        self._parts: list[Reloadable] = []
        tls, auth, warn = server.tls, server.auth, telemetry.config_warning

        def use_tls() -> None:
            if tls is not None:
                files = (tls.certificate, tls.key, tls.client_ca, tls.key_password_file)
                self.tls = Tls(*files, telemetry.certificate_used, telemetry.tls_failed, warn)
                self._parts.append(self.tls)

        def use_auth() -> None:
            if auth is not None:
                self.access = Access(auth.tokens_file, auth.users_file, telemetry.http_unauthorized, warn)
                self._parts.append(self.access)

        _all_of([use_tls, use_auth])
        telemetry.watch_entry(() if self.access is None else REFUSALS, () if self.tls is None else HANDSHAKE_FAILURES)
        if self._parts:
            telemetry.server_files_read(())
        self._watch = Watch(self._parts, telemetry.server_files_read)

    def load(self) -> Callable[[], None]:
        """Reload all files; calling the result activates them.

        Raises
        ------
        ConfigError
            with every problem; the active ones stay in use
        """
        loaded = _all_of([part.load for part in self._parts])

        def use() -> None:
            for use_part in loaded:
                use_part()
            if loaded:
                self._telemetry.server_files_read(())

        return use

    async def watch(self) -> None:
        """Reload files when they change, until cancelled."""
        await self._watch.run()

    def close(self) -> None:
        """Stop checking passwords."""
        if self.access is not None:
            self.access.close()


def accepted_hosts(server: ServerConfig) -> Hosts:
    """Return the hosts that are answered: any, unless names are given or only the address protects the server.

    Elsewhere, Prometheus and proxies use names that the configuration does not know.
    """
    knows_clients = server.auth is not None or (server.tls is not None and server.tls.client_ca is not None)
    return Hosts(server.hosts, checked=bool(server.hosts) or (is_loopback(server.listen.host) and not knows_clients))


def check_entry(server: ServerConfig) -> tuple[str, list[str]]:
    """Read the files without using them. Returns a summary of who gets in, and warnings.

    Raises
    ------
    ConfigError
        with every problem in the files
    """
    tls, auth = server.tls, server.auth
    warnings: list[str] = []
    said: list[str] = []

    def check_tls() -> None:
        if tls is not None:
            load_context(tls.certificate, tls.key, tls.client_ca, tls.key_password_file, warnings.append)
            said.append("TLS" if tls.client_ca is None else "TLS and certificates of clients")

    def check_auth() -> None:
        if auth is not None:
            known = load_credentials(auth.tokens_file, auth.users_file, warnings.append)
            said.append(f"tokens: {len(known.tokens)}, users: {len(known.users)}")

    _all_of([check_tls, check_auth])
    return "; ".join(said) or "everyone who can connect", warnings


def _all_of(loads: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call them all, and raise the problems of all of them together."""
    results: list[Result] = []
    problems: list[str] = []
    for load in loads:
        try:
            results.append(load())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return results
