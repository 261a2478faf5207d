"""Keys that are missing, double or unused. Told, never dropped."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from .. import structure
from ..connection import Session
from ..names import canonical
from ..structure import Table
from ..target import Server

UNUSED_SECONDS = 86_400
"""A server that started lately calls every index unused."""


def key_findings(server: Server, session: Session, chosen: Sequence[Table]) -> list[Finding]:
    """Return findings about missing, duplicate and unused keys."""
    found = []
    for table in chosen:
        if server.capabilities.repairs_on_open and table.engine in structure.REPAIRABLE:
            continue  # asking for its indexes opens it
        name = canonical(table.name)
        keys = structure.indexes(session, server.schema, table.name)
        if table.transactional and not any(key.unique for key in keys):
            found.append(
                Finding(
                    "no_primary_key",
                    "low",
                    name,
                    msg("{table} has neither a primary key nor a unique index", table=name),
                    msg("Rows cannot be addressed one by one; salvage and replication suffer"),
                )
            )
        for key, wider in _redundant(keys):
            found.append(
                Finding(
                    "duplicate_index",
                    "low",
                    name,
                    msg("Index {index} of {table} is the beginning of {wider}", index=key, table=name, wider=wider),
                    msg("It costs on every write and helps no query; it is never dropped automatically"),
                )
            )
    return found


def unused_findings(server: Server, session: Session, chosen: Sequence[Table]) -> list[Finding]:
    """Indexes that nothing read; only where the server counts, and is up for a day."""
    uptime = int(session.ask("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1])
    if uptime < UNUSED_SECONDS:
        return []
    names = {table.name for table in chosen}
    return [
        Finding(
            "unused_index",
            "low",
            canonical(table),
            msg(
                "The server has counted no use of index {index} of {table}; it is up for {hours} hours",
                index=index,
                table=canonical(table),
                hours=uptime // 3600,
            ),
            msg("It may serve a report that runs once a month; it is never dropped automatically"),
        )
        for table, index in _unused(server, session, chosen)
        if table in names
    ]


def _unused(server: Server, session: Session, chosen: Sequence[Table]) -> list[tuple[str, str]]:
    """By performance_schema, or by MariaDB's user statistics; empty where neither is on."""
    try:
        if str(session.value("SELECT @@GLOBAL.performance_schema")) in ("1", "ON"):
            rows = session.ask(
                "SELECT object_name, index_name FROM sys.schema_unused_indexes WHERE object_schema = %(s)s",
                s=server.schema,
            )
            return [(str(table), str(index)) for table, index in rows]
        if session.ask("SHOW GLOBAL VARIABLES WHERE variable_name = 'userstat' AND value = 'ON'"):
            rows = session.ask(
                "SELECT table_name, index_name FROM information_schema.index_statistics WHERE table_schema = %(s)s",
                s=server.schema,
            )
            used = {(str(table), str(index)) for table, index in rows}
            every = [
                (table.name, index.name)
                for table in chosen
                if table.transactional
                for index in structure.indexes(session, server.schema, table.name)
                if not index.unique
            ]
            return [one for one in every if one not in used]
    except DBAPIError:
        pass
    return []


def _redundant(keys: Sequence[structure.Index]) -> list[tuple[str, str]]:
    """Indexes whose columns are the beginning of another's."""
    found = []
    for number, key in enumerate(keys):
        if key.unique or key.prefix or key.kind != "BTREE" or None in key.columns:
            continue
        for other_number, other in enumerate(keys):
            same = other.columns == key.columns
            starts = other.columns[: len(key.columns)] == key.columns
            comparable = other is not key and other.kind == "BTREE" and not other.prefix and starts
            if comparable and (not same or other.unique or other_number < number):
                found.append((key.name, other.name))
                break
    return found
