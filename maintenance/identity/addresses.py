"""Where a request comes from. A header says so only when a proxy that is configured has written it."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest

UNKNOWN = "unknown"
HOUSEHOLD = 64
"""Bits of an IPv6 address that one subscriber cannot choose: https://www.rfc-editor.org/rfc/rfc6177"""


def address(request: HttpRequest) -> str:
    """Return the client's address: the last in X-Forwarded-For that is no proxy of ours, where one passed it on."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    if not through_proxy(request):
        return peer or UNKNOWN
    named = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")
    strangers = (name.strip() for name in reversed(named) if name.strip() not in settings.PROXIES)
    return next(filter(None, strangers), peer or UNKNOWN)[:45]


def through_proxy(request: HttpRequest) -> bool:
    """Return whether a proxy of DBMAINT_PROXIES sent it. A socket of the file system has no address: `unix`."""
    return (str(request.META.get("REMOTE_ADDR", "")) or "unix") in settings.PROXIES


def household(address: str) -> str:
    """Return what is limited as one: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(IPv6Network((parsed, HOUSEHOLD), strict=False)) if isinstance(parsed, IPv6Address) else address
