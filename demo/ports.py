"""Ports of 127.0.0.1 for the private servers of demo and tests."""

from __future__ import annotations

import socket
from pathlib import Path
from random import SystemRandom

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""First and last port that the system gives to whoever connects."""
LOWEST = 10_000


def free_port() -> int:
    """A port that nobody listens on now, and that no outgoing connection is given either: a server that is started
    again a moment later finds its port still free."""
    below = _first_of_clients()
    if below - LOWEST > 1_000:
        for port in SystemRandom().sample(range(LOWEST, below), 100):
            if _is_free(port):
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _first_of_clients() -> int:
    try:
        return int(RANGE.read_text().split()[0])
    except OSError:
        return 32_768  # Linux's usual one.


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
