"""What a rollback restores from: a copy on the same server, or dumps."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from .. import archive
from ..archive import Seal
from ..errors import Damaged, EngineError, Interrupted, Transient
from ..messages import listed, msg
from ..values import Backup, Fingerprint, Image
from .database_access import access_of, foreign_sessions
from .driver_errors import OBJECT_IN_USE, code_of
from .fingerprints import LARGE_OBJECTS, Fingerprints, differing
from .maintenance_lock import PostgresLock
from .native_programs import NativePrograms
from .relations import relations
from .restore import Restores, refuse_uncopyable
from .sequences import EVERY_SEQUENCE, sequence_values
from .side_databases import SideDatabases
from .sql import ask, is_superuser, quoted
from .target import TargetDatabase

log = logging.getLogger("maintenance")
LITTLE = 10
"""A copy by file takes about this fraction of the time that dumping and reading back takes, byte for byte."""


class Images:
    """Makes the image under the cut."""

    def __init__(
        self,
        target: TargetDatabase,
        lock: PostgresLock,
        sides: SideDatabases,
        programs: NativePrograms,
        fingerprints: Fingerprints,
        restores: Restores,
    ) -> None:
        self.target, self.lock, self.sides = target, lock, sides
        self.programs, self.fingerprints, self.restores = programs, fingerprints, restores

    def make(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """See Backups.image.

        Where little changed since the backup was made: the copy that was restored from it, brought up to date, or
        without one the backup itself and a dump of what changed. Otherwise a copy by file on the same server where
        there is room and right, or a second dump.

        An image of an earlier attempt is made anew: nobody can say what happened in between.
        """
        self.lock.reacquire()
        changed = self._changed_since(backup, baseline)
        restored = self.sides.restored()
        if restored is not None and changed is not None and self._little(changed):
            try:
                return self._caught_up(restored, backup, baseline, changed, folder, stem, seal)
            except Interrupted:
                raise
            except EngineError as error:
                log.warning("The restored copy could not be brought up to date, so all is copied: %s", error)
        with self.target.control("making room for a copy") as connection:
            self.sides.drop(connection, "restore")
        if restored is None and changed is not None and self._little(changed) and not self._has_views(list(baseline)):
            try:
                return self._catch_up(backup, changed, folder, stem, seal)
            except Interrupted:
                raise
            except EngineError as error:
                log.warning("What changed since the backup could not be dumped, so all is copied: %s", error)
        try:
            return self._copy()
        except Interrupted:
            raise
        except EngineError as refusal:
            if backup.method != "pg_dump":
                raise  # Its dump failed or could not be restored: another one would be no way back.
            try:
                return self._catch_up(backup, changed, folder, stem, seal)
            except Interrupted:
                raise
            except EngineError as error:
                words = msg("a copy: {copy}; a dump: {dump}", copy=refusal.words, dump=error.words)
                raise type(error)("keeping the state before the maintenance of", self.target.name, words) from error

    def _copy(self) -> Image:
        name = self.target.identity.side_name("image")
        refuse_uncopyable(self.target)
        with self.target.control("copying the database") as connection:
            self.sides.drop(connection, "image")
            self._alone(connection, self.sides.copying(connection, access_of(self.target, connection).name, name))
            self.sides.mark(connection, access_of(self.target, connection, name).oid, name, {"role": "image"})
            if not is_superuser(connection):
                ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(name)} FROM PUBLIC")
            [(copied,)] = ask(connection, "SELECT pg_database_size(%(name)s)", name=name)
        return Image(kind="copy", name=name, bytes=int(copied))

    def _alone(self, connection: Connection, statement: str) -> None:
        """Run what needs a database without any session; our own short ones are ended."""
        for attempt in range(3):
            for pid, *_ in foreign_sessions(
                self.target, connection, access_of(self.target, connection).oid, ours_too=True
            ):
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            try:
                with self.target.translated("copying", self.target.name):
                    ask(connection, statement)
                return
            except Transient as error:
                if attempt == 2 or code_of(error) != OBJECT_IN_USE:
                    raise

    def _caught_up(
        self,
        name: str,
        backup: Backup,
        baseline: Mapping[str, Fingerprint],
        changed: Sequence[str],
        folder: Path,
        stem: str,
        seal: Seal,
    ) -> Image:
        """Return the restored copy with the rows and sequence values of now. Raises Damaged where it is not equal
        then."""
        part: Path | None = None
        try:
            if patterns := self._patterns(backup, changed):
                part, _ = self.programs.dump(folder, stem, seal, [f"--table={pattern}" for pattern in patterns])
            self.restores.bring_up_to_date(part, seal, changed)
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        wrong = differing({table: baseline[table] for table in changed}, self.fingerprints.read(changed, name))
        if wrong or sequence_values(self.target) != sequence_values(self.target, name):
            raise Damaged("catching up", name, listed(wrong) or msg("sequences stand elsewhere"))
        with self.target.control("measuring the restored copy") as connection:
            [(size,)] = ask(connection, "SELECT pg_database_size(%(name)s)", name=name)
        return Image(kind="copy", name=name, bytes=int(size))

    def _changed_since(self, backup: Backup, baseline: Mapping[str, Fingerprint]) -> list[str] | None:
        """Return tables that are not proved to be as in the backup. None when that cannot be told table by table."""
        changed = differing(baseline, backup.snapshot)
        known = self.programs.dumped.get(backup.sha256)
        told = (
            backup.method == "pg_dump"
            and set(baseline) == set(backup.snapshot)
            and LARGE_OBJECTS not in changed
            and len(changed) * 2 <= len(baseline)
            and known is not None
            and not known.refreshed
            and not self._has_views(changed)
            and known.definitions == self.fingerprints.definitions()
        )
        return changed if told else None

    def _has_views(self, changed: Sequence[str]) -> bool:
        """Return whether a materialized view is among them, whose rows no dump holds."""
        with self.target.session("looking for tables") as connection:
            return any(relation.is_view for relation in relations(connection, changed))

    def _little(self, changed: Sequence[str]) -> bool:
        """Return whether a dump of these tables, read back, is sooner made than a copy of the whole database."""
        with self.target.session("measuring") as connection:
            [(whole,)] = ask(connection, "SELECT pg_database_size(current_database())")
            return sum(x.bytes for x in relations(connection, changed)) * LITTLE <= int(whole)

    def _catch_up(self, backup: Backup, changed: list[str] | None, folder: Path, stem: str, seal: Seal) -> Image:
        """Dump the tables that changed since the backup; everything with None."""
        partial = changed is not None
        options = [f"--table={pattern}" for pattern in self._patterns(backup, changed)] if changed is not None else []
        if partial and not options:
            return Image(kind="dump", name=str(backup.path), bytes=0)
        part, written = self.programs.dump(folder, stem, seal, options)
        final = folder / f"{stem}.dump{seal.extension}"
        with archive.failures_told("naming", str(final)):
            archive.publish(part, final)
        return Image(
            kind="dump",
            name=str(backup.path) if partial else "",
            bytes=written.bytes,
            tables=tuple(changed or ()),
            path=final,
            sha256=written.sha256,
        )

    def _patterns(self, backup: Backup, tables: Sequence[str]) -> list[str]:
        """Return exact patterns for pg_dump, with the sequences unless all stand as before: they move without any
        row."""
        known, now = self.programs.dumped[backup.sha256].sequences, sequence_values(self.target)
        with self.target.session("looking for tables") as connection:
            names = [(x.schema, x.table) for x in relations(connection, tables)]
            if known is None or known != now:
                names += [(str(schema), str(name)) for schema, name in ask(connection, EVERY_SEQUENCE)]
        return [".".join('"' + part.replace('"', '""') + '"' for part in pair) for pair in names]
