"""Restoring into a side schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import archive, programs
from ..archive import ArchiveError, Seal
from ..errors import Damaged, Unable
from ..messages import msg
from ..values import Backup, Image
from . import structure
from .connection import Session
from .dump_file import DEFINITION, END, OBJECTS, UNREAD, client_program, lines_of
from .exact_copy import take_rows
from .names import canonical, full, plain, quoted
from .native_programs import failures_told
from .physical import CLONE, MARIABACKUP, METHODS
from .repair.quarantine import new_schema, save_definitions
from .table_rules import set_aside
from .target import LOAD_SLOT, Server


@dataclass(frozen=True)
class Trailer:
    """What the comment lines of a dump file tell."""

    definitions: tuple[structure.Definition, ...]
    unread: tuple[str, ...]
    tables: tuple[str, ...]
    exact: Mapping[str, str] = field(default_factory=dict)
    """Tables whose rows lie in a copy on the server -> time zone in which their stored columns are computed."""


def trailer(path: Path, seal: Seal) -> Trailer:
    """Return what the comment lines of a dump file tell. Reads it whole. Raises Damaged where it is not whole."""
    reading = _Reading()
    try:
        with archive.reading(path, seal) as stream:
            for fresh, line in lines_of(stream):
                reading.is_sql(fresh, line)
        return reading.told(path)
    except ArchiveError as error:
        raise Damaged("reading", path.name, str(error)) from error


def load(server: Server, path: Path, seal: Seal, schema: str, empty: Iterable[str] = ()) -> Trailer:
    """Feed the tables of a dump into `schema` with the product's client; return what its comment lines say.

    Of the tables `empty` the definition alone.

    The client's session takes one of our marks first, so that a later claim can end it.

    Raises Damaged.
    """
    mark = server.slot_name(server.tag.token, LOAD_SLOT)
    with server.session("looking what may be set for", schema) as session:
        # A limit of time that the server sets for everybody would end the loading too.
        assignments = [f"{server.capabilities.statement_limit[0]} = 0", *set_aside(server, session)]
    settings = "".join(f"SET SESSION {assignment};\n" for assignment in assignments)
    client = client_program(server)
    args = [
        client,
        *server.address(client),
        "--default-character-set=utf8mb4",
        "--max-allowed-packet=1G",
        "--binary-mode",
        "--batch",
        f"--database={schema}",
    ]
    with failures_told("restoring into", schema):
        reading = _Reading(empty)
        try:
            with (
                archive.reading(path, seal) as stream,
                programs.running(args, secrets=server.secrets(), stdin=programs.PIPE, stop=server.stopping) as child,
            ):
                assert child.stdin is not None
                child.stdin.write(f"DO GET_LOCK('{mark}', 5);\n{settings}".encode())
                for fresh, line in lines_of(stream):
                    if reading.is_sql(fresh, line):
                        child.stdin.write(line)
                child.stdin.close()
            return reading.told(path)
        except programs.CommandFailed:
            # Its connection may have ended before itself did.
            server.raise_if_stopping("restoring into", schema)
            raise
        except ArchiveError as error:
            raise Damaged("restoring into", schema, str(error)) from error


class _Reading:
    """Sorts the lines of a dump: SQL of tables, and what our comment lines say."""

    def __init__(self, empty: Iterable[str] = ()) -> None:
        self.definitions: list[structure.Definition] = []
        self.unread: list[str] = []
        self.tables: list[str] = []
        self.exact: dict[str, str] = {}
        self.objects = self.ended = self.leaving_out = False
        self.left_out = tuple(f"INSERT INTO {quoted(name)} ".encode() for name in empty)

    def told(self, path: Path) -> Trailer:
        """Return the comment lines, once all were read. Raises ArchiveError where the file has no end."""
        if not self.ended:
            raise ArchiveError(f"{path.name} ends before its end")
        return Trailer(tuple(self.definitions), tuple(self.unread), tuple(self.tables), self.exact)

    def is_sql(self, fresh: bool, line: bytes) -> bool:
        """Whether the line goes to the server. Objects do not: an event would begin to act in the side schema."""
        if fresh and not (self.leaving_out and line.startswith(b"(")):
            # Each row of a statement may begin a line of its own.
            self.leaving_out = line.startswith(self.left_out)
        if fresh and line.startswith(OBJECTS):
            self.objects = True
        elif fresh and line.startswith(DEFINITION):
            self.definitions.append(structure.Definition(**json.loads(line[len(DEFINITION) :])))
        elif fresh and line.startswith(UNREAD):
            self.unread.append(json.loads(line[len(UNREAD) :])[0])
        elif fresh and line.startswith(END):
            end = json.loads(line[len(END) :])
            self.ended, self.tables, self.exact = True, end["tables"], end["exact"]
        return not self.objects and not self.leaving_out


DONE = "dbmaint_restored"
"""Table in the side schema that says the restore reached its end."""


def restore_beside(server: Server, image: Image, backup: Backup, seal: Seal) -> str:
    """See Rollback.restore_beside. Tables only; nothing in the side schema can act by itself."""
    if image.kind != "dump":
        raise Unable("restoring", server.schema, msg("an image of kind {kind} is not ours", kind=image.kind))
    side = new_schema(server)
    with server.session("preparing", side) as session:
        session.ask(f"DROP DATABASE IF EXISTS {quoted(side)}")
        structure.create_schema(session, side, server.schema)
    told = Trailer((), (), ())
    with failures_told("reading", image.name):
        exact = trailer(image.path, seal).exact if image.path is not None else {}
    if backup.method not in METHODS:
        # A physical backup holds the damage too; its image holds every table that could be read.
        told = load(server, backup.path, seal, side, exact)
    unread = set(told.unread) - {plain(name) for name in image.tables}
    if image.path is not None:
        told = load(server, image.path, seal, side, exact)
        unread |= set(told.unread)
    if exact:
        take_rows(server, side, exact)
    with server.session("completing", side) as session:
        _tidy(session, side, set(told.tables), unread)
        missing = set(told.tables) - unread - {table.name for table in structure.tables(session, side)}
        if missing:
            raise _incomplete(missing, backup)
        save_definitions(server, session, side, told.definitions)
        session.ask(f"CREATE TABLE {full(side, DONE)} (id TINYINT PRIMARY KEY, at DATETIME(6)) ENGINE=InnoDB")
        session.ask(f"INSERT INTO {full(side, DONE)} VALUES (1, UTC_TIMESTAMP(6))")
    return side


def _tidy(session: Session, side: str, live: set[str], unread: set[str]) -> None:
    """What the dump brought beyond the readable tables of the cut."""
    session.ask("SET SESSION foreign_key_checks = 0")
    for name in structure.sequence_names(session, side):
        # No maintenance touches a sequence: the live one stays.
        session.ask(f"DROP SEQUENCE IF EXISTS {full(side, name)}")
    for table in structure.tables(session, side):
        if table.name not in live or table.name in unread:
            session.ask(f"DROP TABLE IF EXISTS {full(side, table.name)}")
    session.ask("SET SESSION foreign_key_checks = 1")


def _incomplete(missing: set[str], backup: Backup) -> Exception:
    names = ", ".join(sorted(map(canonical, missing)))
    file = backup.path.name
    by_hand = {
        MARIABACKUP: msg(
            "{names} are only in the physical backup; on the database server: zstd -dc {file} |"
            " mbstream -x -C DIR; mariabackup --prepare --export --target-dir=DIR; then for each table DISCARD"
            " TABLESPACE, copy its .ibd and .cfg, IMPORT TABLESPACE (decrypt with age -d first where it ends in .age)",
            names=names,
            file=file,
        ),
        CLONE: msg(
            "{names} are only in the physical backup; on the database server: zstd -dc {file} | tar -x -C DIR, give DIR"
            " to the server's account, start a second mysqld with --datadir=DIR, and take the tables from there with"
            " mysqldump (decrypt with age -d first where the file ends in .age)",
            names=names,
            file=file,
        ),
    }
    if backup.method in by_hand:
        return Unable("restoring", names, by_hand[backup.method])
    return Damaged("restoring", names, msg("not in {name} and not in the image", name=file))
