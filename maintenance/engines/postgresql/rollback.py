"""What a rollback restores from, and how the restored copy takes the place of the broken database."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from .. import archive
from ..archive import Seal
from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unable
from ..messages import listed, msg
from ..values import Backup, Fingerprint, Image, Json
from .access_gate import Method
from .backup import SEQUENCES
from .diagnosis import Diagnosing
from .fingerprints import LARGE_OBJECTS, differing
from .relations import Server
from .restore import Restoring
from .sql import ask, quoted, transaction

log = logging.getLogger("maintenance")
LITTLE = 10
"""A copy by file takes about this fraction of the time that dumping and reading back takes, byte for byte."""


class Rollback(Restoring, Diagnosing, Server):
    """Image, restore beside, swap."""

    # -- image -------------------------------------------------------------------------------------

    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """Where little changed since the backup was made: the copy that was restored from it, brought up to date, or
        without one the backup itself and a dump of what changed. Otherwise a copy by file on the same server where
        there is room and right, or a second dump.

        An image of an earlier attempt is made anew: nobody can say what happened in between.
        """
        self.keep_turn()
        changed = self._changed_since(backup, baseline)
        restored = self.restored_copy()
        if restored is not None and changed is not None and self._little(changed):
            try:
                return self._caught_up(restored, backup, baseline, changed, folder, stem, seal)
            except Interrupted:
                raise
            except EngineError as error:
                log.warning("The restored copy could not be brought up to date, so all is copied: %s", error)
        with self.control("making room for a copy") as connection:
            self.drop_side(connection, "restore")
        if restored is None and changed is not None and self._little(changed):
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
                raise type(error)("keeping the state before the maintenance of", self.database, words) from error

    def _copy(self) -> Image:
        name = self.identity.side_name("image")
        self.refuse_uncopyable()
        with self.control("copying the database") as connection:
            self.drop_side(connection, "image")
            method = "STRATEGY FILE_COPY" if self.ways.copy_strategy else ""
            limit = "CONNECTION LIMIT 0" if self.is_superuser(connection) else ""
            source = self.door(connection).name
            version = self._collation_version(connection, source)
            statement = f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(source)} {method} {version} {limit}"
            self._alone(connection, statement)
            self.mark_side(connection, self.door(connection, name).oid, name, {"role": "image"})
            if not limit:
                ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(name)} FROM PUBLIC")
            [(copied,)] = ask(connection, "SELECT pg_database_size(%(name)s)", name=name)
        return Image(kind="copy", name=name, bytes=int(copied))

    def _collation_version(self, connection: Connection, source: str) -> str:
        """The server refuses to copy a database whose collation changed, unless it is told the version as recorded."""
        if not self.ways.database_collation_version:
            return ""
        [(version,)] = ask(
            connection, "SELECT quote_literal(datcollversion) FROM pg_database WHERE datname = %(name)s", name=source
        )
        return f"COLLATION_VERSION {version}" if version else ""

    def _alone(self, connection: Connection, statement: str) -> None:
        """Runs what needs a database without any session; our own short ones are ended."""
        for attempt in range(3):
            for pid, *_ in self._foreign(connection, self.door(connection).oid, ours_too=True):
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            try:
                with self.translated("copying", self.database):
                    ask(connection, statement)
                return
            except Transient as error:
                if attempt == 2 or "being accessed" not in error.words:
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
        """The restored copy with the rows and sequence values of now. Raises Damaged where it is not equal then."""
        part: Path | None = None
        try:
            if patterns := self._patterns(backup, changed):
                part, _ = self.dump(folder, stem, seal, [f"--table={pattern}" for pattern in patterns])
            self.bring_up_to_date(part, seal, changed)
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        wrong = differing({table: baseline[table] for table in changed}, self.fingerprints(changed, name))
        if wrong or self.sequence_values() != self.sequence_values(name):
            raise Damaged("catching up", name, listed(wrong) or msg("sequences stand elsewhere"))
        with self.control("measuring the restored copy") as connection:
            [(size,)] = ask(connection, "SELECT pg_database_size(%(name)s)", name=name)
        return Image(kind="copy", name=name, bytes=int(size))

    def _changed_since(self, backup: Backup, baseline: Mapping[str, Fingerprint]) -> list[str] | None:
        """Tables that are not proved to be as in the backup. None when that cannot be told table by table."""
        changed = differing(baseline, backup.snapshot)
        known = self.dumped.get(backup.sha256)
        told = (
            backup.method == "pg_dump"
            and set(baseline) == set(backup.snapshot)
            and LARGE_OBJECTS not in changed
            and len(changed) * 2 <= len(baseline)
            and known is not None
            and known.definitions == self.definitions()
        )
        return changed if told else None

    def _little(self, changed: Sequence[str]) -> bool:
        """Whether a dump of these tables, read back, is sooner made than a copy of the whole database."""
        with self.session("measuring") as connection:
            [(whole,)] = ask(connection, "SELECT pg_database_size(current_database())")
            return sum(x.bytes for x in self.relations(connection, changed)) * LITTLE <= int(whole)

    def _catch_up(self, backup: Backup, changed: list[str] | None, folder: Path, stem: str, seal: Seal) -> Image:
        """Dumps the tables that changed since the backup; everything with None."""
        partial = changed is not None
        options = [f"--table={pattern}" for pattern in self._patterns(backup, changed)] if changed is not None else []
        if partial and not options:
            return Image(kind="dump", name=str(backup.path), bytes=0)
        part, written = self.dump(folder, stem, seal, options)
        final = folder / f"{stem}.dump{seal.extension}"
        try:
            archive.publish(part, final)
        except OSError as error:
            raise ResourceShortage("naming", str(final), str(error)) from error
        return Image(
            kind="dump",
            name=str(backup.path) if partial else "",
            bytes=written.bytes,
            tables=tuple(changed or ()),
            path=final,
            sha256=written.sha256,
        )

    def _patterns(self, backup: Backup, tables: Sequence[str]) -> list[str]:
        """Exact patterns for pg_dump, with the sequences unless all stand as before: they move without any row."""
        known, now = self.dumped[backup.sha256].sequences, self.sequence_values()
        with self.session("looking for tables") as connection:
            names = [(x.schema, x.table) for x in self.relations(connection, tables)]
            if known is None or known != now:
                names += [(str(schema), str(name)) for schema, name in ask(connection, SEQUENCES)]
        return [".".join('"' + part.replace('"', '""') + '"' for part in pair) for pair in names]

    # -- restore -----------------------------------------------------------------------------------

    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        self.keep_turn()
        if image.kind == "copy":
            with self.control("looking for the image") as connection:
                if self.identity.side(connection, "broken") is None:
                    sides = [self.identity.side(connection, role) for role in ("image", "restore")]
                    if image.name not in [side.name for side in sides if side]:
                        words = msg("the image {image} is not there", image=image.name)
                        raise Unable("restoring", self.database, words)
                    self._carry_settings(connection, image.name)
            return image.name
        if image.path is None and backup.method != "pg_dump":
            raise Unable(
                "restoring",
                self.database,
                msg("{path} holds a whole cluster and must be restored by hand", path=str(backup.path)),
            )
        name = self.identity.side_name("restore")
        with self.control("creating a database to restore into") as connection:
            there = self.identity.side(connection, "restore")
            if there is None and self.identity.side(connection, "broken"):
                return name  # It has taken its place already.
            if there and there.mark and there.mark.get("complete"):
                return name
            self.drop_side(connection, "restore")
            self._create_like(connection, name)
        self._fill(name, image, backup, seal)
        with self.control("setting up the restored copy") as connection:
            self._carry_settings(connection, name)
        self._settled(name)
        return name

    # -- swap --------------------------------------------------------------------------------------

    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """One transaction of renames; nobody ever sees the database missing, and a crash leaves before or after."""
        self.recall(gate)
        self.keep_turn()
        broken = self.identity.side_name("broken")
        with self.control("putting the restored copy in place") as connection:
            ours = [entry for role in ("image", "restore") if (entry := self.identity.side(connection, role))]
            copy = next((entry for entry in ours if entry.name == side), None)
            before = self.identity.side(connection, "broken")
            if copy is None:
                if before is not None:
                    return broken
                raise Unable("putting in place", side, "there is no such database")
            if before is not None:
                raise Unable("putting in place", side, msg("{broken} of an earlier swap is still there", broken=broken))
            live = self.door(connection)
            self._refuse_strangers(connection, live, gate)
            method: Method = "hide" if (live.mark or {}).get("method") == "hide" else "revoke"
            for oid in (live.oid, copy.oid):
                for pid, *_ in self._foreign(connection, oid, ours_too=True):
                    ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            closed = self.identity.mark(copy.oid, {"method": method, "gate": gate, "marker": marker})
            with transaction(connection):
                self._carry_over(connection, live.name, side, gate)
                ask(connection, f"ALTER DATABASE {quoted(live.name)} RENAME TO {quoted(broken)}")
                ask(connection, f"ALTER DATABASE {quoted(side)} RENAME TO {quoted(live.name)}")
                self.set_comment(connection, live.name, closed)
                about = {"role": "broken", "replaced_by": copy.oid, "owner": live.owner}
                self.mark_side(connection, live.oid, broken, about)
                self._set_limit(connection, live.name, int(str(gate["limit"])))
                if method == "hide":
                    self._set_allow(connection, live.name, live.name != self.database)
                else:
                    self.bar(connection, live.name, method)
                self._set_allow(connection, broken, False)
        return broken

    def _carry_over(self, connection: Connection, source: str, to: str, gate: Json) -> None:
        """Owner, grants, and whether it is a template."""
        ask(connection, f"ALTER DATABASE {quoted(to)} OWNER TO {quoted(self.door(connection, source).owner)}")
        self.set_grants(connection, to, gate)
        [(template,)] = ask(connection, "SELECT datistemplate FROM pg_database WHERE datname = %(name)s", name=source)
        if template:
            ask(connection, f"ALTER DATABASE {quoted(to)} IS_TEMPLATE true")
