"""Which Host and Origin headers are answered: no web page that an operator visits may use the daemon in their name.

A browser lets every page send requests to loopback. It keeps the answers from pages of another origin, unless the page
has its own name resolve to 127.0.0.1 (DNS rebinding); then `Host` is the name of the page. And requests that change
something need no answer to do harm; browsers mark those of another site with `Origin` and `Sec-Fetch-Site`.
"""

import functools
from collections.abc import Collection, Mapping

from kldrift.records.addresses import host_of, is_loopback
from kldrift.web.answers import Problem, shown

#: Methods that change nothing.
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
#: What browsers say of requests that the daemon's own pages, or the user, made.
_OWN_SITES = (b"same-origin", b"none")


class Hosts:
    """Admits a request by its `Host` and `Origin`, or raises the error to answer it with.

    Parameters
    ----------
    names : further names of the server, such as those that a proxy passes on, in lower case and without ports
    checked : whether `Host` must be one of them, ``localhost`` or a loopback address
    """

    def __init__(self, names: Collection[str] = (), checked: bool = False) -> None:
        self._names = frozenset(names)
        self._checked = checked
        self._is_ours = functools.lru_cache(maxsize=64)(self._names_us)

    def admit(self, method: str, fields: Mapping[bytes, bytes]) -> None:
        """Return if the request is allowed; `fields` are its header fields, names in lower case.

        Raises
        ------
        Problem
            421 for another host, 403 for a request that changes something and comes from another site
        """
        host = fields.get(b"host")
        if self._checked and host is not None and not self._is_ours(host):
            raise Problem(
                421,
                f"expected localhost, a loopback address or a name in server.hosts as Host, got {shown(host)}; "
                "use http://127.0.0.1 with the port, or add the name to server.hosts",
            )
        if method not in _SAFE and (b"origin" in fields or b"sec-fetch-site" in fields):
            self._refuse_other_sites(fields, host)

    def _names_us(self, host: bytes) -> bool:
        name = host_of(host.decode("latin-1"))
        return name is not None and (name in self._names or is_loopback(name))

    def _refuse_other_sites(self, fields: Mapping[bytes, bytes], host: bytes | None) -> None:
        """Decide as Go's `http.CrossOriginProtection` does: by `Sec-Fetch-Site`, and by `Origin` in older browsers."""
        site, origin = fields.get(b"sec-fetch-site"), fields.get(b"origin")
        if site is not None:
            allowed = site in _OWN_SITES
        else:
            authority = (origin or b"").partition(b"://")[2].lower().decode("latin-1")
            ours = (host or b"").lower().decode("latin-1")
            allowed = authority != "" and (authority == ours or host_of(authority) in self._names)
        if not allowed:
            got = f"Sec-Fetch-Site {shown(site or b'')}" if origin is None else f"Origin {shown(origin)}"
            raise Problem(
                403,
                f"expected a request from a program or from a page of this server, got one from another site ({got}); "
                "send it with a program such as curl, or add the name that the pages are served under to server.hosts",
            )
