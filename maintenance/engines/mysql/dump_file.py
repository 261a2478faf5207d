"""A dump file: what the product's tool writes, with lines of ours in it that say what else is there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from .. import archive, programs
from ..archive import Archive, ArchiveError, Seal
from ..errors import Unable
from ..messages import msg
from . import structure
from .address import is_mariadbs
from .native_programs import failures_told, program
from .repair.corruption import unreadable_tables
from .target import ALL_ROWS, Server

DEFINITION = b"-- dbmaint definition "


UNREAD = b"-- dbmaint unread "


OBJECTS = b"-- dbmaint objects"


END = b"-- dbmaint end "


COMPLETED = b"-- Dump completed"


@dataclass(frozen=True)
class Contents:
    """What goes into a dump file: runs of the tool for tables, then for the rest, then our comment lines."""

    table_parts: Sequence[list[str]]
    object_parts: Sequence[list[str]]
    definitions: Sequence[structure.Definition]
    unread: Mapping[str, str]
    tables: Sequence[str]
    """Every table of the schema at that moment, readable or not."""
    exact: Mapping[str, str] = field(default_factory=dict)
    """Tables whose rows lie in a copy on the server -> time zone in which their stored columns are computed."""


def write_dump(server: Server, final: Path, seal: Seal, contents: Contents, doing: str) -> Archive:
    """Runs the dump tool once a part, streams all into one file, reads it back whole, gives it its name."""
    _refuse_a_limit_of_rows(server, doing)
    part = archive.part_of(final, seal)
    stream = Chunks(_dump_stream(server, contents))
    with failures_told(doing, server.schema):
        try:
            written = archive.write(cast(IO[bytes], stream), part, seal)
        except Exception:
            # The reason lies in the stream; the sealing library may have wrapped it.
            if stream.failure is not None:
                raise stream.failure from None
            raise
        parts = len(contents.table_parts) + len(contents.object_parts)
        with archive.removed_unless_good(part):
            archive.read_back(written, seal, lambda stream: _count_parts(stream, final, parts))
            archive.publish(part, final)
    return Archive(final, written.bytes, written.sha256)


def _refuse_a_limit_of_rows(server: Server, doing: str) -> None:
    """The tool asks under the server's defaults, and takes what it gets for the whole table. Raises Unable."""
    with server.session("looking for a limit of rows on") as session:
        limit = int(str(session.value("SELECT @@GLOBAL.sql_select_limit")))
    if limit < ALL_ROWS:
        words = msg(
            "sql_select_limit is {limit} on this server, so a dump would hold no more rows of any table;"
            " SET GLOBAL sql_select_limit = DEFAULT",
            limit=limit,
        )
        raise Unable(doing, server.schema, words)


def _dump_stream(server: Server, contents: Contents) -> Iterator[bytes]:
    for args in contents.table_parts:
        yield from _output(server, args)
    yield OBJECTS + b"\n"
    for args in contents.object_parts:
        yield from _output(server, args)
    for one in contents.definitions:
        yield DEFINITION + json.dumps(one.to_json()).encode() + b"\n"
    for name, why in contents.unread.items():
        yield UNREAD + json.dumps([name, why]).encode() + b"\n"
    yield END + json.dumps({"tables": list(contents.tables), "exact": dict(contents.exact)}).encode() + b"\n"


def _output(server: Server, args: Sequence[str]) -> Iterator[bytes]:
    with programs.running(args, secrets=server.secrets(), stop=server.stopping) as child:
        assert child.stdout is not None
        while chunk := child.stdout.read(archive.CHUNK):
            yield chunk


def _count_parts(stream: IO[bytes], final: Path, parts: int) -> None:
    """Decode everything. Raises ArchiveError unless every run of the tool reached its end, and so did we."""
    completed, ended = 0, False
    for fresh, line in lines_of(stream):
        completed += fresh and line.startswith(COMPLETED)
        ended = fresh and line.startswith(END)
    if completed < parts:
        raise ArchiveError(f"{final.name}: {completed} of {parts} parts reached their end")
    if not ended:
        raise ArchiveError(f"{final.name} ends before its end")


def dump_program(server: Server) -> str:
    """Raises Unable when the product's dump tool is not installed."""
    return program(server.capabilities.dump_programs, server)


def client_program(server: Server) -> str:
    """Raises Unable when the product's client is not installed."""
    return program(server.capabilities.client_programs, server)


