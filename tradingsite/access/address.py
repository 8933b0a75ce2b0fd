"""Where a request comes from: the peer, or whom a proxy of ours says it speaks for."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

FORWARDED = "HTTP_X_FORWARDED_FOR"
V6_NETWORK_BITS = 64  # whoever has one address of a network has them all
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def of(request: HttpRequest) -> Address | None:
    """Return the client's address, None where nobody vouches for one.

    Of X-Forwarded-For only the last entry counts, the one our own proxy wrote, and only from a
    proxy of ours. A request that came through any other proxy has no address.
    """
    peer = _parsed(request.META.get("REMOTE_ADDR", ""))
    forwarded = request.META.get(FORWARDED)
    if forwarded is None:
        return peer
    if peer is None or str(peer) not in settings.TRUSTED_PROXIES:
        return None
    return _parsed(forwarded.rsplit(",", 1)[-1])


def counted(request: HttpRequest) -> str | None:
    """Return the address under which wrong passwords are counted, None where there is none."""
    address = of(request) or _parsed(request.META.get("REMOTE_ADDR", ""))
    if isinstance(address, ipaddress.IPv6Address):
        network = ipaddress.ip_network((address, V6_NETWORK_BITS), strict=False)
        return str(network.network_address)
    return str(address) if address else None


def is_loopback(request: HttpRequest) -> bool:
    """Return whether the client is on this machine."""
    address = of(request)
    return address is not None and address.is_loopback


def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:  # a socket has none, and a header holds what its sender wrote
        return None
    # A server that listens on both families names an IPv4 client in IPv6's way.
    return getattr(address, "ipv4_mapped", None) or address
