"""Maintenance itself.

The server reports success for work that it skipped, so every action is verified by its effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import Damaged, EngineError, Unable
from ..messages import listed, msg, size
from ..parts import Actions
from ..values import Action, Performed, Progress
from .capabilities import Capabilities
from .driver_errors import UNIQUE_VIOLATION, code_of
from .fingerprints import PINNED, fingerprint_of
from .least_account import UNKNOWN_NAMES, usual_path
from .maintenance_lock import PostgresLock
from .relations import Relation, relations
from .repair.collations import Collations
from .repair.duplicates import duplicates
from .repair.lost_pages import lost_pages
from .repair.salvage import Salvage
from .repair.system_catalogs import SystemCatalogs
from .sequences import OWNED_SEQUENCES, sequence_behind
from .sql import ask, canonical, configure, quoted, transaction
from .structure import Structure, drop_extension, extension
from .target import TargetDatabase

ADVICE = msg("run a repair that is allowed to lose data, or restore these rows from an older backup")


class PostgresActions(Actions):
    """Performs one action at a time in each thread."""

    def __init__(
        self,
        target: TargetDatabase,
        lock: PostgresLock,
        structure: Structure,
        catalogs: SystemCatalogs,
    ) -> None:
        self.target, self.lock, self.structure, self.catalogs = target, lock, structure, catalogs
        self.collations = Collations(target)
        self.salvage = Salvage(target, structure)

    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        """See Actions.perform."""
        kinds: dict[str, Callable[[Action], Performed]] = {
            "vacuum_full": self._vacuum_full,
            "vacuum": self._vacuum,
            "analyze": self._analyze,
            "reindex": self._reindex,
            "drop_index": self._drop_index,
            "set_sequences": self._set_sequences,
            "reset_visibility": self._reset_visibility,
            "refresh_collation": self.collations.refresh,
            "rebuild_system_indexes": self.catalogs.rebuild_indexes,
            "renew_statistics": self.catalogs.renew_statistics,
            "read_test": self._read_test,
            "salvage": self.salvage.perform,
        }
        if action.kind not in kinds:
            raise Unable("performing", action.object, msg("unknown action {action}", action=action.kind))
        if action.kind == "salvage" and not allow_data_loss:
            raise Damaged(
                "reading",
                action.object,
                msg("{reason}; only a salvage that may lose rows would help", reason=action.reason),
            )
        self.lock.reacquire()
        return kinds[action.kind](action)

    def progress(self) -> list[Progress]:
        """See Actions.progress."""
        try:
            with self.target.session("asking for progress") as connection:
                rows = ask(connection, progress_sql(self.target.capabilities), mine=self.target.tag.session)
        except EngineError:
            return []
        return [
            Progress(
                canonical(schema, table) if table else "",
                max(0.0, min(1.0, float(share))) if share is not None else None,
                statement,
                phase or "",
                float(seconds),
                tuple(blockers or ()),
            )
            for schema, table, statement, phase, share, seconds, blockers in rows
        ]

    # -- actions -----------------------------------------------------------------------------------

    def _vacuum_full(self, action: Action) -> Performed:
        with self.target.session("rewriting", action.object) as connection:
            self._make_room(connection, action)
            relation = relation_of(connection, action)
            before, node = relation.bytes, filenode(connection, relation.oid)
            statement = f"VACUUM (FULL) {relation.name}"
            warning = self._unique(action, relation, lambda: self._run(connection, action, statement))
            if filenode(connection, relation.oid) == node:
                words = warning or "the server says done, but the table still lies in the same file"
                raise Unable("rewriting", action.object, words)
            after = total_bytes(connection, relation.oid)
        return Performed(
            msg(
                "Rewrote {table}: {before} became {after}", table=action.object, before=size(before), after=size(after)
            ),
            before,
            after,
        )

    def _vacuum(self, action: Action) -> Performed:
        with self.target.session("cleaning", action.object) as connection:
            self._make_room(connection, action)
            relation = relation_of(connection, action)
            self._counted(connection, relation, action, f"VACUUM (ANALYZE) {relation.name}", "vacuum_count")
            self.structure.cleaned.add(relation.name)
            after = total_bytes(connection, relation.oid)
        return Performed(msg("Cleaned and analyzed {table}", table=action.object), relation.bytes, after)

    def _analyze(self, action: Action) -> Performed:
        with self.target.session("analyzing", action.object) as connection:
            relation = relation_of(connection, action)
            self._counted(connection, relation, action, f"ANALYZE {relation.name}", "analyze_count")
            after = total_bytes(connection, relation.oid)
        return Performed(msg("Took new statistics of {table}", table=action.object), relation.bytes, after)

    def _reindex(self, action: Action) -> Performed:
        with self.target.session("building the indexes anew of", action.object) as connection:
            self._make_room(connection, action)
            relation = relation_of(connection, action)
            before = index_nodes(connection, relation.oid)
            statement = f"REINDEX TABLE {relation.name}"
            warning = self._unique(action, relation, lambda: self._run(connection, action, statement))
            after = index_nodes(connection, relation.oid)
            stale = [name for name, (node, valid, _) in after.items() if not valid or node == before[name][0]]
            if stale:
                raise Unable(
                    "building the indexes anew of",
                    action.object,
                    warning or msg("{names} stayed as it was", names=", ".join(stale)),
                )
        was, now = (sum(size_ for _, _, size_ in nodes.values()) for nodes in (before, after))
        return Performed(
            msg(
                "Built {count} indexes of {table} anew: {before} became {after}",
                count=len(after),
                table=action.object,
                before=size(was),
                after=size(now),
            ),
            was,
            now,
        )

    def _drop_index(self, action: Action) -> Performed:
        """Only one that is still not valid; gone already is fine."""
        with self.target.session("dropping", action.object) as connection:
            rows = ask(
                connection,
                """SELECT n.nspname, i.relname, pg_relation_size(i.oid), x.indisvalid FROM pg_index x
                   JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace""",
            )
            found = [row for row in rows if canonical(row[0], row[1]) == action.object]
            if not found:
                return Performed(msg("Index {index} is gone already", index=action.object), None, 0)
            if found[0][3]:
                raise Unable("dropping", action.object, "the index is valid by now")
            ask(connection, f"DROP INDEX {canonical(found[0][0], found[0][1])}")
        return Performed(msg("Dropped the unfinished index {index}", index=action.object), int(found[0][2]), 0)

    def _set_sequences(self, action: Action) -> Performed:
        done: list[str] = []
        with self.target.session("setting the sequences of", action.object) as connection:
            for row in ask(connection, OWNED_SEQUENCES):
                wanted = canonical(row[0], row[1]) == action.object
                behind = sequence_behind(connection, row) if wanted else None
                if behind:
                    sequence = canonical(behind[3], behind[4])
                    [(now,)] = ask(
                        connection, "SELECT setval(%(oid)s::regclass, %(value)s)", oid=row[5], value=behind[6]
                    )
                    done.append(f"{sequence} = {now}")
                    if sequence_behind(connection, row):
                        raise Unable("setting", sequence, "it still stands behind its column")
        if not done:
            return Performed(msg("The sequences of {table} are right already", table=action.object), None, None)
        return Performed(msg("Set {sequences}", sequences=", ".join(done)), None, None)

    def _read_test(self, action: Action) -> Performed:
        """Read every value. Raises Damaged when that fails."""
        try:
            with self.target.session("reading", action.object, settings=PINNED) as connection:
                relation = relation_of(connection, action)
                whole = pages_whole(connection, relation)
                emptied, _ = lost_pages(self.target, [relation], 600)
                found = fingerprint_of(connection, relation.name, relation.reader)
        except EngineError as error:
            if error.kind in ("integrity", "transient"):
                raise Damaged(
                    "reading", action.object, msg("{words}; {advice}", words=error.words, advice=ADVICE)
                ) from error
            raise
        if emptied:
            raise Damaged("reading", action.object, msg("{words}; {advice}", words=emptied[0].words, advice=ADVICE))
        if not whole or str(action.reason.values.get("fault")) != "None":
            # It reads, yet its structure was found faulty: rows may be absent without any error.
            examined = self.structure.examine([relation.name], 600, deep=True)
            faults = [x.fault for x in examined if x.fault and not x.part.index]
            if faults or not whole:
                raise Damaged(
                    "reading",
                    action.object,
                    msg(
                        "{words}; {advice}",
                        words=listed(map(str, faults)) or msg("a part of its file is missing"),
                        advice=ADVICE,
                    ),
                )
        return Performed(
            msg("Read all {rows:,} rows of {table}", rows=found.rows or 0, table=action.object), None, None
        )

    # -- how ---------------------------------------------------------------------------------------

    def _make_room(self, connection: Connection, action: Action) -> None:
        """256 MB: more did not make rebuilds faster. Parallel workers only for a table that outweighs the rest:
        with several tables, sessions beside each other gain more than workers inside one."""
        [(whole,)] = ask(connection, "SELECT pg_database_size(current_database())")
        dominant = action.bytes * 2 > int(whole)
        memory = max(32, min(256, self.target.limits.memory_mb // max(1, 4 * self.target.limits.jobs)))
        room = {
            "maintenance_work_mem": f"{memory}MB",
            "max_parallel_maintenance_workers": max(0, self.target.limits.jobs - 1) if dominant else 0,
            "vacuum_cost_delay": 0,
        }
        configure(connection, room)

    def _run(self, connection: Connection, action: Action, statement: str) -> str | None:
        """Run it with the plain driver, which keeps what SQLAlchemy drops: the first warning of the server, or None.

        With a warning the server tells that it skipped the work, but its words are of any language: whether the work
        was done is told by its effect.
        """
        driver = connection.connection.driver_connection
        assert driver is not None
        configure(connection, {"client_min_messages": "warning"})
        with self.target.translated(action.kind.replace("_", " "), action.object):
            del driver.notices[:]
            with driver.cursor() as cursor:
                try:
                    cursor.execute(statement)
                except psycopg2.Error as error:
                    if self.target.capabilities.fixed_path or error.pgcode not in UNKNOWN_NAMES:
                        raise
                    # A function of an index counts on the usual path of names; the server runs it as the owner.
                    configure(connection, {"search_path": f"pg_catalog, {usual_path(connection)}, pg_temp"})
                    cursor.execute(statement)
                    cursor.execute("RESET search_path")
            return " ".join(str(driver.notices[0]).split()) if driver.notices else None

    def _unique(self, action: Action, relation: Relation, work: Callable[[], str | None]) -> str | None:
        """Do what builds indexes, return its warning. Raises Damaged with the keys that contradict a unique index."""
        try:
            return work()
        except Damaged as error:
            if code_of(error) != UNIQUE_VIOLATION:
                raise
            with self.target.session("looking for equal keys in", action.object, settings=PINNED) as connection:
                found = duplicates(connection, relation)
            raise Damaged(error.doing, action.object, "; ".join(found) or error.words) from error

    def _reset_visibility(self, action: Action) -> Performed:
        """Forget which pages are wholly visible; the next cleaning finds out anew."""
        with self.target.session("resetting the visibility map of", action.object) as connection:
            relation = relation_of(connection, action)
            with transaction(connection):
                schema = extension(connection, "pg_visibility", self.target.tag.suffix)
                ask(connection, f"SELECT {schema}.pg_truncate_visibility_map(%(oid)s::regclass)", oid=relation.oid)
                drop_extension(connection, "pg_visibility", self.target.tag.suffix)
        if wrong := self.structure.invisible([relation.name], 600).get(relation.name):
            raise Damaged(
                "resetting the visibility map of",
                action.object,
                msg("{wrong} rows are still marked wrongly", wrong=wrong),
            )
        return Performed(msg("Reset the visibility map of {table}", table=action.object), None, None)

    def _counted(self, connection: Connection, relation: Relation, action: Action, statement: str, column: str) -> None:
        """Run it and see the server's own count of such runs go up. Where it counts nothing, a warning fails it."""
        with suppress(DBAPIError):  # Only a superuser may.
            configure(connection, {"track_counts": "on"})
        before = counted(connection, relation.oid, column)
        warning = self._run(connection, action, statement)
        if ask(connection, "SELECT current_setting('track_counts')")[0][0] != "on":
            if warning:
                raise Unable(action.kind, action.object, warning)
            return
        until = time.monotonic() + 5
        while counted(connection, relation.oid, column) <= before:
            # Before version 15 the counts arrive a moment later.
            if time.monotonic() > until:
                raise Unable(action.kind, action.object, warning or "the server says done, but did not count it")
            time.sleep(0.1)


