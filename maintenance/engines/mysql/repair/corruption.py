"""Which tables are damaged, and which may not even be read; nothing is opened to find out."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Finding

from .. import structure
from ..connection import Session
from ..diagnosis.error_log import log_suspects
from ..filenames import from_file
from ..names import canonical, full
from ..server import Server
from ..structure import Size, Table
from .innodb_pages import Verdict, only_indexes, verify_pages


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
    if server.flagged_indexes_sql is None:
        return []
    try:
        rows = session.ask(server.flagged_indexes_sql)
    except DBAPIError:
        return []
    found = []
    for name, index in rows:
        schema, _, table = str(name).partition("/")
        if from_file(schema) == server.schema:
            found.append((from_file(structure.PARTITION.split(table)[0]), str(index)))
    return found


def _crashed(server: Server, session: Session) -> dict[str, str]:
    """Tables with the crashed mark. Where the files are out of reach the server is asked, by CHECK, which repairs
    nothing; the other ways to ask it open the table first."""
    found: dict[str, str] = {}
    folder = server.data_folder(session)
    for table in structure.tables(session, server.schema):
        if table.engine not in structure.MARKS:
            continue
        marked = structure.marked_crashed(folder, server.schema, table)
        if marked is None:
            rows = session.ask(f"CHECK TABLE {full(server.schema, table.name)} FAST QUICK")
            marked = any("crashed" in str(row[3]) or str(row[3]) == "Corrupt" for row in rows)
        if marked:
            found[table.name] = REPAIRED_WHEN_READ
    return found


REPAIRED_WHEN_READ = msg("marked as crashed: reading it would make the server repair it and drop rows")


def unreadable_tables(server: Server, but_by_rows: bool = False) -> dict[str, str]:
    """Tables that must not be read, with the reason: where one bad page would end the server, and where opening a
    table would repair it, which drops rows.

    `but_by_rows`: without those of which only pages of secondary indexes are bad, which a scan of the rows never meets.
    """
    if server.repairs_on_open:
        with server.session("looking for crashed tables in") as session:
            return _crashed(server, session)
    if not server.reading_damage_kills:
        return {}
    with server.session("reading the log of") as session:
        chosen = structure.tables(session, server.schema)
        measured = structure.sizes(server, session, chosen, server.schema)
        verdict = verify_pages(server, session, chosen, measured)
        evidence: dict[str, str] = {
            name: line
            for name, line in log_suspects(server, session, measured).items()
            if name not in verdict.sound  # what the log says is of an earlier time
        }
        evidence.update({name: bad[0].told(canonical(name)) for name, bad in verdict.damaged.items()})
        if but_by_rows:
            for name, bad in verdict.damaged.items():
                if only_indexes(bad):
                    del evidence[name]
        words = "not read, because reading a bad page would end the server"
        return {name: f"{words}: {why}" for name, why in evidence.items()}
