"""The server's error codes and the programs' messages, in the words of `engines.errors`."""

from __future__ import annotations

import re

import psycopg2
from sqlalchemy.exc import PendingRollbackError

from ..errors import AccessDenied, Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unable, Unreachable

BY_CODE: dict[str, type[EngineError]] = {
    "XX001": Damaged,  # data_corrupted
    "XX002": Damaged,  # index_corrupted
    "XX000": Damaged,  # internal_error: what a damaged page or catalog shows itself as
    "58P01": Damaged,  # undefined_file: a relation's file is missing
    "58030": Damaged,  # io_error
    "42501": AccessDenied,
    "57014": Transient,  # query_canceled, also by a timeout
    "57P01": Transient,  # admin_shutdown
    "57P02": Transient,
    "57P03": Transient,  # cannot_connect_now
    "57P04": Unreachable,  # database_dropped
    "55P03": Transient,  # lock_not_available
    "55006": Transient,  # object_in_use
    "3D000": Unreachable,  # no such database
    "0A000": Unable,
    "42883": Unable,  # function of an extension or a newer version
    "42P11": Unable,  # invalid_cursor_definition: a question that is none
    "58000": ResourceShortage,
}
"""https://www.postgresql.org/docs/current/errcodes-appendix.html"""

BY_CLASS: dict[str, type[EngineError]] = {
    "08": Transient,
    "25": Unable,
    "28": AccessDenied,
    "40": Transient,
    "53": ResourceShortage,
    "23": Damaged,  # a constraint is contradicted by the rows
}

BY_WORDS: tuple[tuple[str, type[EngineError]], ...] = (
    (
        r"password authentication failed|no password supplied|pg_hba|permission denied|not permitted to log in",
        AccessDenied,
    ),
    (r"role .* does not exist|must be (superuser|owner)|authentication failed", AccessDenied),
    (r"row-level security", AccessDenied),
    (
        r"No space left|disk full|Disk quota|too many connections|too many clients|connection slots|out of memory",
        ResourceShortage,
    ),
    (r"invalid page|could not read block|page verification failed|missing chunk|unexpected chunk", Damaged),
    (r"invalid memory alloc|compressed .*corrupt|could not access status|could not open file|checksum error", Damaged),
    (r"could not open relation|unexpected data beyond|cache lookup failed", Damaged),
    (
        r"starting up|in recovery mode|shutting down|closed the connection|terminating connection|statement timeout",
        Transient,
    ),
    (r"lock timeout", Transient),
    (r"could not be started", Unable),
)
"""Connecting, and the native programs, give words without a code."""


ENDING = {"57P01", "57P02", "57P03", "08000", "08003", "08006"}
"""Codes of the server's end, of a start that is not over, and of connections that broke."""

UNIQUE_VIOLATION = "23505"
OBJECT_IN_USE = "55006"


def lost(error: BaseException | None) -> bool:
    """Return whether the session is gone: the server ended it, or ended itself."""
    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and getattr(
        error, "pgcode", None
    ) in (
        None,
        "57P01",
        "57P02",
    )


def code_of(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of a driver's error, or of the one that ours was made from; None where it gave none."""
    while error is not None:
        code = getattr(getattr(error, "orig", error), "pgcode", None)
        if code:
            return str(code)
        error = error.__cause__
    return None


def session_lost(error: EngineError) -> bool:
    """Return whether it ended the session, or none could be begun, whatever the words."""
    cause = error.__cause__
    return (
        isinstance(error, Unreachable)
        or isinstance(cause, PendingRollbackError)
        or lost(getattr(cause, "orig", cause))
        or code_of(error) in ENDING
    )


def by_words(words: str, otherwise: type[EngineError]) -> type[EngineError]:
    """Return the error that a message without a code means."""
    for pattern, kind in BY_WORDS:
        if re.search(pattern, words):
            return kind
    return otherwise


def by_code(code: str | None, words: str, otherwise: type[EngineError] = EngineError) -> type[EngineError]:
    """Return the error that a server's code means; by its words when it gave no code."""
    if not code:
        return by_words(words, otherwise)
    return BY_CODE.get(code) or BY_CLASS.get(code[:2]) or otherwise


def from_driver(error: BaseException, doing: str, object: str, *, stopping: bool, connecting: bool) -> EngineError:
    """`stopping`: we asked the server to end it ourselves. `connecting`: no session existed yet."""
    code = getattr(error, "pgcode", None)
    words = str(error)
    if stopping and code in (None, "57014", "57P01"):
        return Interrupted(doing, object, "stopped on request")
    kind = by_code(code, words, Unreachable if connecting else Transient if lost(error) else EngineError)
    return kind(doing, object, words)
