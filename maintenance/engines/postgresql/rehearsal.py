"""A copy of the database on the same server, on which a maintenance is rehearsed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from ..archive import Seal
from ..errors import EngineError, ResourceShortage, Unable
from ..messages import Message, msg
from ..parts import Backups, Rehearsal
from ..values import Image, Json, Stage
from .database_access import access_of, foreign_sessions, keeps_its_name
from .diagnosis.disk import ROOM, free_bytes
from .identity import Entry, Identity
from .native_programs import NativePrograms
from .restore import Restores
from .side_databases import SIDES, SideDatabases
from .sql import ask, is_superuser, quoted
from .target import TargetDatabase

log = logging.getLogger("maintenance")
ROLE = "rehearsal"
WAITING = """
SELECT 1 FROM pg_locks
WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = %(oid)s AND NOT granted
"""


class PostgresRehearsal(Rehearsal):
    """The copy is made by file while nobody is connected, otherwise from a dump."""

    def __init__(
        self,
        target: TargetDatabase,
        sides: SideDatabases,
        programs: NativePrograms,
        backups: Backups,
        restores: Restores,
    ) -> None:
        self.target, self.sides, self.programs = target, sides, programs
        self.backups, self.restores = backups, restores

    @property
    def name(self) -> str:
        """The copy's."""
        return self.target.identity.side_name(ROLE)

    def refusal(self) -> Message | None:
        """See Rehearsal.refusal."""
        with self.target.control("looking whether a copy can be made") as connection:
            [(may,)] = ask(connection, "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user")
        return None if may else msg("a rehearsal needs a copy, and the account may not create databases")

    def build(self, folder: Path, stem: str, seal: Seal) -> Stage:
        """See Rehearsal.build."""
        begun = time.monotonic()
        self.remove()
        self._refuse_without_room()
        by_file = self._copied()
        if not by_file:
            self._restored(folder, stem, seal)
        with self.target.control("measuring the copy") as connection:
            [(size,)] = ask(connection, "SELECT pg_database_size(%(name)s)", name=self.name)
        return Stage(self.name, int(size), time.monotonic() - begun, by_file)

    def address(self) -> URL:
        """See Rehearsal.address."""
        return self.target.url.set(database=self.name)

    def remove(self) -> list[str]:
        """See Rehearsal.remove. The copy goes by any name that its cut or a rollback gave it."""
        copy, removed = Identity(self.name, self.target.identity.tag), list[str]()
        with self.target.control("removing the copy of a rehearsal") as connection:
            broken = copy.side(connection, "broken")
            # The database put aside says which one took its place, so it goes last.
            main = copy.in_place_of(connection, broken) if broken is not None else copy.target(connection)
            if main is not None:
                self._refuse_anothers(main, proven=broken is not None)
            roles = [role for role in SIDES if role != "broken"]
            for entry in (main, *(copy.side(connection, role) for role in roles), broken):
                if entry is not None:
                    self.sides.drop_entry(connection, entry)
                    removed.append(entry.name)
        return removed

    def _refuse_anothers(self, entry: Entry, proven: bool) -> None:
        """Raise Unable where no signed mark of this run target is on it, unless its predecessor's mark names it."""
        unmarked = entry.comment is None and entry.owned_by_us
        if not (proven or unmarked or (entry.mark is not None and self.target.identity.tag.wrote(entry.mark))):
            raise Unable("removing the copy", entry.name, "it is not proven to be ours; drop it by hand if it is")

    def _refuse_without_room(self) -> None:
        with self.target.session("measuring") as connection:
            [(size,)] = ask(connection, "SELECT pg_database_size(current_database())")
            free = free_bytes(connection)
        needed = int(int(size) * ROOM)
        if free is not None and free < needed:
            words = msg("{free:,} bytes are free, {needed:,} are needed", free=free, needed=needed)
            raise ResourceShortage("copying for a rehearsal", self.target.name, words)

    # -- by file -----------------------------------------------------------------------------------

    def _copied(self) -> bool:
        """Copy by file. False, and nothing is left, where somebody is connected or wants to be meanwhile."""
        try:
            with self.target.control("copying for a rehearsal") as connection:
                source = access_of(self.target, connection)
                if keeps_its_name(connection, source.name) or foreign_sessions(self.target, connection, source.oid):
                    return False
                self._end_own_sessions(connection, source.oid)
                with (
                    self._giving_way(connection, source.oid),
                    self.target.translated("copying for a rehearsal", self.target.name),
                ):
                    ask(connection, self.sides.copying(connection, source.name, self.name))
                about: Json = {"role": ROLE, "owner": source.owner}
                self.sides.mark(connection, access_of(self.target, connection, self.name).oid, self.name, about)
                if not is_superuser(connection):
                    ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(self.name)} FROM PUBLIC")
                ask(connection, f"ALTER DATABASE {quoted(self.name)} OWNER TO {quoted(source.owner)}")
                self.restores.carry_settings(connection, self.name)
        except EngineError as error:
            self.target.raise_if_stopping("copying for a rehearsal", self.target.name)
            log.warning("The copy for a rehearsal is restored from a dump, as it cannot be made by file: %s", error)
            self.remove()
            return False
        return True

    def _end_own_sessions(self, connection: Connection, oid: int) -> None:
        """Short ones of ours would keep the server from copying; anybody else's are left alone."""
        everybody = {pid for pid, _ in foreign_sessions(self.target, connection, oid, ours_too=True)}
        others = {pid for pid, _ in foreign_sessions(self.target, connection, oid)}
        for pid in everybody - others:
            ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)

    @contextmanager
    def _giving_way(self, connection: Connection, oid: int) -> Iterator[None]:
        """The server lets nobody connect while it copies: whoever wants to ends the copying, and so does not being able
        to look who wants to."""
        copying = connection.connection.driver_connection
        assert copying is not None
        over = threading.Event()

        def watch(beside: Connection) -> None:
            try:
                while not over.wait(0.2):
                    if ask(beside, WAITING, oid=oid):
                        break
            except (DBAPIError, PendingRollbackError) as error:
                log.warning("Nobody can look who waits for the copy, so it is ended: %s", error)
            if not over.is_set():
                with suppress(psycopg2.Error):
                    copying.cancel()

        with self.target.control("looking who waits") as beside:
            watcher = threading.Thread(target=watch, args=(beside,), name="who waits for the copy", daemon=True)
            watcher.start()
            try:
                yield
            finally:
                over.set()
                watcher.join()

    # -- from a dump -------------------------------------------------------------------------------

    def _restored(self, folder: Path, stem: str, seal: Seal) -> None:
        if not seal.opens:
            words = "somebody is connected, and a sealed dump cannot be opened without the identity file"
            raise Unable("copying for a rehearsal", self.target.name, words)
        dump = self.backups.back_up(self.backups.methods[0], folder, stem, seal)
        try:
            with self.target.control("creating a database for the rehearsal") as connection:
                self.restores.create_like(connection, self.name, ROLE)
            self.restores.fill(self.name, Image("dump", str(dump.path), 0), dump, seal)
            with self.target.control("setting up the copy") as connection:
                self.restores.carry_settings(connection, self.name)
            with self.target.session("taking statistics of the copy", database=self.name) as connection:
                ask(connection, "ANALYZE")
        finally:
            dump.path.unlink(missing_ok=True)
