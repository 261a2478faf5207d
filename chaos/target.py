"""A database of the matrix, seen from outside with the plain driver."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from shutil import rmtree

from sqlalchemy import URL

from tests.engines.lab import Application, Lab

DATABASE = "shop"
LEDGER = 500
"""Rows that are there from the beginning; an application writes from 1,000 on."""
Settings = dict[str, object]


class Target(ABC):
    """One server of its own; `fresh` puts the database back as it was in the beginning."""

    lab: Lab
    folder: Path
    """Holds everything of it: the server or the file, and the backups."""

    @property
    @abstractmethod
    def url(self) -> URL: ...

    @property
    @abstractmethod
    def backups(self) -> Path: ...

    @property
    def environment(self) -> dict[str, str]:
        """What the console's processes need besides, to find the database's own programs."""
        return {}

    @abstractmethod
    def fresh(self, damaged: bool, other: bool) -> None:
        """The database anew; `damaged`: an index of orders cannot be read; `other`: see Case.variant."""

    @abstractmethod
    def settings(self) -> Settings:
        """Everything that must be exactly as before: connection settings, objects, other databases, sessions."""

    @abstractmethod
    def contents(self) -> Settings:
        """Count and checksum of the tables that no application writes to, by plain SQL."""

    @abstractmethod
    def client(self) -> AbstractContextManager[Application]:
        """An ordinary application connects."""

    @abstractmethod
    def close(self) -> None: ...

    def kept(self) -> set[int]:
        """The rows of the ledger in the image of the cut, where one is kept beside the database."""
        return set()

    def empty_backups(self) -> None:
        """A folder again, whatever stood in its place."""
        self.backups.unlink() if self.backups.is_file() else rmtree(self.backups)
        self.backups.mkdir()

    def ledger(self) -> set[int]:
        return {int(str(row[0])) for row in self.lab.sql("SELECT id FROM ledger")}


class Busy:
    """An application that commits row after row and comes again when it is thrown out."""

    def __init__(self, target: Target) -> None:
        self.target, self.over = target, threading.Event()
        self.committed: list[int] = []
        """What the server acknowledged."""
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Busy:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join(30)

    def _run(self) -> None:
        number = 1000
        while not self.over.wait(0.03):
            try:
                with self.target.client() as client:
                    for _ in range(10):
                        if self.over.wait(0.02):
                            return
                        number += 1
                        client.execute(f"INSERT INTO ledger (id, word) VALUES ({number}, 'row {number}')")
                        self.committed.append(number)
            except Exception:
                self.over.wait(0.05)
