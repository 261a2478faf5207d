"""The work itself: rebuild, analyze, check and repair; each judged by its result rows and its effect."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unable, Unreachable
from ..messages import msg, size
from ..parts import Actions
from ..values import Action, Fingerprint, Performed, Progress
from . import planning, structure
from .connection import Row, Session
from .driver_errors import DEADLOCK
from .filenames import from_file
from .fingerprints import read_whole
from .names import canonical, full, plain
from .repair.corruption import spared_tables, unreadable_tables
from .repair.innodb_pages import BadPage, bad_pages, only_indexes
from .repair.myisam import repair_files
from .repair.salvage import replaced_already, salvage
from .structure import Table
from .table_rules import set_aside
from .target import Server
from .verification import EXTENDED_BYTES, check_table

DEADLOCK_ATTEMPTS = 5


class ServerActions(Actions):
    """Work on one table at a time, and what the server says of it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        """See Actions.perform. Every statement here may be said again after a crash."""
        table = _table(self.server, action.object)
        self.server.purge_awaited = False
        if action.kind == planning.CHECK_AND_REPAIR:
            return check_and_repair(self.server, table, allow_data_loss)
        if why := spared_tables(self.server).get(table.name):
            if self.server.capabilities.repairs_on_open:
                raise Damaged("performing", action.object, msg("{why}; a repair keeps its files first", why=why))
            _need_index_damage_only(self.server, table, why)
        if action.kind == planning.ANALYZE:
            return analyze(self.server, table)
        if action.kind == planning.REBUILD:
            return rebuild(self.server, table)
        raise Unable("performing", action.object, msg("unknown action {action}", action=action.kind))

    def progress(self) -> list[Progress]:
        """See Actions.progress. In-place rebuilds move no figure of the processlist; performance_schema may."""
        running = {number: one for number, one in self.server.running_sessions().items() if one.busy}
        if not running:
            return []
        found = []
        with self.server.session("looking at the work in hand of") as session:
            shares = _stage_shares(session)
            for row in session.ask("SHOW FULL PROCESSLIST"):
                one = running.get(int(row[0]))
                if one is not None and one.object != self.server.schema and plain(one.object):
                    share = shares.get(int(row[0]))
                    if share is None and len(row) > 8 and row[8]:
                        share = min(1.0, float(row[8]) / 100)
                    found.append(Progress(one.object, share, one.statement, str(row[6] or ""), float(row[5] or 0)))
        return found


def _table(server: Server, name: str) -> Table:
    with server.session("looking for", name) as session:
        found = structure.chosen(structure.tables(session, server.schema), [name])
    if not found:
        raise Unable("performing", name, "there is no such table")
    return found[0]


def analyze(server: Server, table: Table) -> Performed:
    """Renews the statistics; not replicated, since replicas have their own."""
    name = canonical(table.name)
    with server.session("analyzing", name, limited=False) as session:
        rows = server.admin(session, f"ANALYZE NO_WRITE_TO_BINLOG TABLE {full(server.schema, table.name)}")
        server.accept(rows, "analyzing", name)
    return Performed(msg("Statistics of {table} are fresh", table=name), None, None)


def rebuild(server: Server, table: Table) -> Performed:
    """Write the table anew with all its indexes. Seen by a new InnoDB table id. Raises EngineError."""
    name = canonical(table.name)
    before = measured(server, table)
    with server.session("rewriting", name, limited=False) as session:
        set_aside(server, session)
        old = table_ids(server, session, table.name)
        stored = _computes_again(server, session, table)
        if table.transactional or stored:
            server.accept(_optimized(server, session, table), "rewriting", name)
        if not (table.transactional or stored) or (old and table_ids(server, session, table.name) & old):
            # Other engines call an unbroken table "up to date"; InnoDB with
            # innodb_optimize_fulltext_only=ON rewrites nothing.
            _only_here(session)
            server.admin(session, f"ALTER TABLE {full(server.schema, table.name)} FORCE")
        if server.spared is not None:
            server.spared.pop(table.name, None)
        if old and table_ids(server, session, table.name) & old:
            raise EngineError("rewriting", name, "the server reported success but the table was not rewritten")
    after = measured(server, table)
    return Performed(
        msg(
            "{table} was written anew: {before} before, {after} after",
            table=name,
            before=size(before),
            after=size(after),
        ),
        before,
        after,
    )


def _computes_again(server: Server, session: Session, table: Table) -> bool:
    """Whether ALTER TABLE … FORCE would compute stored columns anew: of MyISAM and Aria, under our time zone and mode
    instead of those of who wrote the row. OPTIMIZE leaves what is stored."""
    columns = () if table.transactional else structure.columns(session, server.schema, table.name)
    return any("STORED GENERATED" in column.extra or "PERSISTENT" in column.extra for column in columns)


def _optimized(server: Server, session: Session, table: Table) -> list[Row]:
    """Asked again where the server gave way: two tables with a foreign key between them, rewritten at once, lock each
    other in different orders. Nothing was done then."""
    for _ in range(DEADLOCK_ATTEMPTS):
        rows = server.admin(session, f"OPTIMIZE NO_WRITE_TO_BINLOG TABLE {full(server.schema, table.name)}")
        if not any(DEADLOCK in str(row[3]) for row in rows):
            break
    return rows


