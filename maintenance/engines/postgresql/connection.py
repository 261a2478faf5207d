"""A driver's connection to the server itself, under settings that nobody else decides."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg2
from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError, Unable
from ..messages import msg
from .own_schemas import SETTING

SAFE_PATH = "pg_catalog, pg_temp"
"""Where names without a schema are looked for: others may create in any other schema, and a function, an operator or
a type of theirs would be taken for the server's own. Temporary ones last, which by default come first."""

OWN = {
    "search_path": SAFE_PATH.replace(" ", ""),
    "row_security": "off",  # Policies are the owner's code: an error instead of running them, or of rows left out.
    "constraint_exclusion": "off",  # Planning a query would call functions of CHECK constraints.
    "default_transaction_read_only": "off",
    "default_transaction_isolation": r"read\ committed",
    "synchronous_commit": "local",  # A standby that is gone must not hold up the cut, or the opening.
    "idle_in_transaction_session_timeout": "0",
    SETTING: "{}",
    "jit": "off",  # Questions to a large catalog would be compiled for seconds.
}
"""For every session of ours, as libpq's `options` spells it: in force before the first statement, over what ALTER ROLE
and ALTER DATABASE say."""

OF_SUPERUSERS = {
    "session_replication_role": "replica",  # Neither triggers of the target nor its event triggers fire for us.
    "lc_messages": "C",
}
"""Besides these, where the account may set them. Until its first session has told, it may not."""


def spelled(settings: Mapping[str, object]) -> str:
    """As libpq's `options`."""
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def arguments_of(url: URL) -> dict[str, object]:
    """Return what the driver is called with."""
    _, arguments = url.get_dialect()().create_connect_args(url)
    return dict(arguments)


def connected(arguments: Mapping[str, Any], database: str) -> Any:
    """Return a driver's connection to the server itself, with the settings that were asked for in force.

    Whoever stands between us and the server drops them, or lends us another session for each transaction: a lock, a
    setting, or the end of our sessions would then be somebody else's. Raises Unable.
    """
    connection = psycopg2.connect(**arguments)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # Qualified, as the path may be anybody's still.
            cursor.execute("SELECT pg_catalog.current_setting('search_path'), pg_catalog.pg_backend_pid()")
            path, process = cursor.fetchone()
        if path != OWN["search_path"] or process != connection.info.backend_pid:
            raise Unable(
                "connecting to",
                database,
                msg(
                    "a pooler stands between the console and the server, and drops what every session of the console "
                    "is opened with; register the address of the server itself"
                ),
            )
    except BaseException:
        connection.close()
        raise
    return connection


def give_back(connection: Connection) -> None:
    """Close a session, also one whose line is lost: what its work brought counts, not that it cannot be closed."""
    with suppress(DBAPIError, psycopg2.Error):
        connection.close()


def silent(error: EngineError) -> bool:
    """Return whether nobody answered, so that asking for another database would wait as long again. The words are
    libpq's own, in the language of our process: English."""
    return "timeout expired" in error.words
