"""Statements: how names are quoted, how one is run, and the settings of a session."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import DBAPIError

Row = tuple[Any, ...]

# Not the psycopg2 dialect: that one doubles percent signs in names.
_preparer = PGDialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]


def quoted(name: str) -> str:
    """Return one identifier as SQL."""
    return str(_preparer.quote(name))


def canonical(schema: str, table: str) -> str:
    """Return the name of a table as everybody else in this console knows it."""
    return f"{quoted(schema)}.{quoted(table)}"


def ask(connection: Connection, sql: str, **binds: object) -> list[Row]:
    """Run one statement. Without binds percent signs stand for themselves; with binds they are doubled."""
    if binds:
        result = connection.exec_driver_sql(sql, binds)
    else:
        result = connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
    return [tuple(row) for row in result] if result.returns_rows else []


@contextmanager
def transaction(connection: Connection, opening: str = "BEGIN") -> Iterator[None]:
    """BEGIN and COMMIT around the block on an autocommit session; ROLLBACK when it raises."""
    ask(connection, opening)
    try:
        yield
        ask(connection, "COMMIT")
    except BaseException:
        with suppress(DBAPIError):
            ask(connection, "ROLLBACK")
        raise


def configure(connection: Connection, settings: Mapping[str, object], local: bool = False) -> None:
    """Set run-time parameters of this session (or, `local`, of its transaction)."""
    if not settings:
        return
    calls = ", ".join(f"set_config(%(n{i})s, %(v{i})s, %(local)s)" for i in range(len(settings)))
    names = {f"n{i}": name for i, name in enumerate(settings)}
    values = {f"v{i}": str(value) for i, value in enumerate(settings.values())}
    ask(connection, f"SELECT {calls}", **names, **values, local=local)


def literal(connection: Connection, text: str | None) -> str:
    """As SQL, quoted by the server."""
    return str(ask(connection, "SELECT quote_nullable(%(text)s::text)", text=text)[0][0])


def data_directory(connection: Connection) -> str | None:
    """Return where the data lies, or None when this account may not know."""
    rows = ask(connection, "SELECT setting FROM pg_settings WHERE name = 'data_directory'")
    return str(rows[0][0]) if rows and rows[0][0] else None


def words_of(error: BaseException) -> str:
    """Return the first line that the server said."""
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    return re.sub(r"\s+", " ", str(primary or cause)).strip()


def is_superuser(connection: Connection) -> bool:
    """Return whether our account is one."""
    return bool(ask(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0])
