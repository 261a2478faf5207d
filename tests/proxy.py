"""A line to a server that can be cut: it stalls, or it is reset."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LINGER_NOT = struct.pack("ii", 1, 0)
"""Closing sends a reset."""


class Proxy:
    """Forwards bytes between its own port and the server's."""

    def __init__(self, port: int) -> None:
        self.server = port
        self.lines: list[tuple[socket.socket, socket.socket]] = []
        self.stalled: set[socket.socket] = set()
        self.dead = False
        """New lines are taken and nothing comes of them."""
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                if self.dead:
                    self.lines.append((client, client))
                    continue
                server = socket.create_connection(("127.0.0.1", self.server))
                self.lines.append((client, server))
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if one not in self.stalled:
                    other.sendall(data)
        if one not in self.stalled:
            for end in (one, other):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Every line of now is silent for ever, in both directions; new ones work."""
        self.stalled |= {end for line in self.lines for end in line}

    def reset(self) -> None:
        """Every line of now is reset; new ones work."""
        for line in self.lines:
            for end in line:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
                    end.close()

    def cut(self) -> None:
        """Nothing comes through from now on."""
        self.dead = True
        self.stall()

    def close(self) -> None:
        self.listening.close()
        self.reset()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()
