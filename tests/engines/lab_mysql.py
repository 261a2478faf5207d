"""Throwaway MySQL databases, on the server that `make test-mysql` fetches: what differs from MariaDB's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from demo.mysql import HOME, ThrowawayMySQL, programs
from demo.private_server import PrivateServer
from tests.engines.lab_mariadb import MariaDBLab


class MySQLLab(MariaDBLab):
    server_options = {"disable-log-bin": "ON", "cte-max-recursion-depth": "1000000"}
    innodb = "innodb"

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, options: Mapping[str, str] | None = None) -> Iterator[Self]:
        if HOME not in os.environ:
            pytest.skip("MySQL's own server is had by `make test-mysql` only")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{programs()}:{os.environ['PATH']}")
            with super().opened(folder, options) as opened:
                yield opened

    @classmethod
    def server_in(cls, folder: Path, options: Mapping[str, str]) -> PrivateServer:
        return ThrowawayMySQL(folder / "mysql", options)

    def numbers(self, last: int) -> str:
        counting = f"SELECT 1 AS seq UNION ALL SELECT seq + 1 FROM counted WHERE seq < {last}"
        return f"(WITH RECURSIVE counted AS ({counting}) SELECT seq FROM counted) numbers"

    difficult_here = ("by_words", "described")

    def _difficult_here(self) -> tuple[str, ...]:
        return (
            (
                "CREATE TABLE by_words (id INT PRIMARY KEY, name VARCHAR(40), doc JSON, KEY lowered ((LOWER(name))),"
                " KEY unseen (name) INVISIBLE, KEY downwards (id DESC, name), KEY tags ((CAST(doc AS UNSIGNED ARRAY))))"
            ),
            "INSERT INTO by_words VALUES (1, 'One', '[1, 2]'), (2, NULL, NULL)",
            "CREATE TABLE described (id INT PRIMARY KEY, at DATETIME DEFAULT (NOW()), v JSON DEFAULT (JSON_ARRAY()))",
            "INSERT INTO described (id) VALUES (1)",
        )
