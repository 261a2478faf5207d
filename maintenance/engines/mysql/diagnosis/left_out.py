"""What a run cannot work on, by name: it is left as it is, and the rest is done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from ...messages import msg
from ...values import Finding
from .. import structure
from ..connection import Row, Session
from ..names import canonical
from ..structure import Table
from ..target import Server


def left_out_findings(server: Server, session: Session, chosen: Sequence[Table]) -> list[Finding]:
    """Views that answer nothing, tables of other servers' rows, histories that no dump keeps, prepared transactions."""
    found = [*_views(server, session), *_remote(server, session), *_histories(server, session, chosen)]
    return found + _prepared(session)


def _views(server: Server, session: Session) -> list[Finding]:
    return [
        Finding(
            "broken_view",
            "medium",
            canonical(name),
            msg("The view {view} answers nothing: {words}", view=canonical(name), words=words),
            msg("What it refers to is gone or was changed, or so is its definer; it is left as it is"),
        )
        for name, words in structure.broken_views(session, server.schema).items()
    ]


def _remote(server: Server, session: Session) -> list[Finding]:
    return [
        Finding(
            "remote_table",
            "low",
            canonical(table.name),
            msg(
                "{table} shows the rows of another server ({engine})", table=canonical(table.name), engine=table.engine
            ),
            msg("It holds no row here; it is neither read nor backed up nor rebuilt"),
        )
        for table in structure.remote_tables(session, server.schema)
    ]


def _histories(server: Server, session: Session, chosen: Sequence[Table]) -> list[Finding]:
    return [
        Finding(
            "history_by_transaction",
            "high",
            canonical(table.name),
            msg("{table} keeps its history by numbers of transactions", table=canonical(table.name)),
            msg("No dump keeps those numbers, so no run that could have to restore it begins"),
        )
        for table in structure.by_transaction(session, server.schema, chosen)
    ]


def _prepared(session: Session) -> list[Finding]:
    rows: list[Row] = []
    with suppress(DBAPIError):
        rows = session.ask("XA RECOVER")
    if not rows:
        return []
    hint = msg(
        "They keep their locks without a session, and no rebuild of their tables gets through; XA RECOVER names them,"
        " XA COMMIT or XA ROLLBACK ends them"
    )
    evidence = msg("{count} distributed transactions are prepared and not ended", count=len(rows))
    return [Finding("prepared_transaction", "high", "", evidence, hint)]