def _dump_options(server: Server, program: str) -> tuple[str, ...]:
    """Of the tool at hand. MariaDB's dumps MySQL too, but its statements for generated columns do not load again."""
    if not server.capabilities.dump_options:
        return ()
    limit = _statement_limit(server)
    if not is_mariadbs(program):
        unlimited = ("--init-command=SET SESSION max_execution_time = 0",) if limit else ()
        return (*server.capabilities.dump_options, *unlimited)
    if limit:
        words = msg(
            "max_execution_time is {limit} ms on this server, and MariaDB's dump tool would be ended by it; SET GLOBAL"
            " max_execution_time = 0, or install MySQL's own mysqldump",
            limit=limit,
        )
        raise Unable("backing up", server.schema, words)
    with server.session("looking for generated columns in") as session:
        generated = session.value(
            "SELECT CONCAT(table_name, '.', column_name) FROM information_schema.columns"
            " WHERE table_schema = %(s)s AND generation_expression <> '' LIMIT 1",
            s=server.schema,
        )
    if generated is not None:
        words = msg(
            "MariaDB's dump tool cannot dump the generated column {column} of MySQL; install MySQL's own mysqldump",
            column=str(generated),
        )
        raise Unable("backing up", server.schema, words)
    return ()


def _statement_limit(server: Server) -> int:
    """Return after how many milliseconds the server ends a SELECT of a session that sets nothing; 0: never."""
    with server.session("looking for a limit of time on") as session:
        return int(str(session.value("SELECT @@GLOBAL.max_execution_time")))


def _history_options(server: Server) -> tuple[str, ...]:
    """Former rows of system-versioned tables are rows too. A tool before 10.11 says that it cannot."""
    with server.session("looking for kept histories in") as session:
        kept = any(table.versioned for table in structure.tables(session, server.schema))
    return ("--dump-history",) if kept else ()


def _common(server: Server) -> list[str]:
    program = dump_program(server)
    return [
        program,
        *server.address(program),
        "--single-transaction",
        # Nobody else is in a side schema; and a sequence that a default takes numbers from is not among what is locked.
        "--skip-add-locks",
        "--quick",
        "--hex-blob",
        "--default-character-set=utf8mb4",
        "--no-tablespaces",
        "--max-allowed-packet=1G",
        *_dump_options(server, program),
        *_history_options(server),
    ]


def tables_dump(server: Server, only: Sequence[str] | None = None, rows: bool = True) -> list[str]:
    """Tables and rows, no triggers: what is loaded into a side schema must not act there."""
    if only is not None:
        without = () if rows else ("--no-data",)
        return [*_common(server), "--skip-triggers", *without, "--", server.schema, *only]
    with server.session("listing views of") as session:
        # A table of another server's rows stays where it is; made a second time it would ask for that server.
        left_out = [one.name for one in structure.remote_tables(session, server.schema)]
        left_out += structure.view_names(session, server.schema)
    ignored = [f"--ignore-table={server.schema}.{name}" for name in left_out]
    return [*_common(server), "--skip-triggers", *ignored, "--", server.schema]


def objects_dumps(server: Server) -> list[list[str]]:
    """Routines, events and triggers; then views, which may use them. With their definers.

    A view that is broken is in our comment lines alone: its tool gives up at it.
    """
    with server.session("listing views of") as session:
        broken = structure.broken_views(session, server.schema)
        views = [name for name in structure.view_names(session, server.schema) if name not in broken]
        remote = [one.name for one in structure.remote_tables(session, server.schema)]
    acting = ["--no-data", "--no-create-info", "--routines", "--events", "--triggers"]
    closed = unreadable_tables(server) if server.capabilities.repairs_on_open else ()
    ignored = [f"--ignore-table={server.schema}.{name}" for name in (*closed, *broken, *remote)]
    parts = [[*_common(server), *acting, *ignored, "--", server.schema]]
    if views:
        parts.append([*_common(server), "--no-data", "--skip-triggers", "--", server.schema, *views])
    return parts


class Chunks(io.RawIOBase):
    """A readable stream over pieces that are made while it is read. Keeps the failure that ended it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.rest = pieces, b""
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            while not self.rest or size < 0:
                piece = next(self.pieces, None)
                if piece is None:
                    break
                self.rest += piece
        except Exception as error:
            self.failure = error
            raise
        taken = self.rest if size < 0 else self.rest[:size]
        self.rest = self.rest[len(taken) :]
        return taken

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        taken = self.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)


def lines_of(stream: IO[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Lines, with whether each begins a line: of a long one a megabyte at a time. Our own come whole."""
    reader = io.BufferedReader(cast(io.RawIOBase, stream), archive.CHUNK)
    fresh = True
    while piece := reader.readline(archive.CHUNK):
        if fresh and piece.startswith(b"-- dbmaint "):
            while not piece.endswith(b"\n") and (more := reader.readline(archive.CHUNK)):
                piece += more
        yield fresh, piece
        fresh = piece.endswith(b"\n")
