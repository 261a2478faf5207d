"""Puts a damaged file together again, from whatever state: sound tables stay as they are, of the others every row that
can be found goes where it belongs, and what belongs nowhere for certain into a table `lost_and_found`.

All of it happens on a copy. Its first page is written anew with an empty schema, without a list of free pages, so that
nothing that is damaged is believed and no page is given out a second time; the entries of the schema that can be read
are put in again, damaged tables are made again, and VACUUM INTO leaves the damaged pages behind.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import Damaged
from ...messages import Message, listed, msg
from ...values import Loss, Performed
from ..backup import image_copy
from ..connection import connect, fresh
from ..diagnosis.corruption import Harm
from ..file_copies import synced
from ..file_header import MAGIC
from ..names import JOURNALS, Table, canonical, quoted
from ..restore import put_in_place
from ..target import DatabaseFile
from .evidence import digest
from .insertion import insert_rows
from .layout import layout_of
from .model import Model
from .pages import Cell, PageFile
from .placing import Beside, DamagedTable, suspects
from .putting import make_indexes, mend_sequences, put, put_beside
from .remains import Remains, gather, is_whole, look_at, looks_sound, loss_of, rows_file, unclaimed
from .schema_pages import Entry
from .search_again import make_search_again
from .shape import Shape, fits, row_of


@dataclass
class Outcome:
    """What became of the tables of a file. `stayed` are as they were, `moved` put together again."""

    losses: list[Loss]
    stayed: int
    moved: int
    beside: int
    """Rows in no table for certain."""


def salvage_file(file: DatabaseFile, allow_data_loss: bool) -> Performed:
    """Raises Damaged, with nothing changed, when rows are lost or may be and `allow_data_loss` is false."""
    image_copy(file)
    before, target = file.path.stat().st_size, file.sides.restored
    try:
        outcome = _made_beside(file, target, allow_data_loss)
        if outcome.losses and not allow_data_loss:
            raise Damaged("saving what is left of", file.name, listed([_named(loss) for loss in outcome.losses[:3]]))
        after = target.stat().st_size
        put_in_place(file, target)
    finally:
        for path in (file.sides.remade, target):
            for ending in ("", *JOURNALS):
                path.with_name(path.name + ending).unlink(missing_ok=True)
    sentence = msg(
        "{stayed} tables were left as they are and {moved} put together again, with {beside:,} rows beside them.",
        stayed=outcome.stayed,
        moved=outcome.moved,
        beside=outcome.beside,
    )
    return Performed(sentence, before, after, tuple(outcome.losses))


def _named(loss: Loss) -> Message:
    return msg("{object}: {detail}", object=loss.object, detail=loss.detail)


def _made_beside(file: DatabaseFile, target: Path, leave: bool) -> Outcome:
    evidence = file.sides.evidence
    layout = layout_of(evidence) if evidence.stat().st_size else None
    if layout is None:
        raise Damaged("saving what is left of", file.name, "no page of the file follows the format")
    with PageFile(evidence, layout) as source, rows_file(file) as rows:
        remains = look_at(file, source, rows)
        if not remains.schema.entries and not _holds_rows(source):
            words = msg("no page of the file holds a table or a row; restore the file from a backup")
            raise Damaged("saving what is left of", file.name, words)
        try:
            return _made_again(remains, target, leave, distrust=False)
        except Damaged:
            # Something that looked sound could not be copied: then every table is read page by page.
            return _made_again(look_at(file, source, rows), target, leave, distrust=True)


def _holds_rows(source: PageFile) -> bool:
    return any(cell is not None for number in range(1, source.count + 1) for cell in source.cells(number))


@contextmanager
def _writing(remains: Remains, path: Path, doing: str) -> Iterator[sqlite3.Connection]:
    """A copy of ours, of which nothing is left when the work on it does not end."""
    with remains.file.side(path, doing, "rw") as work:
        work.execute("PRAGMA journal_mode = MEMORY")
        work.execute("PRAGMA synchronous = OFF")
        yield work


# -- the copy ------------------------------------------------------------------------------------------


def _made_again(remains: Remains, target: Path, leave: bool, distrust: bool) -> Outcome:
    """`leave` to lose rows; `distrust`: every table is read page by page, whatever it looks like."""
    remade, model = remains.file.sides.remade, remains.model
    _empty_schema(remains, remade)
    candidates = [] if distrust else [entry for entry in model.tables.values() if looks_sound(remains, entry)]
    _enter(remade, [e for entry in candidates for e in _entered(remains, entry)])
    with _writing(remains, remade, "putting together again") as work:
        alone = len(candidates) == len(model.tables) and not unclaimed(remains)
        sound = {entry.name.lower() for entry in candidates} - _remake_indexes(remains, work, candidates, alone)
        suspected = suspects(
            remains.source, unclaimed(remains), {name: model.shape(model.tables[name]) for name in sound}
        )
        sound -= suspected
        beside = Beside(remains.rows)
        if not leave:
            beside.known = Known([model.tables[name] for name in sound], model, work)
        damaged = gather(remains, sound, beside, suspected)
        notes = [note for table in damaged for note in put(remains, work, table, beside)]
        told = [(table, loss_of(remains, table)) for table in damaged]
        losses = [loss or _moved_whole(work, table) for table, loss in told if loss is not None or leave]
        count = put_beside(work, beside, {str(name).lower() for name in remains.names})
        mend_sequences(work, model)
    losses += [*_lost_definitions(remains), *notes]
    if count or not remains.schema.whole or not any(remains.header):
        losses.append(_loss_of_file(remains, count))
    _enter(remade, [*model.virtual, *model.others])
    _rewrite(remains, remade, target)
    lost = {table.name for table, loss in told if loss is not None}
    if lost and model.virtual:
        with _writing(remains, target, "making again the search indexes of") as work:
            losses += make_search_again(work, lost)
        synced(target)
    return Outcome(losses, len(sound), len(damaged), count)


def _moved_whole(work: sqlite3.Connection, table: DamagedTable) -> Loss:
    """Nothing is known to be missing; yet it is not the table it was, and is told with those."""
    kept = int(work.execute(f"SELECT count(*) FROM {quoted(table.name)}").fetchone()[0])
    lost = 0 if table.witnesses.complete else None
    detail = msg("{kept:,} rows were put together again, and nothing tells of more", kept=kept)
    return Loss(canonical(table.name), lost, tuple(sorted({page for page in table.lost_pages if page})), detail)


class Known:
    """Says whether a row is in one of the sound tables: pages that nothing leads to keep what was moved since."""

    def __init__(self, tables: Sequence[Entry], model: Model, work: sqlite3.Connection) -> None:
        self.tables = [(entry, model.shape(entry)) for entry in tables]
        self.work = work

    def __call__(self, cell: Cell) -> bool:
        return any(self._has(entry, shape, cell) for entry, shape in self.tables if fits(cell, shape))

    def _has(self, entry: Entry, shape: Shape, cell: Cell) -> bool:
        row = row_of(cell, shape)
        columns = ", ".join(quoted(name) for name in shape.stored)
        if shape.without_rowid:
            places = [shape.stored.index(name) for name in shape.key]
            condition = " AND ".join(f"{quoted(name)} IS ?" for name in shape.key)
            values = [row[place] for place in places]
        elif shape.rowid_name is not None:
            condition, values = f"{shape.rowid_name} = ?", [cell.rowid]
        else:
            return False
        try:
            found = self.work.execute(
                f"SELECT {columns} FROM {quoted(entry.name)} WHERE {condition}", values
            ).fetchone()
        except sqlite3.Error:
            return False
        return found is not None and digest(found) == digest(row)


def _rewrite(remains: Remains, remade: Path, target: Path) -> None:
    vacuum, incremental = (any(remains.header[place : place + 4]) for place in (52, 64))
    with _writing(remains, remade, "rewriting") as work:
        work.execute(_AUTO_VACUUM[vacuum + (vacuum and incremental)])
        fresh(target)
        work.execute("VACUUM INTO ?", (os.fsdecode(target),))
    if remains.model.with_statistics:
        with _writing(remains, target, "collecting statistics of") as work:
            work.execute("ANALYZE")
    synced(target)


_AUTO_VACUUM = tuple(f"PRAGMA auto_vacuum = {mode}" for mode in ("NONE", "FULL", "INCREMENTAL"))


def _empty_schema(remains: Remains, remade: Path) -> None:
    """https://sqlite.org/fileformat2.html, 1.3 and 1.6."""
    source, header = remains.source, remains.header
    remains.file.copy_bytes(remains.file.sides.evidence, remade)
    page = bytearray(source.size)
    page[:16] = MAGIC
    size = 1 if source.size == 65536 else source.size
    struct.pack_into(">HBBBBBB", page, 16, size, 1, 1, source.layout.reserved, 64, 32, 32)
    struct.pack_into(">II", page, 24, 1, source.count)
    struct.pack_into(">II", page, 40, 1, 4)  # schema cookie, schema format
    struct.pack_into(">I", page, 56, source.layout.encoding)
    page[60:64], page[68:72] = header[60:64], header[68:72]  # user_version, application_id
    struct.pack_into(">II", page, 92, 1, 3_040_000)
    struct.pack_into(">BHHHB", page, 100, 0x0D, 0, 0, source.usable % 65536, 0)
    descriptor = os.open(remade, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, source.count * source.size)
        os.pwrite(descriptor, page, 0)
    finally:
        os.close(descriptor)


