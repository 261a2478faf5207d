"""The line to a server: hanging up from our side when nobody answers at the other."""

from __future__ import annotations

import os
import socket
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import URL


def hang_up(url: URL, usual_port: int) -> int:
    """Ends every connection of this process to the server of `url`; returns how many.

    The drivers wait for an answer without a limit of their own; ending the socket under them is what reaches
    them from another thread. They then report a lost connection.
    """
    ended = 0
    there = _addresses(url.host or "localhost", url.port or usual_port)
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError, ValueError), closing(socket.socket(fileno=os.dup(int(entry.name)))) as line:
            if line.getpeername()[:2] in there:
                line.shutdown(socket.SHUT_RDWR)
                ended += 1
    return ended


def _addresses(host: str, port: int) -> set[tuple[object, ...]]:
    with suppress(OSError):
        return {found[4][:2] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return set()
