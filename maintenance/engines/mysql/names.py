"""Names of tables, schemas and accounts: how people write them, and how SQL does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy.dialects.mysql.base import MySQLDialect
from sqlalchemy.dialects.mysql.reserved_words import RESERVED_WORDS_MARIADB, RESERVED_WORDS_MYSQL

# "named": the dialect's own parameter style would double percent signs inside names.
_preparer = MySQLDialect(paramstyle="named").identifier_preparer
# One canonical name for a table, whichever product it lives in today.
_preparer.reserved_words = RESERVED_WORDS_MYSQL | RESERVED_WORDS_MARIADB


def quoted(name: str) -> str:
    """One identifier as SQL, always in back-ticks."""
    return str(_preparer.quote_identifier(name))


def canonical(table: str) -> str:
    """The name shown and stored: quoted only where SQL would need it. The schema is the target's."""
    return str(_preparer.quote(table))


def plain(name: str) -> str:
    """The table behind a canonical name."""
    if len(name) > 1 and name[0] == name[-1] == "`":
        return name[1:-1].replace("``", "`")
    return name


def full(schema: str, table: str) -> str:
    return f"{quoted(schema)}.{quoted(table)}"


def bindable(sql: str) -> str:
    """Text of names for a statement that has bound values too, where a percent sign means a value."""
    return sql.replace("%", "%%")


def account(user: str, host: str) -> str:
    """An account as people write it."""
    return f"{user}@{host}"


def shortened(name: str) -> str:
    """Ten characters that stand for a name where the server limits the length."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def spellings(schema: str, tables: Iterable[str]) -> dict[str, list[str]]:
    """Return what people may call each of the tables -> its canonical name."""
    return {
        spelling: [canonical(table)]
        for table in tables
        for spelling in (
            f"{quoted(schema)}.{quoted(table)}",
            f"{canonical(schema)}.{canonical(table)}",
            f"{schema}.{table}",
            quoted(table),
            canonical(table),
            table,
        )
    }