def _entered(remains: Remains, table: Entry) -> list[Entry]:
    constraint = [
        Entry("index", name, table.name, remains.model.constraint_roots[name.lower()], None)
        for name in remains.model.constraint_indexes(table)
    ]
    own = [index for index in remains.model.indexes.get(table.name.lower(), ()) if is_whole(remains, index.name)]
    return [table, *constraint, *own]


def _enter(remade: Path, entries: Sequence[Entry]) -> None:
    """Write rows of the schema as they are, root pages included."""
    with closing(connect(remade)) as work:
        work.execute("PRAGMA journal_mode = MEMORY")
        work.execute("PRAGMA synchronous = OFF")
        work.execute("PRAGMA writable_schema = ON")
        work.execute("BEGIN")
        rows = [(entry.kind, entry.name, entry.table, max(0, entry.root), entry.sql) for entry in entries]
        insert_rows(work, "INSERT INTO sqlite_master", rows)
        work.execute("COMMIT")


def _remake_indexes(remains: Remains, work: sqlite3.Connection, candidates: Sequence[Entry], alone: bool) -> set[str]:
    """Make damaged indexes of sound tables again; return the tables that are not sound after all, folded.

    `alone`: nothing else in the file is damaged. Otherwise a table that its index contradicts may hold rows of another.
    """
    unsound: set[str] = set()
    for entry in candidates:
        remains.file.raise_if_stopping("checking", entry.name)
        table = Table(entry.name, entry.root, entry.sql or "")
        harm = Harm(work, [table], whole=False)
        sick = {*harm.broken.get(table.canonical, []), *harm.wrong.get(table.canonical, [])}
        own = remains.model.indexes.get(entry.name.lower(), [])
        known = {str(row[0]) for row in work.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        again = [index for index in own if index.name in sick or index.name not in known]
        doubted = bool(harm.wrong) and not alone
        if harm.rows or doubted or sick - {index.name for index in own} or not make_indexes(work, again):
            unsound.add(entry.name.lower())
    return unsound


def _lost_definitions(remains: Remains) -> list[Loss]:
    detail = msg("the definition cannot be read by this SQLite and is left out; rows of a table lie in lost_and_found")
    return [
        Loss(f"{entry.kind} {canonical(entry.name)}", None if entry.kind == "table" else 0, (), detail)
        for entry in remains.model.unparsed
    ]


def _loss_of_file(remains: Remains, beside: int) -> Loss:
    detail = msg(
        "{beside:,} rows that belong to no table for certain are in the table lost_and_found; of the first page and the"
        " schema {schema}",
        beside=beside,
        schema=_state_of_schema(remains),
    )
    return Loss(_named_apart(remains.file.name), None if not remains.schema.whole else 0, (), detail)


def _named_apart(file_name: str) -> str:
    """As no table is: a name with a dot is always quoted there."""
    return file_name if "." in file_name else f"file {file_name}"


def _state_of_schema(remains: Remains) -> Message:
    if not any(remains.header):
        return msg("the settings are lost (user_version, application_id, the list of free pages), they begin at zero")
    if not remains.schema.whole:
        return msg("a part is lost, with the names of the tables that it defined")
    return msg("everything could be read")
