"""One connection to the server: how statements are said, and what is known of the one in hand."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from MySQLdb import Error
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

Row = tuple[Any, ...]

PIECE = 1000
"""Rows fetched at a time where only their number matters."""


class Session:
    """One connection. One thread at a time."""

    def __init__(self, connection: Connection, doing: str, object: str, comment: str) -> None:
        self.connection, self.doing, self.object, self.comment = connection, doing, object, comment
        self.id = 0
        self.busy = False
        self.statement = ""
        self.overran = False

    def ask(self, sql: str, **binds: object) -> list[Row]:
        """Run one statement. Without binds percent signs stand for themselves; with binds they are doubled."""
        self.statement, self.busy = sql, True
        try:
            tagged = f"{sql} {self.comment}"
            if binds:
                result = self.connection.exec_driver_sql(tagged, binds)
            else:
                result = self.connection.exec_driver_sql(tagged, execution_options={"no_parameters": True})
            return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            self.busy = False

    def verbatim(self, sql: str | bytes) -> list[Row]:
        """Run a statement that came whole from elsewhere (a definition, an operator's query)."""
        self.statement, self.busy = sql if isinstance(sql, str) else sql.decode(errors="replace"), True
        try:
            if isinstance(sql, bytes):
                return self._in_bytes(sql)
            result = self.connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
            return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            self.busy = False

    def _in_bytes(self, sql: bytes) -> list[Row]:
        """SQLAlchemy takes text alone."""
        try:
            with closing(self.connection.connection.cursor()) as cursor:
                cursor.execute(sql)
        except Error as error:
            raise DBAPIError(self.statement, None, error) from error
        return []

    def encoded(self, sql: str, charset: str) -> str | bytes:
        """Return a statement in the bytes that the server itself writes in this character set. A session whose
        character_set_client it is takes what it gets for text of that character set."""
        if sql.isascii():
            return sql
        known = charset if charset.isalnum() else "utf8mb4"
        return bytes(self.value(f"SELECT CAST(CONVERT(%(text)s USING {known}) AS BINARY)", text=sql))

    def first(self, sql: str, rows: int) -> list[Row]:
        """Return the first `rows` rows of a statement that came whole from elsewhere; the others are never kept."""
        self.statement, self.busy = sql, True
        options = {"no_parameters": True, "stream_results": True, "max_row_buffer": PIECE}
        try:
            with self.connection.exec_driver_sql(sql, execution_options=options) as result:
                return [tuple(row) for row in result.fetchmany(rows)] if result.returns_rows else []
        finally:
            self.busy = False

    def counted(self, sql: str) -> int:
        """Rows of a statement that came whole from elsewhere; fetched piece by piece and not kept."""
        self.statement, self.busy = sql, True
        options = {"no_parameters": True, "stream_results": True}
        try:
            with self.connection.exec_driver_sql(sql, execution_options=options) as result:
                return sum(len(part) for part in result.partitions(PIECE)) if result.returns_rows else 0
        finally:
            self.busy = False

    def named(self, sql: str) -> list[dict[str, Any]]:
        """Rows by column name, for statements whose columns differ by version."""
        return [dict(row) for row in self.connection.exec_driver_sql(sql).mappings()]

    def value(self, sql: str, **binds: object) -> Any:
        """First column of the first row, None when there is no row."""
        rows = self.ask(sql, **binds)
        return rows[0][0] if rows else None
