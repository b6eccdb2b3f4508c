"""Hosts as addresses and headers name them."""

import ipaddress
import re

#: A host name, or an IPv4 address; underscores are common in the names of containers.
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_-])?")
_PORT = re.compile(r"(?::[0-9]{0,5})?")


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address without brackets; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    address = ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return host.lower() == "localhost" if address is None else address.is_loopback


def plain_host(host: str) -> str | None:
    """Return a host name, or an address without brackets, in the one spelling in which hosts are compared.

    None if it is neither, such as a name with a scheme or a port.
    """
    address = ip_address(host)
    if address is not None:
        return str(address)
    name = host.lower().removesuffix(".")
    return name if _NAME.fullmatch(name) else None


def host_of(authority: str) -> str | None:
    """Return the plain host of a host with or without a port, such as ``[::1]:9867``; None for anything else."""
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    else:
        host, colon, digits = authority.partition(":")
        port = colon + digits
    return plain_host(host) if _PORT.fullmatch(port) else None
