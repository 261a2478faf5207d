"""A server that is none: it speaks enough of MySQL's protocol to ask a client for what it must not give."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SALT = b"abcdefghijklmnopqrst"
LONG_PASSWORD, PROTOCOL_41, SECURE, LOCAL_FILES, PLUGINS = 0x1, 0x200, 0x8000, 0x80, 0x80000
CAPABILITIES = LONG_PASSWORD | PROTOCOL_41 | SECURE | LOCAL_FILES | PLUGINS | 0x8 | 0x2000
OK = b"\x00\x00\x00\x02\x00\x00\x00"
ASK_FOR_PASSWORD = b"\x04Password: "
"""What the dialog plugin takes for a question that is answered with the password."""


class Rogue:
    """Listens on loopback. `received` holds every packet that clients sent."""

    def __init__(self, talk: Callable[[Rogue, Line], None]) -> None:
        self.received: list[bytes] = []
        self._talk = talk
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def everything(self) -> bytes:
        return b"".join(self.received)

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._speak, args=(accepted,), daemon=True).start()

    def _speak(self, accepted: socket.socket) -> None:
        accepted.settimeout(10)
        with accepted, suppress(OSError):
            self._talk(self, Line(accepted, self.received))


class Line:
    """Packets to and from one client."""

    def __init__(self, connected: socket.socket, received: list[bytes]) -> None:
        self.connected, self.received, self.number = connected, received, 0

    def send(self, body: bytes) -> None:
        self.connected.sendall(struct.pack("<I", len(body))[:3] + bytes([self.number % 256]) + body)
        self.number += 1

    def receive(self) -> bytes:
        head = self._exactly(4)
        self.number = head[3] + 1
        body = self._exactly(int.from_bytes(head[:3], "little"))
        self.received.append(body)
        return body

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.connected.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def greet(self) -> None:
        """Introduces itself as MariaDB without TLS; takes the answer of the client."""
        self.send(
            b"\x0a5.5.5-10.11.0-MariaDB\0"
            + struct.pack("<I", 7)
            + SALT[:8]
            + b"\0"
            + struct.pack("<HBHH", CAPABILITIES & 0xFFFF, 45, 2, CAPABILITIES >> 16)
            + bytes([21])
            + b"\0" * 10
            + SALT[8:]
            + b"\0mysql_native_password\0"
        )
        self.receive()


def asks_for_password(plugin: str) -> Callable[[Rogue, Line], None]:
    """Tells the client to log in by `plugin`, which hands the password over as it is."""

    def talk(rogue: Rogue, line: Line) -> None:
        line.greet()
        question = ASK_FOR_PASSWORD if plugin == "dialog" else SALT
        line.send(b"\xfe" + plugin.encode() + b"\0" + question + b"\0")
        line.receive()

    return talk


def asks_for_file(path: str) -> Callable[[Rogue, Line], None]:
    """Lets everybody in and answers each statement with the request for a file of the client's."""

    def talk(rogue: Rogue, line: Line) -> None:
        line.greet()
        line.send(OK)
        while True:
            line.receive()
            line.send(b"\xfb" + path.encode())
            while line.receive():
                pass
            line.send(OK)

    return talk


@contextmanager
def listening(talk: Callable[[Rogue, Line], None]) -> Iterator[Rogue]:
    rogue = Rogue(talk)
    try:
        yield rogue
    finally:
        rogue.close()