def measured(server: Server, table: Table) -> int | None:
    """Data and indexes now."""
    with server.session("measuring", canonical(table.name)) as session:
        found = structure.sizes(server, session, [table], server.schema).get(table.name)
    return found.bytes if found and found.known else None


def table_ids(server: Server, session: Session, table: str) -> set[int]:
    """InnoDB's internal ids of the table and its partitions; a rewritten table has new ones. Empty: cannot tell."""
    try:
        rows = session.ask(f"SELECT name, table_id FROM information_schema.{server.capabilities.innodb_tables}")
    except DBAPIError:
        return set()
    wanted = (server.schema, table)
    return {
        int(number)
        for name, number in rows
        if (from_file(str(name).partition("/")[0]), from_file(str(name).partition("/")[2].split("#")[0])) == wanted
    }


def _only_here(session: Session) -> None:
    """A rewrite changes no row: replicas need not do it too, where we may say so."""
    with suppress(DBAPIError):
        session.ask("SET SESSION sql_log_bin = 0")


def check_and_repair(server: Server, table: Table, allow_data_loss: bool) -> Performed:
    """Reads, checks, and repairs only what needs it; checks again at the end. Raises Damaged."""
    if not table.transactional:
        try:
            return repair_files(server, table, allow_data_loss)
        finally:
            server.spared = None  # whether it is marked crashed has to be looked at again
    name = canonical(table.name)
    with server.session("looking at", name) as session:
        exchanged = replaced_already(server, session, table.name)
    if exchanged:
        # A salvage got as far as the exchange; what comes after it may still be missing.
        return salvage(server, table, allow_data_loss)
    before = measured(server, table)
    if server.capabilities.reading_damage_kills and (why := unreadable_tables(server).get(table.name)):
        if allow_data_loss and not only_indexes(_bad_pages(server, table) or ()):
            return salvage(server, table, allow_data_loss)
        _need_index_damage_only(server, table, why)
        # The rebuild reads the rows alone, not the index pages: it mends an index without touching it.
        done = rebuild(server, table)
        _approved(server, table)
        return Performed(msg("{table} was suspect and was rebuilt", table=name), before, done.bytes_after)
    rows = _readable(server, table)
    if rows is None:
        # Salvage comes before CHECK: once CHECK has seen a bad page of rows, nothing can be read any more.
        return salvage(server, table, allow_data_loss)
    complaint = _complaint(server, table)
    if complaint is None:
        return Performed(msg("{table} is sound, {rows:,} rows", table=name, rows=rows.rows), before, before)
    rebuild(server, table)
    _approved(server, table)
    again = _readable(server, table)
    if again != rows:
        raise Damaged(
            "repairing",
            name,
            msg("rows differ after the rebuild: {rows} before, {again} after", rows=rows, again=again),
        )
    return Performed(
        msg(
            "Indexes of {table} were damaged ({complaint}) and were rebuilt; all {rows:,} rows are there",
            table=name,
            complaint=complaint,
            rows=rows.rows,
        ),
        before,
        measured(server, table),
    )


def _need_index_damage_only(server: Server, table: Table, why: str) -> None:
    """Raises Damaged when a page with rows may be bad: reading it would end the server, a rebuild too."""
    bad = _bad_pages(server, table)
    if bad is None or not only_indexes(bad):
        words = msg(
            "{words}. Restore it from a backup; or allow the loss of data, then all other rows are saved; or start the"
            " server with innodb_force_recovery=1, dump the table, drop it, start the server normally and load the"
            " dump: rows of the bad pages may be wrong or missing",
            words=why,
        )
        raise Damaged("repairing", canonical(table.name), words)


def _bad_pages(server: Server, table: Table) -> tuple[BadPage, ...] | None:
    """None where its file cannot be judged."""
    with server.session("looking at the pages of", canonical(table.name)) as session:
        return bad_pages(server, session, server.schema, table)


def _readable(server: Server, table: Table) -> Fingerprint | None:
    """Every row, read through the clustered index; None when a row cannot be read."""
    try:
        with server.session("reading", canonical(table.name)) as session:
            return read_whole(session, server.schema, table)
    except Damaged:
        return None


def _complaint(server: Server, table: Table) -> str | None:
    """What CHECK TABLE says against the table, None when it is sound."""
    found = measured(server, table) or 0
    try:
        check_table(server, table, extended=server.capabilities.check_compares_indexes and found <= EXTENDED_BYTES)
    except (Interrupted, Transient, Unreachable, ResourceShortage):
        raise
    except EngineError as error:
        return error.words
    return None


def _approved(server: Server, table: Table) -> None:
    complaint = _complaint(server, table)
    if complaint is not None:
        raise Damaged(
            "repairing", canonical(table.name), msg("still damaged after the rebuild: {complaint}", complaint=complaint)
        )


def _stage_shares(session: Session) -> dict[int, float]:
    try:
        rows = session.ask(
            "SELECT t.processlist_id, e.work_completed / e.work_estimated"
            " FROM performance_schema.events_stages_current e"
            " JOIN performance_schema.threads t USING (thread_id) WHERE e.work_estimated > 0"
        )
    except DBAPIError:
        return {}
    return {int(number): min(1.0, float(share)) for number, share in rows}
