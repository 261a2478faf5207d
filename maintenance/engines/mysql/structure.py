"""What is in the schema: tables, their sizes and columns, and the definitions of everything else.

Nothing here opens a table that the server would repair on opening: MariaDB repairs a MyISAM or Aria
table marked crashed, and drops rows while doing so, as soon as anything asks for its size. Name and
engine come from the definition file alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from .connection import Row, Session
from .driver_errors import LOST, code_of, words_of
from .filenames import from_file, in_file
from .names import full, plain, quoted
from .target import Server

REPAIRABLE = frozenset(("MyISAM", "Aria", "MRG_MyISAM"))


@dataclass(frozen=True)
class Table:
    """`versioned`: it keeps every former row too (MariaDB's WITH SYSTEM VERSIONING)."""

    name: str
    engine: str
    versioned: bool = False

    @property
    def transactional(self) -> bool:
        return self.engine == "InnoDB"


@dataclass(frozen=True)
class Size:
    """As information_schema.tables tells it; None where asking would open a table that repairs itself."""

    bytes: int
    free: int
    rows: int | None
    auto_increment: int | None
    created: datetime | None
    comment: str = ""
    known: bool = True


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    extra: str
    generation: str
    nullable: bool


@dataclass(frozen=True)
class Index:
    """`columns` holds None for an expression; `prefix` is true when only the beginning is indexed."""

    name: str
    unique: bool
    kind: str
    columns: tuple[str | None, ...]
    prefix: bool


@dataclass(frozen=True)
class ForeignKey:
    schema: str
    table: str
    name: str
    columns: tuple[str, ...]
    to_schema: str
    to_table: str
    to_columns: tuple[str, ...]


REMOTE = frozenset(("FEDERATED",))
"""Engines of tables whose rows another server holds: they answer when that one does, and are nothing to maintain."""


def tables(session: Session, schema: str) -> list[Table]:
    """Tables that store rows here, by name. Reads definition files only."""
    return [one for one in _named_tables(session, schema) if one.engine not in REMOTE]


def remote_tables(session: Session, schema: str) -> list[Table]:
    """Tables that stand for those of another server, by name. Reads definition files only."""
    return [one for one in _named_tables(session, schema) if one.engine in REMOTE]


def _named_tables(session: Session, schema: str) -> list[Table]:
    rows = session.ask(
        "SELECT table_name, engine, table_type FROM information_schema.tables WHERE table_schema = %(s)s"
        " AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY table_name",
        s=schema,
    )
    return [Table(str(name), str(engine or "unknown"), kind == "SYSTEM VERSIONED") for name, engine, kind in rows]


def chosen(all_tables: Iterable[Table], names: Iterable[str] | None) -> list[Table]:
    """Those of the canonical `names`, all for None."""
    if names is None:
        return list(all_tables)
    wanted = {plain(name) for name in names}
    return [table for table in all_tables if table.name in wanted]


def sizes(server: Server, session: Session, of: Iterable[Table], schema: str) -> dict[str, Size]:
    """Sizes by table name: of the files, as InnoDB or the file system tells them, else as statistics do.

    Figures of information_schema.tables are as old as the table's statistics.
    """
    of = list(of)
    careful = [table for table in of if server.capabilities.repairs_on_open and table.engine in REPAIRABLE]
    asked = {table.name for table in of if table not in careful}
    result: dict[str, Size] = {}
    files = _tablespaces(server, session, schema)
    sql = (
        "SELECT table_name, data_length, index_length, data_free, table_rows, auto_increment, create_time,"
        " table_comment FROM information_schema.tables WHERE table_schema = %(s)s"
    )
    if careful or len(asked) == 1 or remote_tables(session, schema):
        # One by one: a question about the whole schema would open the others too, or ask another server.
        found = [
            row for name in sorted(asked) for row in session.ask(f"{sql} AND table_name = %(t)s", s=schema, t=name)
        ]
    else:
        found = session.ask(sql, s=schema)
    for name, data, index, free, rows, auto, created, comment in found:
        if name in asked:
            held = files.get(str(name)) or int(data or 0) + int(index or 0) + int(free or 0)
            result[str(name)] = Size(held, int(free or 0), rows, auto, created, str(comment or ""))
    for table in careful:
        held_by_files = _file_bytes(server.data_folder(session), schema, table.name)
        result[table.name] = Size(held_by_files or 0, 0, None, None, None, known=held_by_files is not None)
    return result


def _tablespaces(server: Server, session: Session, schema: str) -> dict[str, int]:
    """Bytes of each table's own files, partitions together; needs PROCESS; empty without it."""
    try:
        rows = session.ask(f"SELECT name, file_size FROM information_schema.{server.capabilities.tablespaces}")
    except DBAPIError:
        return {}
    held: dict[str, int] = {}
    for name, size in rows:
        folder, _, file = str(name).partition("/")
        if from_file(folder) == schema:
            table = from_file(PARTITION.split(file)[0])
            held[table] = held.get(table, 0) + int(size)
    return held


PARTITION = re.compile(r"#[Pp]#")
"""What InnoDB puts between the name of a table and of its partition."""


def file_stem(folder: Path, schema: str, table: str) -> Path:
    """Where a table's files lie, without extension."""
    return folder / in_file(schema) / in_file(table)


def _file_bytes(folder: Path | None, schema: str, table: str) -> int | None:
    if folder is None:
        return None
    stem = file_stem(folder, schema, table)
    try:
        return sum(path.stat().st_size for path in stem.parent.glob(stem.name + ".M*"))
    except OSError:
        return None


CRASHED = 0b110
"""The server met damage, or a repair of the server's ended in the middle: whatever opens the table then repairs it."""
MARKS = {"MyISAM": (".MYI", 26), "Aria": (".MAI", 27)}
"""File and byte in which an engine that repairs keeps this mark."""


def marked_crashed(folder: Path | None, schema: str, table: Table) -> bool | None:
    """Whether the index file of a MyISAM or Aria table carries the crashed mark; None where it cannot be read."""
    if folder is None or table.engine not in MARKS:
        return None
    ending, place = MARKS[table.engine]
    stem = file_stem(folder, schema, table.name)
    try:
        with open(stem.with_name(stem.name + ending), "rb") as file:
            head = file.read(place + 1)
    except OSError:
        return None
    return len(head) <= place or bool(head[place] & CRASHED)


def columns(session: Session, schema: str, table: str) -> list[Column]:
    rows = session.ask(
        "SELECT column_name, data_type, extra, generation_expression, is_nullable FROM information_schema.columns"
        " WHERE table_schema = %(s)s AND table_name = %(t)s ORDER BY ordinal_position",
        s=schema,
        t=table,
    )
    return [
        Column(str(name), _text(kind).lower(), _text(extra).upper(), _text(generated), nullable == "YES")
        for name, kind, extra, generated, nullable in rows
    ]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def indexes(session: Session, schema: str, table: str) -> list[Index]:
    """Every index but nothing of the rows; PRIMARY first."""
    rows = session.ask(
        "SELECT index_name, non_unique, index_type, column_name, sub_part FROM information_schema.statistics"
        " WHERE table_schema = %(s)s AND table_name = %(t)s ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
        s=schema,
        t=table,
    )
    grouped: dict[str, list[tuple[object, ...]]] = {}
    for row in rows:
        grouped.setdefault(str(row[0]), []).append(row)
    return [
        Index(
            name,
            not parts[0][1],
            str(parts[0][2]),
            tuple(None if part[3] is None else str(part[3]) for part in parts),
            any(part[4] is not None for part in parts),
        )
        for name, parts in grouped.items()
    ]


def foreign_keys(server: Server, session: Session, schema: str) -> list[ForeignKey]:
    """Those of the schema's tables, and those of other schemas that lead into it.

    Asked of InnoDB alone where the server would open every table of every schema to answer.
    """
    rows = (
        _keys_of_innodb(session, schema)
        if server.capabilities.repairs_on_open
        else _keys_of_dictionary(session, schema)
    )
    grouped: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
    for row in sorted(rows, key=lambda row: (row[0], row[1], row[2], row[7])):
        grouped.setdefault((str(row[0]), str(row[1]), str(row[2])), []).append(tuple(map(str, row)))
    return [
        ForeignKey(
            own,
            table,
            name,
            tuple(part[3] for part in parts),
            parts[0][4],
            parts[0][5],
            tuple(part[6] for part in parts),
        )
        for (own, table, name), parts in grouped.items()
    ]


def _keys_of_innodb(session: Session, schema: str) -> list[Row]:
    found = []
    rows = session.ask(
        "SELECT f.id, f.for_name, c.for_col_name, f.ref_name, c.ref_col_name, c.pos"
        " FROM information_schema.innodb_sys_foreign f JOIN information_schema.innodb_sys_foreign_cols c ON c.id = f.id"
    )
    for number, own, column, other, other_column, position in rows:
        name = str(number).partition("/")[2]
        (own_schema, own_table), (to_schema, to_table) = in_schema(str(own)), in_schema(str(other))
        if schema in (own_schema, to_schema):
            found.append((own_schema, own_table, name, column, to_schema, to_table, other_column, int(position)))
    return found


def _keys_of_dictionary(session: Session, schema: str) -> list[Row]:
    return session.ask(
        "SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema,"
        " k.referenced_table_name, k.referenced_column_name, k.ordinal_position"
        " FROM information_schema.key_column_usage k"
        " WHERE k.referenced_table_name IS NOT NULL AND (k.table_schema = %(s)s OR k.referenced_table_schema = %(s)s)",
        s=schema,
    )


def in_schema(name: str) -> tuple[str, str]:
    """Return schema and table of a name as InnoDB writes it, e.g. 'shop/orders#p#p0'."""
    folder, _, file = name.partition("/")
    return from_file(folder), from_file(PARTITION.split(file)[0])


def schema_collation(session: Session, schema: str) -> tuple[str, str] | None:
    """Character set and collation of a schema, None when there is no such schema."""
    rows = session.ask(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata"
        " WHERE schema_name = %(s)s",
        s=schema,
    )
    return (str(rows[0][0]), str(rows[0][1])) if rows else None


def schema_exists(session: Session, schema: str) -> bool:
    """Return whether the schema is there."""
    return schema_collation(session, schema) is not None


def create_schema(session: Session, schema: str, like: str) -> None:
    """A schema with the character set and collation of another; one that is there stays."""
    found = schema_collation(session, like)
    clause = f" CHARACTER SET {found[0]} COLLATE {found[1]}" if found else ""
    session.ask(f"CREATE DATABASE IF NOT EXISTS {quoted(schema)}{clause}")


# -- definitions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Definition:
    """A view, trigger, routine or event, with what its meaning depends on."""

    kind: str
    name: str
    sql: str
    sql_mode: str = ""
    charset: str = "utf8mb4"
    collation: str = "utf8mb4_general_ci"
    time_zone: str = ""
    table: str = ""
    schema: str = ""

    def to_json(self) -> dict[str, str]:
        return dict(self.__dict__)

    @property
    def digest(self) -> str:
        """Of everything but whether an event is enabled: that belongs to the gate."""
        sql = EVENT_STATE.sub("", self.sql, count=1) if self.kind == "event" else self.sql
        text = "\n".join((sql, self.sql_mode, self.charset, self.collation, self.time_zone))
        return hashlib.sha256(text.encode()).hexdigest()


EVENT_STATE = re.compile(r" (ENABLE|DISABLE( ON (SLAVE|REPLICA))?)(?= |$)")


def by_transaction(session: Session, schema: str, of: Iterable[Table]) -> list[Table]:
    """Return those of the tables that keep their history by numbers of transactions instead of times."""
    versioned = [table for table in of if table.versioned]
    return [
        table
        for table in versioned
        if any(c.generation.upper() == "ROW START" and c.type == "bigint" for c in columns(session, schema, table.name))
    ]


def broken_views(session: Session, schema: str) -> dict[str, str]:
    """Return the views that answer nothing, because of what they refer to or of who defined them -> the server's words.

    The dump tools give up at the first of them.
    """
    found = {}
    for name in view_names(session, schema):
        try:
            session.ask(f"SHOW FIELDS FROM {full(schema, name)}")
        except DBAPIError as error:
            if code_of(error) in LOST:
                raise
            found[name] = words_of(error)
    return found


def view_names(session: Session, schema: str) -> list[str]:
    """Return the views of the schema."""
    rows = session.ask(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %(s)s AND table_type = 'VIEW'"
        " ORDER BY table_name",
        s=schema,
    )
    return [str(row[0]) for row in rows]


def sequence_names(session: Session, schema: str) -> list[str]:
    """Return the sequences of the schema."""
    rows = session.ask(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %(s)s AND table_type = 'SEQUENCE'"
        " ORDER BY table_name",
        s=schema,
    )
    return [str(row[0]) for row in rows]


def triggers(session: Session, schema: str) -> list[Definition]:
    """In the order in which they act."""
    rows = session.ask(
        "SELECT trigger_name, event_object_table FROM information_schema.triggers WHERE trigger_schema = %(s)s"
        " ORDER BY event_object_table, event_manipulation, action_timing, action_order",
        s=schema,
    )
    found = []
    for name, table in rows:
        shown = session.ask(f"SHOW CREATE TRIGGER {full(schema, str(name))}")[0]
        found.append(
            Definition(
                "trigger", str(name), str(shown[2]), str(shown[1]), str(shown[3]), str(shown[4]), table=str(table)
            )
        )
    return found


def definitions(session: Session, schema: str) -> list[Definition]:
    """Everything but tables, in an order in which it can be created: what others use comes first."""
    found: list[Definition] = []
    for kind, name in session.ask(
        "SELECT routine_type, routine_name FROM information_schema.routines WHERE routine_schema = %(s)s"
        " AND routine_type IN ('FUNCTION', 'PROCEDURE') ORDER BY routine_type, routine_name",
        s=schema,
    ):
        shown = session.ask(f"SHOW CREATE {kind} {full(schema, str(name))}")[0]
        found.append(
            Definition(str(kind).lower(), str(name), str(shown[2] or ""), str(shown[1]), str(shown[3]), str(shown[4]))
        )
    for name in view_names(session, schema):
        shown = session.ask(f"SHOW CREATE VIEW {full(schema, name)}")[0]
        found.append(Definition("view", name, str(shown[1]), charset=str(shown[2]), collation=str(shown[3])))
    found += triggers(session, schema)
    for (name,) in session.ask(
        "SELECT event_name FROM information_schema.events WHERE event_schema = %(s)s ORDER BY event_name", s=schema
    ):
        shown = session.ask(f"SHOW CREATE EVENT {full(schema, str(name))}")[0]
        found.append(
            Definition(
                "event", str(name), str(shown[3]), str(shown[1]), str(shown[4]), str(shown[5]), time_zone=str(shown[2])
            )
        )
    return found


def create(session: Session, definition: Definition, schema: str) -> None:
    """Create it again as it was: same definer, sql_mode, character set and time zone."""
    session.verbatim(f"USE {quoted(schema)}")
    statement = session.encoded(definition.sql, definition.charset)
    session.ask(
        "SET SESSION sql_mode = %(mode)s, character_set_client = %(charset)s, collation_connection = %(collation)s",
        mode=definition.sql_mode,
        charset=definition.charset,
        collation=definition.collation,
    )
    if definition.time_zone:
        session.ask("SET SESSION time_zone = %(zone)s", zone=definition.time_zone)
    try:
        session.verbatim(statement)
    finally:
        session.ask("SET NAMES utf8mb4")
        session.ask("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")


def table_definition(session: Session, schema: str, table: str) -> str:
    """SHOW CREATE TABLE without the next AUTO_INCREMENT, which is data."""
    shown = str(session.ask(f"SHOW CREATE TABLE {full(schema, table)}")[0][1])
    return re.sub(r"(\n\).*?) AUTO_INCREMENT=\d+", r"\1", shown)
