"""Tables that the server or their own files call damaged; nothing is opened to find out."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from ...messages import Message, msg
from ...values import Finding
from .. import structure
from ..connection import Session
from ..filenames import from_file
from ..names import canonical
from ..repair.innodb_pages import Verdict
from ..structure import Size, Table
from ..target import Server
from .error_log import log_suspects


def damage_findings(
    server: Server, session: Session, chosen: Sequence[Table], measured: dict[str, Size], verdict: Verdict
) -> dict[str, Finding]:
    """Tables that the server or their own files call damaged; nothing is opened to find out."""
    found: dict[str, Finding] = {}
    folder = server.data_folder(session)
    for name, bad in verdict.damaged.items():
        found[name] = _damaged(name, "damaged_page", bad[0].told(canonical(name)))
    for table in chosen:
        comment = measured[table.name].comment if table.name in measured else ""
        if structure.marked_crashed(folder, server.schema, table) or "marked as crashed" in comment:
            found[table.name] = _damaged(
                table.name, "crashed_table", msg("{table} is marked as crashed", table=canonical(table.name))
            )
    for name, line in log_suspects(server, session, measured).items():
        if any(table.name == name for table in chosen):
            found.setdefault(name, _damaged(name, "damaged_page", msg("The server's log says: {line}", line=line)))
    for name, index in _flagged_indexes(server, session):
        if any(table.name == name for table in chosen):
            found.setdefault(
                name,
                _damaged(
                    name,
                    "corrupt_index",
                    msg("The server has marked index {index} of {table} corrupt", index=index, table=canonical(name)),
                ),
            )
    return found


def _damaged(table: str, code: str, evidence: Message) -> Finding:
    return Finding(
        code,
        "critical",
        canonical(table),
        evidence,
        msg("A disk or memory fault, or a server that died while writing; check the hardware too"),
    )


def _flagged_indexes(server: Server, session: Session) -> list[tuple[str, str]]:
    if server.capabilities.flagged_indexes_sql is None:
        return []
    try:
        rows = session.ask(server.capabilities.flagged_indexes_sql)
    except DBAPIError:
        return []
    found = []
    for name, index in rows:
        schema, _, table = str(name).partition("/")
        if from_file(schema) == server.schema:
            found.append((from_file(structure.PARTITION.split(table)[0]), str(index)))
    return found
