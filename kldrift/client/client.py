"""The interface for model servers."""

import atexit
import os
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType

from kldrift.client.delivery import Delivery, Limits
from kldrift.client.endpoint import Credentials, Endpoint, Tls
from kldrift.client.notices import Notices

_Path = str | os.PathLike[str]


class Client:
    """Sends rows to one monitor of a daemon, in the background.

    Parameters
    ----------
    monitor : its name in the daemon's configuration
    url : of the daemon; with a path if a proxy serves it under one
    token, token_file : a bearer token; without any credentials, ``KLDRIFT_TOKEN`` from the environment
    username, password, password_file : basic authentication; without any credentials, ``KLDRIFT_USERNAME`` and
        ``KLDRIFT_PASSWORD`` from the environment
    ca_file : authorities (PEM) to verify the daemon's certificate with; by default those of the system
    certificate, key : the client's own (PEM), if the daemon asks for one
    batch_rows, interval_seconds : a batch is sent once it has this many rows or is this old
    max_rows, max_bytes : how much may wait in memory; beyond that, new rows are dropped and counted. Bytes are
        estimated from earlier rows
    compress : gzip the bodies; worthwhile over a network, not on the same machine
    timeout_seconds : how long to wait for the daemon's answer before the batch is sent again
    exit_seconds : how long the exit of the process may be delayed to send pending rows

    Raises
    ------
    ValueError
        an argument cannot be used. Nothing else raises: the client does not check whether a daemon is there

    Notes
    -----
    Unless the monitor has a ``timestamp`` and the row contains that field, a row counts at the time it reaches the
    daemon. Rows that may have to wait for a daemon to come back should carry a timestamp.
    """

    def __init__(
        self,
        *,
        monitor: str,
        url: str = "http://127.0.0.1:9867",
        token: str | None = None,
        token_file: _Path | None = None,
        username: str | None = None,
        password: str | None = None,
        password_file: _Path | None = None,
        ca_file: _Path | None = None,
        certificate: _Path | None = None,
        key: _Path | None = None,
        batch_rows: int = 500,
        interval_seconds: float = 1.0,
        max_rows: int = 50_000,
        max_bytes: int = 64 << 20,
        compress: bool = False,
        timeout_seconds: float = 10.0,
        exit_seconds: float = 5.0,
    ) -> None:
        positive = {
            "batch_rows": batch_rows,
            "interval_seconds": interval_seconds,
            "max_rows": max_rows,
            "max_bytes": max_bytes,
            "timeout_seconds": timeout_seconds,
        }
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"{name}: expected a number above 0, got {value!r}; leave it out for the default")
        credentials = Credentials(token, token_file, username, password, password_file).or_environment(os.environ)
        tls = Tls(ca_file, certificate, key)
        limits = Limits(min(batch_rows, max_rows), interval_seconds, max_rows, max_bytes)
        self._exit_seconds = exit_seconds

        notices = Notices(monitor)

        def new_delivery() -> Delivery:
            endpoint = Endpoint(url, monitor, credentials, tls, timeout_seconds, compress)
            return Delivery(endpoint, limits, notices, compress)

        credentials.header()
        if tls != Tls():
            tls.context()
        self._new_delivery = new_delivery
        self._delivery = new_delivery()
        self._batch_rows = limits.batch_rows
        self._closed = False
        _CLIENTS.add(self)

    def log(self, row: Mapping[str, object]) -> None:
        """Log a row: feature → number, text, bool, None or, for vectors, a list or array.

        Never waits and never raises. The row is copied and may be changed afterwards; lists and arrays in it are not
        copied and must not be changed. numpy scalars and arrays, dates and decimals are accepted. NaN counts as
        missing; so does a value that JSON cannot represent, which is also counted in `invalid`.
        """
        delivery = self._delivery
        rows = delivery.rows
        if len(rows) < delivery.room:
            try:
                rows.append(dict(row))
            except Exception as error:  # noqa: BLE001  # whatever is wrong with the row, only that row is lost
                delivery.fail(1, f"expected a mapping of features, got {type(row).__name__} ({error})")
                return
            if len(rows) >= self._batch_rows and delivery.bell.locked():
                delivery.ring()
        elif delivery.room == 0 and delivery.start(row):
            self.log(row)
        else:
            delivery.drop(1)

    def log_many(self, columns: Mapping[str, Iterable[object]]) -> None:
        """Log many rows: feature → numpy array or list, all of one length; a matrix is a column of vectors.

        Never waits and never raises; the columns are copied.
        """
        delivery = self._delivery
        try:
            lists = [column.tolist() if hasattr(column, "tolist") else list(column) for column in columns.values()]
            names = list(columns)
            lengths = {len(column) for column in lists}
        except Exception as error:  # noqa: BLE001  # as in `log`
            delivery.fail(1, f"expected columns, one array or list per feature, got {type(columns).__name__} ({error})")
            return
        if len(lengths) > 1:
            found = ", ".join(f"{len(column)} in {name!r}" for name, column in zip(names, lists, strict=True))
            delivery.fail(max(lengths), f"expected columns of one length, got {found[:200]}")
            return
        for values in zip(*lists, strict=True):
            self.log(dict(zip(names, values, strict=True)))

    def flush(self, timeout: float = 5.0) -> bool:
        """Send what was logged so far and wait until it is answered or given up; False if that takes longer."""
        return self._delivery.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send pending rows for at most `timeout` seconds, then stop; False if some were not answered.

        Rows logged afterwards are dropped.
        """
        self._begin_close(timeout)
        return self._delivery.finish()

    def _begin_close(self, timeout: float) -> None:
        if not self._closed:
            self._closed = True
            self._delivery.close(timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def sent(self) -> int:
        """Rows that the daemon accepted."""
        return self._delivery.counts.sent

    @property
    def rejected(self) -> int:
        """Accepted rows that it did not count, because they were malformed or late."""
        return self._delivery.counts.rejected

    @property
    def failed(self) -> int:
        """Rows given up: refused by the daemon, not rows at all, or unanswered when the client was closed."""
        return self._delivery.counts.failed

    @property
    def dropped(self) -> int:
        """Rows logged when the buffer was full, or after the client was closed."""
        return self._delivery.counts.dropped

    @property
    def pending(self) -> int:
        """Rows waiting or in flight. Every row is in exactly one of `sent`, `failed`, `dropped` and `pending`."""
        return self._delivery.pending

    @property
    def invalid(self) -> int:
        """Values that JSON cannot represent."""
        return self._delivery.counts.invalid

    @property
    def retries(self) -> int:
        """Attempts after which their batch had to be sent again."""
        return self._delivery.counts.retries

    def _after_fork(self) -> None:
        """Start afresh in the child: an empty buffer, counts of 0, and a thread once the first row comes."""
        parents = self._delivery
        self._delivery = self._new_delivery()
        if self._closed:
            self._delivery.close(0)
        parents.abandon()


_CLIENTS: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _close_all() -> None:
    """Close all clients at exit, at the same time, so that this takes only as long as the slowest."""
    clients = list(_CLIENTS)
    for client in clients:
        client._begin_close(client._exit_seconds)  # noqa: SLF001  # its own module
    for client in clients:
        client._delivery.finish()  # noqa: SLF001


def _after_fork_in_child() -> None:
    for client in list(_CLIENTS):
        client._after_fork()  # noqa: SLF001


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
