"""The line to a server: hanging up from our side when nobody answers at the other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL


def abort_connections(url: URL, usual_port: int) -> int:
    """End every connection of this process to the server of `url`; return how many.

    The drivers wait for an answer without a limit of their own; ending the socket under them is what reaches
    them from another thread. They then report a lost connection.
    """
    ended = 0
    there = _addresses(url.host or "localhost", url.port or usual_port)
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError, ValueError), _line(int(entry.name)) as line:
            if line.getpeername()[:2] in there:
                line.shutdown(socket.SHUT_RDWR)
                ended += 1
    return ended


@contextmanager
def _line(descriptor: int) -> Iterator[socket.socket]:
    """The socket behind it, by a descriptor of our own. Raises OSError when there is none."""
    copy = os.dup(descriptor)
    try:
        line = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with closing(line):
        yield line


def _addresses(host: str, port: int) -> set[tuple[object, ...]]:
    with suppress(OSError):
        return {found[4][:2] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return set()
