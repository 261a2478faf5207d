"""Hanging up ends the lines to one server, and nothing else of the process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from sqlalchemy import make_url

from maintenance.engines.sockets import abort_connections


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_only_the_lines_to_this_server_are_ended_and_no_descriptor_is_left_over(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(server.getsockname()) as line,
        socket.create_connection(other.getsockname()) as spared,
        (tmp_path / "a file").open("w"),
    ):
        before = descriptors()
        url = make_url(f"postgresql://somebody@127.0.0.1:{server.getsockname()[1]}/shop")
        assert abort_connections(url, 5432) == 1
        assert descriptors() == before
        assert line.recv(1) == b""
        spared.settimeout(0.1)
        with pytest.raises(TimeoutError):
            spared.recv(1)
