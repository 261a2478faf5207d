"""Rolling back: restore into a side schema, then exchange all tables in one statement.

Each part can be done again by another process: it looks at which tables are where.
  side absent, old present            exchanged already
  side has tables                     not yet exchanged: triggers aside (saved once), then the RENAME
  side has no table left, old present exchanged: only objects and keys to bring back
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from ..archive import Seal
from ..errors import Unable
from ..messages import msg
from ..parts import Rollback
from ..values import Backup, Image, Json
from . import structure
from .connection import Session
from .driver_errors import code_of
from .gate_mirror import closed_by_another, mirror_schema, mirrored
from .names import full, quoted
from .physical import left_clone
from .repair.quarantine import (
    SAVED,
    create_missing,
    exact_schema,
    move,
    new_schema,
    old_schema,
    point_back,
    salvage_schema,
    saved_definitions,
    saved_foreign_keys,
    set_triggers_aside,
)
from .restore import DONE, restore_beside
from .target import Server


class ServerRollback(Rollback):
    """A side schema, and one exchange of all tables."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """See Rollback.swap. Accounts, grants and settings belong to names and stay; `gate` stays closed."""
        del gate, marker  # the gate's mirror on the target is untouched by an exchange of tables
        old = old_schema(self.server)
        with self.server.session("exchanging", self.server.schema) as session:
            if not structure.schema_exists(session, side):
                if structure.schema_exists(session, old):
                    return old
                raise Unable(
                    "exchanging", self.server.schema, msg("neither {side} nor {old} is there", side=side, old=old)
                )
            restored = [t.name for t in structure.tables(session, side) if t.name not in (SAVED, DONE)]
            if restored:
                _exchange(self.server, session, side, old, restored)
            if not structure.schema_exists(session, old):
                structure.create_schema(session, old, self.server.schema)
            wanted = [*saved_definitions(self.server, session, side), *saved_definitions(self.server, session, old)]
            point_back(self.server, session, old, saved_foreign_keys(self.server, session, old))
            create_missing(self.server, session, wanted)
            session.ask(f"DROP DATABASE IF EXISTS {quoted(side)}")
        return old

    def leftovers(self) -> list[str]:
        """See Rollback.leftovers."""
        with self.server.session("looking for leftovers on") as session:
            mirror = [] if closed_by_another(self.server, session) else [mirror_schema(self.server)]
            found = [
                schema for schema in (*side_schemas(self.server), *mirror) if structure.schema_exists(session, schema)
            ]
            copy = left_clone(self.server, session)
            found += [str(copy)] if copy is not None else []
            return found + [f"session {number}" for number in self.server.older_sessions(session)]

    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        """See Rollback.clean. The gate's mirror goes only when it holds nothing: ServerGate.open removes the rest."""
        removed = []
        with self.server.session("cleaning") as session:
            for schema in side_schemas(self.server):
                if schema not in keep and structure.schema_exists(session, schema):
                    drop_side_schema(self.server, session, schema)
                    removed.append(schema)
            copy = left_clone(self.server, session)
            if copy is not None and str(copy) not in keep:
                shutil.rmtree(copy)
                removed.append(str(copy))
            mirror = mirror_schema(self.server)
            if (
                mirror not in keep
                and structure.schema_exists(session, mirror)
                and mirrored(self.server, session) is None
            ):
                session.ask(f"DROP DATABASE IF EXISTS {quoted(mirror)}")
                removed.append(mirror)
        return removed

    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        """See Rollback.restore_beside."""
        return restore_beside(self.server, image, backup, seal)


def _exchange(server: Server, session: Session, side: str, old: str, restored: list[str]) -> None:
    names = {table.name for table in structure.tables(session, side)}
    if DONE not in names:
        raise Unable("exchanging", server.schema, msg("{side} is not completely restored", side=side))
    structure.create_schema(session, old, server.schema)
    live = {table.name for table in structure.tables(session, server.schema)}
    aside = {table.name for table in structure.tables(session, old)}
    for name in aside & set(restored) & live:
        # A salvage before put its original there; the name must be free, and the row copy goes instead.
        move(session, [(old, name, old, _free_name(name, aside))])
    _carry_counters_over(server, session, side, restored)
    set_triggers_aside(server, session, restored)
    moves = []
    for name in restored:
        if name in live:
            moves.append((server.schema, name, old, name))
        moves.append((side, name, server.schema, name))
    move(session, moves)


def _carry_counters_over(server: Server, session: Session, side: str, restored: list[str]) -> None:
    """A number that AUTO_INCREMENT gave out once must not be given out again, though no row holds it now."""
    asked = (
        "SELECT auto_increment FROM information_schema.tables WHERE table_schema = %(s)s AND table_name = %(t)s"
        " AND auto_increment IS NOT NULL"
    )
    for name in restored:
        live = session.value(asked, s=server.schema, t=name)
        own = session.value(asked, s=side, t=name)
        if live is not None and own is not None and int(live) > int(own):
            session.ask(f"ALTER TABLE {full(side, name)} AUTO_INCREMENT = {int(live):d}")


def _free_name(name: str, taken: set[str]) -> str:
    number = 1
    while (candidate := f"{name[:56]}_was{number}") in taken:
        number += 1
    return candidate


def side_schemas(server: Server) -> tuple[str, ...]:
    """Return the schemas that this run target made beside the target."""
    return (new_schema(server), old_schema(server), salvage_schema(server), exact_schema(server))


def drop_side_schema(server: Server, session: Session, schema: str) -> None:
    """Also where files lie in its folder that are no tables to the server: kept ones, and what a repair left."""
    try:
        session.ask(f"DROP DATABASE IF EXISTS {quoted(schema)}")
    except DBAPIError as error:
        folder = server.data_folder(session)
        if code_of(error) != FOLDER_NOT_EMPTY or folder is None:
            raise
        for path in structure.file_stem(folder, schema, "").iterdir():
            path.unlink()
        session.ask(f"DROP DATABASE IF EXISTS {quoted(schema)}")


FOLDER_NOT_EMPTY = 1010
