"""What a model server calls."""

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
    url : of the daemon; behind a proxy that maps it elsewhere with a path
    token, token_file : a bearer token; without any credentials ``KLDRIFT_TOKEN``, from the environment
    username, password, password_file : basic authentication; ``KLDRIFT_USERNAME`` and ``KLDRIFT_PASSWORD``
    ca_file : authorities (PEM) that are trusted with the daemon's certificate; by default the system's
    certificate, key : the client's own (PEM), where the daemon asks for one
    batch_rows, interval_seconds : a batch is sent when it has so many rows, or is so old
    max_rows, max_bytes : how much may wait in memory; beyond it new rows are dropped, and counted. Bytes are estimated
        from the rows before
    compress : gzip the bodies; worth it over a network, not to the machine itself
    timeout_seconds : for the daemon to answer; then the batch is sent again
    exit_seconds : how long the end of the process may be held up to send what waits

    Raises
    ------
    ValueError
        something of it cannot be used. Nothing else raises: whether a daemon is there is not asked

    Notes
    -----
    A row has the time at which it is counted unless the monitor has a ``timestamp`` and the row that field; rows that
    wait for a daemon to come back should.
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
        """Have a row counted: feature → number, text, bool, None or, for vectors, a list or array.

        Never waits and never raises. The row is copied and may be changed afterwards; lists and arrays in it are not
        copied and may not. numpy's numbers and arrays, dates and decimals are taken; NaN is missing; what JSON cannot
        hold is missing too, and counted in `invalid`.
        """
        delivery = self._delivery
        rows = delivery.rows
        if len(rows) < delivery.room:
            try:
                rows.append(dict(row))
            except Exception as error:  # noqa: BLE001  # whatever is wrong with the row: it costs that row
                delivery.fail(1, f"expected a mapping of features, got {type(row).__name__} ({error})")
                return
            if len(rows) >= self._batch_rows and delivery.bell.locked():
                delivery.ring()
        elif delivery.room == 0 and delivery.start(row):
            self.log(row)
        else:
            delivery.drop(1)

    def log_many(self, columns: Mapping[str, Iterable[object]]) -> None:
        """Have many rows counted: feature → numpy array or list, all of one length; a matrix is a column of vectors.

        Never waits and never raises; the columns are copied.
        """
        delivery = self._delivery
        try:
            lists = [column.tolist() if hasattr(column, "tolist") else list(column) for column in columns.values()]
            names = list(columns)
            lengths = {len(column) for column in lists}
        except Exception as error:  # noqa: BLE001  # as in `log`
            delivery.fail(1, f"expected columns, an array or list a feature, got {type(columns).__name__} ({error})")
            return
        if len(lengths) > 1:
            told = ", ".join(f"{len(column)} in {name!r}" for name, column in zip(names, lists, strict=True))
            delivery.fail(max(lengths), f"expected columns of one length, got {told[:200]}")
            return
        for values in zip(*lists, strict=True):
            self.log(dict(zip(names, values, strict=True)))

    def flush(self, timeout: float = 5.0) -> bool:
        """Send what was logged until now, and wait until it is answered or given up. False when that takes longer."""
        return self._delivery.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send what waits, for at most so many seconds, and end. False when something of it was not answered.

        What is logged from then on is dropped.
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
        """Rows that the daemon took."""
        return self._delivery.counts.sent

    @property
    def rejected(self) -> int:
        """Of them those that it did not count: malformed, or late."""
        return self._delivery.counts.rejected

    @property
    def failed(self) -> int:
        """Rows that are given up: refused by the daemon, not rows at all, or unanswered when the client was closed."""
        return self._delivery.counts.failed

    @property
    def dropped(self) -> int:
        """Rows that there was no room for, or that came after the end."""
        return self._delivery.counts.dropped

    @property
    def pending(self) -> int:
        """Rows that wait or are under way. Every row is in one of `sent`, `failed`, `dropped` and `pending`."""
        return self._delivery.pending

    @property
    def invalid(self) -> int:
        """Values that JSON could not hold."""
        return self._delivery.counts.invalid

    @property
    def retries(self) -> int:
        """Attempts that were not the last one of their batch."""
        return self._delivery.counts.retries

    def _after_fork(self) -> None:
        """In the child: an empty buffer, counts of 0, a thread when the first row comes."""
        parents = self._delivery
        self._delivery = self._new_delivery()
        if self._closed:
            self._delivery.close(0)
        parents.abandon()


_CLIENTS: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _close_all() -> None:
    """At exit: all at the same time, so that it takes as long as the slowest."""
    clients = list(_CLIENTS)
    for client in clients:
        client._begin_close(client._exit_seconds)  # noqa: SLF001  # of this module
    for client in clients:
        client._delivery.finish()  # noqa: SLF001


def _after_fork_in_child() -> None:
    for client in list(_CLIENTS):
        client._after_fork()  # noqa: SLF001


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
