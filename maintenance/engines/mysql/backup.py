"""Backups: one consistent dump, a physical copy, or a dump table by table when a table is damaged.

A dump file holds SQL that the product's own client loads as it stands. Three kinds of comment lines of
ours are in it: definitions of views, triggers, routines and events (for putting back single ones), the
tables that could not be read, and the last line, without which the file is not complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..archive import Seal
from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Unable
from ..messages import msg
from ..parts import Backups
from ..values import Backup, Fingerprint, Image
from . import physical, structure
from .dump_file import Contents, objects_dumps, tables_dump, write_dump
from .exact_copy import copy_exactly
from .fingerprints import fingerprint
from .names import canonical, plain
from .native_programs import failures_told
from .repair.corruption import unreadable_tables
from .table_rules import refuse_what_would_not_come_back
from .target import Server

BY_TABLE = "table_dump"


class ServerBackups(Backups):
    """Dumps and physical copies, and the image under the cut."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._dumped_definitions: dict[Path, tuple[str, ...]] = {}
        """By backup file that this object wrote: digests of the definitions in it."""

    @property
    def methods(self) -> tuple[str, str]:
        """See Backups.methods."""
        return self.server.capabilities.backup_methods

    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        """See Backups.back_up. Without access to the server's files the physical method becomes a dump by table."""
        refuse_what_would_not_come_back(self.server)
        with failures_told("backing up into", str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        if method == physical.MARIABACKUP and physical.files_within_reach(self.server):
            try:
                return physical.mariabackup(self.server, folder, stem, seal)
            except (Interrupted, ResourceShortage):
                raise
            except EngineError:
                # The tool copies a damaged MyISAM table, and gives up at a damaged page of Aria's.
                if not unreadable_tables(self.server):
                    raise
                return self._by_table(folder, stem, seal)
        if method == physical.CLONE and physical.can_clone(self.server):
            return physical.clone(self.server, folder, stem, seal)
        if method in (BY_TABLE, *physical.METHODS):
            return self._by_table(folder, stem, seal)
        if method == self.methods[0]:
            return self._whole(method, folder, stem, seal)
        raise Unable("backing up", self.server.schema, msg("unknown method {method}", method=method))

    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """See Backups.image. Tables that changed since the backup, and every definition, which is cheap.

        What a dump would change is copied on the server besides.

        No file at all when this very object wrote the backup and nothing changed since.
        """
        whole = backup.method in physical.METHODS
        changed = [
            name for name, found in baseline.items() if found.readable and (whole or backup.snapshot.get(name) != found)
        ]
        exact = copy_exactly(self.server, baseline)
        definitions = _definitions(self.server)
        same_definitions = self._dumped_definitions.get(backup.path) == _digests(definitions)
        if not changed and not exact and same_definitions and set(baseline) == set(backup.snapshot):
            return Image("dump", backup.path.name, 0)
        with failures_told("writing into", str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        parts = [tables_dump(self.server, only=[plain(name)], rows=plain(name) not in exact) for name in changed]
        contents = Contents(parts, [], definitions, _unread(baseline), [plain(name) for name in baseline], exact)
        final = folder / f"{stem}.image.sql{seal.extension}"
        written = write_dump(self.server, final, seal, contents, "dumping again what changed in")
        return Image("dump", final.name, written.bytes, tuple(changed), final, written.sha256)

    def _whole(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        """One snapshot of everything. A table that cannot be read makes it fail: that is what the alternate is for."""
        _refuse_what_dumping_would_harm(self.server)
        snapshot = fingerprint(self.server, None)
        for name, found in snapshot.items():
            if not found.readable:
                raise Damaged("backing up", name, found.error or "cannot be read")
        return self._dumped(method, folder / f"{stem}.sql{seal.extension}", seal, [tables_dump(self.server)], snapshot)

    def _by_table(self, folder: Path, stem: str, seal: Seal) -> Backup:
        """Each readable table by itself, so that a bad one does not lose the others. Consistent only under the cut."""
        snapshot = fingerprint(self.server, None)
        parts = [tables_dump(self.server, only=[plain(name)]) for name, found in snapshot.items() if found.readable]
        return self._dumped(BY_TABLE, folder / f"{stem}.tables.sql{seal.extension}", seal, parts, snapshot)

    def _dumped(
        self,
        method: str,
        final: Path,
        seal: Seal,
        parts: Sequence[list[str]],
        snapshot: Mapping[str, Fingerprint],
    ) -> Backup:
        definitions = _definitions(self.server)
        contents = Contents(
            parts, objects_dumps(self.server), definitions, _unread(snapshot), [plain(name) for name in snapshot]
        )
        written = write_dump(self.server, final, seal, contents, "backing up")
        self._dumped_definitions[final] = _digests(definitions)
        return Backup(final, method, written.bytes, written.sha256, seal.opens, dict(snapshot))


def _refuse_what_dumping_would_harm(server: Server) -> None:
    """A table marked crashed is repaired, with loss, by the dump's own reading: copy its files first."""
    if server.capabilities.repairs_on_open:
        for table, why in unreadable_tables(server).items():
            raise Damaged("backing up", canonical(table), why)


def _definitions(server: Server) -> list[structure.Definition]:
    with server.session("reading definitions of") as session:
        return structure.definitions(session, server.schema)


def _digests(definitions: Iterable[structure.Definition]) -> tuple[str, ...]:
    return tuple(f"{one.kind} {one.name} {one.digest}" for one in definitions)


def _unread(found: Mapping[str, Fingerprint]) -> dict[str, str]:
    return {plain(name): one.error or "" for name, one in found.items() if not one.readable}
