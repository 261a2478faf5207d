"""Which tables may not even be read; nothing is opened to find out."""

from __future__ import annotations

from maintenance.engines.messages import msg

from .. import structure
from ..connection import Session
from ..diagnosis.error_log import log_suspects
from ..names import canonical, full
from ..target import Server
from .innodb_pages import only_indexes, verify_pages


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


def spared_tables(server: Server) -> dict[str, str]:
    """`unreadable_tables` as they were seen last; looks where nobody has."""
    return unreadable_tables(server) if server.spared is None else server.spared


def unreadable_tables(server: Server) -> dict[str, str]:
    """Return the tables that nothing may read, with the reason: where one bad page would end the server, and where
    opening a table would repair it, which drops rows. Looks now."""
    server.spared = _unreadable(server, but_by_rows=False)
    return server.spared


def unreadable_rows(server: Server) -> dict[str, str]:
    """Return those of them of which not even the rows may be read one after the other, indexes left alone: a scan of
    the rows never meets the bad page of a secondary index. Looks now."""
    return _unreadable(server, but_by_rows=True)


def _unreadable(server: Server, but_by_rows: bool) -> dict[str, str]:
    if server.capabilities.repairs_on_open:
        with server.session("looking for crashed tables in") as session:
            return _crashed(server, session)
    if not server.capabilities.reading_damage_kills:
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
