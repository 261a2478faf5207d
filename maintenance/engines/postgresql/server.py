"""The server and our way to it: sessions, names, who it is, whose turn it is, and how we stop."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy import Engine as Door
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ...commands import CommandFailed, CommandStopped
from ..base import Engine
from ..errors import EngineError, Interrupted, Transient, Unreachable
from ..values import Facts, Limits, Tag
from .failures import by_words, from_driver, lost
from .versions import Ways, ways_of

Row = tuple[Any, ...]

USER_TABLES = """
    c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
    AND n.nspname !~ '^pg_' AND n.nspname !~ '^dbm[0-9]+_'
"""
"""Tables that store rows: ordinary ones and leaf partitions, not those that a salvage holds for a while."""

# Not the psycopg2 dialect: that one doubles percent signs in names.
_preparer = PGDialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]


def quoted(name: str) -> str:
    """One identifier as SQL."""
    return str(_preparer.quote(name))


def canonical(schema: str, table: str) -> str:
    return f"{quoted(schema)}.{quoted(table)}"


def ask(connection: Connection, sql: str, **binds: object) -> list[Row]:
    """Runs one statement. Without binds percent signs stand for themselves; with binds they are doubled."""
    if binds:
        result = connection.exec_driver_sql(sql, binds)
    else:
        result = connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
    return [tuple(row) for row in result] if result.returns_rows else []


@contextmanager
def transaction(connection: Connection, opening: str = "BEGIN") -> Iterator[None]:
    """BEGIN and COMMIT around the block on an autocommit session; ROLLBACK when it raises."""
    ask(connection, opening)
    try:
        yield
        ask(connection, "COMMIT")
    except BaseException:
        with suppress(DBAPIError):
            ask(connection, "ROLLBACK")
        raise


def configure(connection: Connection, settings: Mapping[str, object], local: bool = False) -> None:
    """Sets run-time parameters of this session (or, `local`, of its transaction)."""
    for name, value in settings.items():
        ask(connection, "SELECT set_config(%(name)s, %(value)s, %(local)s)", name=name, value=str(value), local=local)


@dataclass(frozen=True)
class Relation:
    """One table that stores rows."""

    oid: int
    schema: str
    table: str
    bytes: int

    @property
    def name(self) -> str:
        return canonical(self.schema, self.table)


def mark_in(comment: str | None) -> dict[str, Any] | None:
    """The JSON of a comment that this console wrote, otherwise None."""
    if not comment or not comment.startswith('{"dbmaint"'):
        return None
    try:
        mark = json.loads(comment)
    except ValueError:
        return None
    return mark if isinstance(mark, dict) else None


class Server(Engine):
    """Sessions to the target database and to the maintenance database `postgres` beside it."""

    name = "postgresql"
    backup_methods = ("pg_dump", "pg_basebackup")

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url.set(drivername="postgresql+psycopg2"), tag, limits)
        self.database = url.database or url.username or "postgres"
        self._doors: dict[str, Door] = {}
        self._place: str | None = None
        self._control: str | None = None
        self._holder: Connection | None = None
        self._turn = threading.RLock()
        self._version = 0

    # -- sessions ----------------------------------------------------------------------------------

    @contextmanager
    def session(
        self,
        doing: str,
        object: str = "",
        *,
        database: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> Iterator[Connection]:
        """A session of its own in the target database (or in `database`), closed afterwards.

        Raises Interrupted after `interrupt()`, otherwise the server's errors in our words.
        """
        object = object or self.database
        self.raise_if_stopping(doing, object)
        connection = self._open(database, doing, object)
        try:
            with self.translated(doing, object):
                configure(connection, settings or {})
                yield connection
        finally:
            connection.close()

    @contextmanager
    def control(self, doing: str) -> Iterator[Connection]:
        """A session beside the target, which stays possible while the target is closed."""
        with self.session(doing, database=self.control_database()) as connection:
            yield connection

    @contextmanager
    def translated(self, doing: str, object: str) -> Iterator[None]:
        """Driver and program errors leave the block as ours."""
        try:
            yield
        except DBAPIError as error:
            cause = error.orig or error
            raise from_driver(cause, doing, object, stopping=self.stopping.is_set(), connecting=False) from error
        except psycopg2.Error as error:
            raise from_driver(error, doing, object, stopping=self.stopping.is_set(), connecting=False) from error
        except CommandStopped as error:
            raise Interrupted(doing, object, "stopped on request") from error
        except CommandFailed as error:
            raise by_words(str(error), EngineError)(doing, object, str(error)) from error

    def place(self) -> str:
        """The name under which the target is now: its own, or the one it has while it is hidden."""
        if self._place is None:
            with self.session("looking for the database"):
                pass
        return self._place or self.database

    def control_database(self) -> str:
        """`postgres`, or `template1` where that is missing or is the target itself."""
        if self._control is None:
            for name in ("postgres", "template1"):
                if name == self.database:
                    continue
                try:
                    self._open(name, "connecting to", name).close()
                except Unreachable as error:
                    if "does not exist" not in error.words:
                        raise
                    continue
                self._control = name
                break
            else:
                raise Unreachable(
                    "connecting to", "the maintenance database", "neither postgres nor template1 lets us in"
                )
        return self._control

    def side_name(self, role: str) -> str:
        """Name of a side database of this run target, e.g. shop_dbm42_image; at most 63 bytes as the server allows."""
        ending = f"_{self.tag.suffix}_{role}"
        base = self.database.encode()
        if len(base) + len(ending) > 63:
            digest = hashlib.sha256(base).hexdigest()[:8]
            base = base[: 63 - len(ending) - 9].decode(errors="ignore").encode() + b"_" + digest.encode()
        return base.decode() + ending

    def standing(self, side: str | None) -> str | None:
        """The side database; None, the live one, when an earlier attempt has put it in place already."""
        if side is None:
            return None
        with self.control("looking for the side copy") as connection:
            rows = ask(
                connection,
                "SELECT datname FROM pg_database WHERE datname IN (%(side)s, %(broken)s)",
                side=side,
                broken=self.side_name("broken"),
            )
        names = {str(name) for (name,) in rows}
        return None if side not in names and self.side_name("broken") in names else side

    @property
    def ways(self) -> Ways:
        """What the server's version can; connects when nobody did yet."""
        if not self._version:
            with self.session("asking for the version"):
                pass
        return ways_of(self._version)

    def major(self) -> int:
        return self.ways.major

    def _open(self, database: str | None, doing: str, object: str) -> Connection:
        if database is not None:
            return self._enter(database, doing, object)
        known = self._place or self.database
        try:
            connection = self._enter(known, doing, object)
        except Unreachable as error:
            if "does not exist" not in error.words:
                raise
            try:
                other = self.database if known != self.database else self._hidden(doing)
                connection = self._enter(other, doing, object)
            except Unreachable:
                raise error from None
            known = other
        self._place = known
        return connection

    def _hidden(self, doing: str) -> str:
        """The name that a cut gave to the target. Raises Unreachable when there is none."""
        connection = self._enter(self.control_database(), doing, self.database)
        try:
            name = self.hidden_name(connection)
        finally:
            connection.close()
        if name is None:
            raise Unreachable(doing, self.database, "it is not hidden either")
        return name

    def hidden_name(self, connection: Connection) -> str | None:
        """By the mark on it, whichever run hid it: a later one must be able to bring it back."""
        rows = ask(
            connection, "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY datname"
        )
        for name, comment in rows:
            mark = mark_in(comment)
            gate = mark.get("gate") if mark else None
            if (
                mark
                and mark.get("method") == "hide"
                and isinstance(gate, dict)
                and gate.get("database") == self.database
            ):
                return str(name)
        return None

    def _enter(self, database: str, doing: str, object: str) -> Connection:
        if database not in self._doors:
            self._doors[database] = create_engine(
                self.url.set(database=database),
                isolation_level="AUTOCOMMIT",
                poolclass=NullPool,
                connect_args=self._arguments(),
            )
        try:
            connection = self._doors[database].connect()
            self._version = int(connection.connection.driver_connection.server_version)  # type: ignore[union-attr]
            if ways_of(self._version).checks_client:
                # Without it a backend works on, and commits, after our process was killed.
                ask(connection, "SET client_connection_check_interval = 500")
        except DBAPIError as error:
            cause = error.orig or error
            raise from_driver(cause, doing, object, stopping=self.stopping.is_set(), connecting=True) from error
        return connection

    def _arguments(self) -> dict[str, object]:
        options = str(self.url.query.get("options", ""))
        options += f" -c statement_timeout={int(self.limits.statement_seconds * 1000)}"
        options += f" -c lock_timeout={int(self.limits.lock_seconds * 1000)}"
        return {
            "application_name": self.tag.session,
            "connect_timeout": 10,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": options.strip(),
        }

    def await_server(self, seconds: float = 60) -> None:
        """Waits for a server that ended all its sessions to accept new ones. Raises what it says at last."""
        until = time.monotonic() + seconds
        while True:
            try:
                with self.session("waiting for the server to recover"):
                    return
            except (Unreachable, Transient):
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)

    # -- who is it ---------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """The identity is the cluster's identifier and port with the database's name.

        The name, not the oid: after a rollback by renaming it is still the same database to everybody.
        """
        with self.session("asking who it is") as connection:
            [(version, replica, size, system, port)] = ask(
                connection,
                """SELECT current_setting('server_version'), pg_is_in_recovery(), pg_database_size(current_database()),
                          (SELECT system_identifier FROM pg_control_system()), current_setting('port')""",
            )
            return Facts(
                version=f"PostgreSQL {str(version).split()[0]}",
                identity=f"postgresql:{system}:{port}:{self.database}",
                data_directory=data_directory(connection),
                is_replica=bool(replica),
                size_bytes=int(size),
            )

    def relations(self, connection: Connection, tables: Sequence[str] | None = None) -> list[Relation]:
        """Tables with rows, largest first; only those of `tables` (canonical names) when given.

        The size of a table waits for its lock, so that of the others is not asked for: they may be in work.
        """
        rows = ask(
            connection,
            f"""SELECT c.oid, n.nspname, c.relname
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_TABLES}""",
        )
        wanted = None if tables is None else set(tables)
        chosen = [row for row in rows if wanted is None or canonical(row[1], row[2]) in wanted]
        measured = ask(
            connection,
            "SELECT oid, pg_total_relation_size(oid) FROM pg_class WHERE oid = ANY(%(oids)s::oid[])",
            oids=[row[0] for row in chosen],
        )
        bytes_of = {oid: int(bytes_ or 0) for oid, bytes_ in measured}
        found = [Relation(oid, schema, table, bytes_of.get(oid, 0)) for oid, schema, table in chosen]
        return sorted(found, key=lambda relation: (-relation.bytes, relation.name))

    def resolve(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """A partitioned table stands for the partitions that hold its rows."""
        with self.session("looking for tables") as connection:
            known = self._called(connection)
        found: list[str] = []
        unknown: list[str] = []
        for name in names:
            matches = known.get(name)
            if matches is None:
                unknown.append(name)
            else:
                found += [match for match in matches if match not in found]
        return found, unknown

    def _called(self, connection: Connection) -> dict[str, list[str]]:
        """What people may call a table -> canonical names. Bare names only where they are unique."""
        known: dict[str, list[str]] = {}
        bare: dict[str, list[list[str]]] = {}
        for relation in self.relations(connection):
            known[relation.name] = [relation.name]
            known.setdefault(f"{relation.schema}.{relation.table}", [relation.name])
            bare.setdefault(relation.table, []).append([relation.name])
        parents = ask(
            connection,
            """SELECT n.nspname, c.relname, ln.nspname, l.relname
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               CROSS JOIN pg_partition_tree(c.oid) p
               JOIN pg_class l ON l.oid = p.relid AND l.relkind = 'r' JOIN pg_namespace ln ON ln.oid = l.relnamespace
               WHERE c.relkind = 'p' AND p.isleaf ORDER BY 1, 2, 3, 4""",
        )
        leaves: dict[tuple[str, str], list[str]] = {}
        for schema, table, leaf_schema, leaf in parents:
            leaves.setdefault((schema, table), []).append(canonical(leaf_schema, leaf))
        for (schema, table), names in leaves.items():
            known[canonical(schema, table)] = names
            known.setdefault(f"{schema}.{table}", names)
            bare.setdefault(table, []).append(names)
        for name, choices in bare.items():
            if len(choices) == 1:
                known.setdefault(name, choices[0])
                known.setdefault(quoted(name), choices[0])
        return known

    # -- whose turn it is --------------------------------------------------------------------------

    def fence(self) -> int:
        """Also takes an advisory lock beside the target, held by a session of its own until `close`."""
        with self._turn, self.control("ending the sessions of an earlier attempt") as connection:
            ended = self._end_other_tokens(connection)
            self._take_turn()
        return ended

    def keep_turn(self) -> None:
        """Takes the lock again when the server lost our session, e.g. because it restarted."""
        with self._turn:
            if self._holder is None:
                return
            try:
                ask(self._holder, "SELECT 1")
            except DBAPIError:
                self._drop_holder()
                self.still_ours()
                self._take_turn()

    def _end_other_tokens(self, connection: Connection, seconds: float = 20) -> int:
        until = time.monotonic() + seconds
        ended: set[int] = set()
        while True:
            pids = [
                int(pid)
                for (pid,) in ask(
                    connection,
                    """SELECT pid FROM pg_stat_activity
                       WHERE starts_with(application_name, %(family)s) AND application_name <> %(mine)s""",
                    family=self.tag.family,
                    mine=self.tag.session,
                )
            ]
            if not pids:
                return len(ended)
            for pid in pids:
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            ended.update(pids)
            if time.monotonic() > until:
                raise Transient("ending the sessions of an earlier attempt on", self.database, f"sessions {pids} stay")
            time.sleep(0.1)

    def _take_turn(self) -> None:
        if self._holder is not None:
            return
        holder = self._open(self.control_database(), "taking the maintenance lock of", self.database)
        try:
            for _ in range(10):
                [(taken,)] = ask(
                    holder,
                    "SELECT pg_try_advisory_lock(hashtextextended(%(key)s, 0))",
                    key=self.lock_key(),
                )
                if taken:
                    self._holder = holder
                    return
                # The session just ended may give its lock back a moment later.
                time.sleep(0.2)
        except DBAPIError as error:
            holder.close()
            cause = error.orig or error
            raise from_driver(
                cause, "taking the maintenance lock of", self.database, stopping=False, connecting=False
            ) from error
        holder.close()
        raise Transient("taking the maintenance lock of", self.database, "another maintenance holds it")

    def lock_key(self) -> str:
        return f"dbmaint:{self.database}"

    def _drop_holder(self) -> None:
        if self._holder is not None:
            with suppress(DBAPIError):
                self._holder.invalidate()
            with suppress(DBAPIError):
                self._holder.close()
            self._holder = None

    def close(self) -> None:
        with self._turn:
            self._drop_holder()
        for door in self._doors.values():
            door.dispose()

    # -- how we stop -------------------------------------------------------------------------------

    def end_statements(self) -> None:
        """Cancels what our sessions run; a session that is still busy after 2 s is ended."""
        control = self._control or "postgres"
        try:
            connection = self._enter(control, "stopping our work on", self.database)
        except EngineError:
            return  # Nobody to ask: the server is gone, and our sessions with it.
        try:
            with suppress(DBAPIError):
                self._stop_sessions(connection)
        finally:
            connection.close()

    def _stop_sessions(self, connection: Connection) -> None:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < 4:
            busy = ask(
                connection,
                """SELECT pid FROM pg_stat_activity WHERE application_name = %(mine)s AND pid <> pg_backend_pid()
                   AND state IN ('active', 'idle in transaction', 'idle in transaction (aborted)',
                     'fastpath function call')""",
                mine=self.tag.session,
            )
            if not busy and passed > 0.3:
                return
            for (pid,) in busy:
                how = "pg_cancel_backend" if passed < 2 else "pg_terminate_backend"
                ask(connection, f"SELECT {how}(%(pid)s)", pid=pid)
            time.sleep(0.1)

    # -- the same for every topic ------------------------------------------------------------------

    def is_superuser(self, connection: Connection) -> bool:
        return bool(ask(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0])


def data_directory(connection: Connection) -> str | None:
    """Where the data lies, or None when this account may not know."""
    rows = ask(connection, "SELECT setting FROM pg_settings WHERE name = 'data_directory'")
    return str(rows[0][0]) if rows and rows[0][0] else None


def words_of(error: BaseException) -> str:
    """The first line that the server said."""
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    return re.sub(r"\s+", " ", str(primary or cause)).strip()


__all__ = [
    "USER_TABLES",
    "Relation",
    "Row",
    "Server",
    "ask",
    "canonical",
    "configure",
    "data_directory",
    "lost",
    "quoted",
    "transaction",
    "words_of",
]