def relation_of(connection: Connection, action: Action) -> Relation:
    """Return the table that the action names; its name is then the catalog's own, not the caller's text.

    Raises Unable.
    """
    found = relations(connection, [action.object])
    if not found:
        raise Unable("looking for", action.object, "there is no such table any more")
    return found[0]


def pages_whole(connection: Connection, relation: Relation) -> bool:
    """Return whether its file has all the pages that the catalog knows."""
    [(whole,)] = ask(
        connection,
        """SELECT relpersistence <> 'p'
            OR relpages <= pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class
          WHERE oid = %(oid)s""",
        oid=relation.oid,
    )
    return bool(whole)


def filenode(connection: Connection, oid: int) -> int:
    return int(ask(connection, "SELECT pg_relation_filenode(%(oid)s::regclass)", oid=oid)[0][0])


def total_bytes(connection: Connection, oid: int) -> int:
    """Return the bytes of a table with its indexes and long values."""
    return int(ask(connection, "SELECT pg_total_relation_size(%(oid)s::regclass)", oid=oid)[0][0])


def counted(connection: Connection, oid: int, column: str) -> int:
    rows = ask(connection, f"SELECT {quoted(column)} FROM pg_stat_all_tables WHERE relid = %(oid)s", oid=oid)
    return int(rows[0][0] or 0) if rows else 0


