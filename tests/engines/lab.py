"""A lab is one throwaway database of one product, with what the shared engine tests need from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from sqlalchemy import URL

from maintenance.engines import open_engine
from maintenance.engines.base import Engine
from maintenance.engines.values import Limits, Tag


class Application(ABC):
    """An ordinary client of the database, not the administrator."""

    @abstractmethod
    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Runs one statement and commits; raises the driver's error."""


class Lab(ABC):
    """Each test gets a fresh database `url` in it."""

    url: URL
    """As an administrator would register it."""
    folder: Path
    """For backup files; not where the data lies."""

    @contextmanager
    def engine(self, target: int = 7, token: int = 1, limits: Limits | None = None) -> Iterator[Engine]:
        made = open_engine(self.url, Tag(target, token), limits or Limits(jobs=2, lock_seconds=5, cut_seconds=10))
        try:
            yield made
        finally:
            made.close()

    @abstractmethod
    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """As the administrator, with the plain driver, outside the engine."""

    @abstractmethod
    def application(self) -> AbstractContextManager[Application]:
        """A client that connects now. Raises the driver's error when it is not let in."""

    @abstractmethod
    def fill(self) -> None:
        """Tables customers (2,000 rows) and orders (20,000 rows inserted, 60 % of them deleted again,
        columns id, customer_id, status, note; foreign key; an index on status), fresh statistics
        withheld, so that diagnosis finds bloat."""

    @abstractmethod
    def difficult(self) -> list[str]:
        """Mixed-case, quoted, Japanese and reserved-word table names, partitions, generated columns,
        foreign keys, views, triggers, large objects or blobs, sequences, an empty table, a table
        without a primary key: as far as the product has them. Returns the canonical table names."""

    @abstractmethod
    def damage_index(self) -> str:
        """After `fill`: damages the index on orders.status so that reading through it fails or gives
        wrong answers, table rows whole. Returns the canonical name of orders."""

    @abstractmethod
    def damage_table(self) -> str:
        """After `fill`: damages a data page of orders, so that some rows cannot be read."""