def index_nodes(connection: Connection, oid: int) -> dict[str, tuple[int, bool, int]]:
    """Return index -> (file, valid, bytes)."""
    rows = ask(
        connection,
        """SELECT n.nspname, i.relname, pg_relation_filenode(i.oid), x.indisvalid AND x.indisready,
               pg_relation_size(i.oid)
           FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
           WHERE x.indrelid = %(oid)s""",
        oid=oid,
    )
    return {
        canonical(schema, name): (int(node), bool(valid), int(bytes_ or 0))
        for schema, name, node, valid, bytes_ in rows
    }


def progress_sql(capabilities: Capabilities) -> str:
    """Return what our sessions run, since when, and who blocks them. Shares as the phases of the manual's chapter
    'Progress Reporting' allow; a phase without figures gives none."""
    parts = [
        """SELECT pid, relid, 'VACUUM' AS command, phase,
             CASE WHEN phase IN ('scanning heap', 'vacuuming heap') AND heap_blks_total > 0
             THEN heap_blks_scanned::float / heap_blks_total END AS share FROM pg_stat_progress_vacuum""",
        """SELECT pid, relid, 'REINDEX', phase, CASE WHEN blocks_total > 0 THEN blocks_done::float / blocks_total END
           FROM pg_stat_progress_create_index""",
        """SELECT pid, relid, command, phase, CASE WHEN phase = 'seq scanning heap' AND heap_blks_total > 0
           THEN heap_blks_scanned::float / heap_blks_total END FROM pg_stat_progress_cluster""",
    ]
    if capabilities.analyze_progress:
        parts.append(
            """SELECT pid, relid, 'ANALYZE', phase, CASE WHEN sample_blks_total > 0
               THEN sample_blks_scanned::float / sample_blks_total END FROM pg_stat_progress_analyze"""
        )
    if capabilities.copy_progress:
        parts.append(
            """SELECT pid, relid, command, type, CASE WHEN bytes_total > 0 THEN bytes_processed::float / bytes_total END
               FROM pg_stat_progress_copy"""
        )
    union = " UNION ALL ".join(parts)
    return f"""SELECT n.nspname, c.relname, a.query, p.phase, p.share,
                      extract(epoch FROM clock_timestamp() - a.query_start),
                      (SELECT array_agg(concat_ws(' ', 'pid ' || b.pid, b.usename, nullif(b.application_name, ''),
                                                  host(b.client_addr)) ORDER BY b.pid)
                       FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid)))
               FROM pg_stat_activity a LEFT JOIN ({union}) p ON p.pid = a.pid
               LEFT JOIN pg_class c ON c.oid = p.relid AND c.relkind IN ('r', 't', 'm')
               LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE a.datname = current_database() AND a.application_name = %(mine)s AND a.state = 'active'
                 AND a.pid <> pg_backend_pid() ORDER BY a.query_start"""
