"""Repair of MyISAM and Aria tables. What may drop rows works on a table whose files are kept first."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unreachable
from ..values import Loss, Performed
from ..words import say
from . import structure
from .names import canonical, full
from .proof import check_table, read_whole
from .quarantine import old_schema
from .server import Server
from .structure import REPAIRABLE, Table

FILES = (".frm", ".MYD", ".MYI", ".MAD", ".MAI")


def repair_files(server: Server, table: Table, allow_data_loss: bool) -> Performed:
    """Checks; repairs the index alone; only then the whole table, when loss is allowed or can be undone."""
    name = canonical(table.name)
    complaint = _complaint(server, table)
    if complaint is None:
        return Performed(say("{table} is sound", table=name), None, None)
    if table.engine not in REPAIRABLE:
        raise Damaged("repairing", name, f"{complaint}; the storage engine {table.engine} cannot repair")
    _repair(server, table, "QUICK")
    if (left := _complaint(server, table)) is None:
        return Performed(say("The index of {table} was damaged and was repaired", table=name), None, None)
    kept = _keep_files(server, table)
    if kept is None and not allow_data_loss:
        raise Damaged("repairing", name, f"{left}; a full repair may drop rows, and its files cannot be kept from here")
    words = _repair(server, table, "")
    if _complaint(server, table) is not None:
        words += _repair(server, table, "USE_FRM")
    if (left := _complaint(server, table)) is not None:
        raise Damaged("repairing", name, left)
    lost = _dropped(words)
    if lost and not allow_data_loss and kept is not None:
        _put_files_back(server, table, kept)
        raise Damaged("repairing", name, f"a full repair would drop {lost} rows; the files were put back")
    losses = (Loss(name, lost, (), say("Rows that REPAIR TABLE could not read")),) if lost else ()
    return Performed(say("{table} was damaged and was repaired", table=name), None, None, losses)


def _complaint(server: Server, table: Table) -> str | None:
    try:
        check_table(server, table, extended=False)
        with server.session("reading", canonical(table.name)) as session:
            read_whole(session, server.schema, table.name)
    except (Interrupted, Transient, Unreachable, ResourceShortage):
        raise
    except EngineError as error:
        return error.words
    return None


def _repair(server: Server, table: Table, how: str) -> list[str]:
    """REPAIR's own words. Its verdict is not believed either way: the caller checks again."""
    with server.session("repairing", canonical(table.name), limited=False) as session:
        rows = server.admin(session, f"REPAIR NO_WRITE_TO_BINLOG TABLE {full(server.schema, table.name)} {how}")
    return [str(row[3]) for row in rows]


def _dropped(words: list[str]) -> int:
    """From 'Number of rows changed from 20000 to 19999'."""
    lost = 0
    for line in words:
        before, marker, after = line.partition("Number of rows changed from ")[2].partition(" to ")
        if marker and before.isdigit() and after.strip().isdigit():
            lost = max(lost, int(before) - int(after))
    return lost


def _keep_files(server: Server, table: Table) -> Path | None:
    """Copies the table's files into the quarantine schema's folder; None where this process cannot."""
    with server.session("keeping the files of", canonical(table.name)) as session:
        folder = server.data_folder(session)
        if folder is None:
            return None
        structure.create_schema(session, old_schema(server), server.schema)
        session.ask(f"FLUSH LOCAL TABLES {full(server.schema, table.name)}")
        source = structure.file_stem(folder, server.schema, table.name)
        kept = structure.file_stem(folder, old_schema(server), table.name)
        try:
            for path in (source.with_name(source.name + ending) for ending in FILES):
                target = kept.with_name(kept.name + path.suffix)
                if path.exists() and not target.exists():
                    _copy(path, target)
        except OSError:
            return None
        return kept


def _put_files_back(server: Server, table: Table, kept: Path) -> None:
    with server.session("putting back the files of", canonical(table.name)) as session:
        folder = server.data_folder(session)
        if folder is None:
            raise Damaged("putting back the files of", canonical(table.name), f"they are kept as {kept}.*")
        session.ask(f"FLUSH LOCAL TABLES {full(server.schema, table.name)}")
        live = structure.file_stem(folder, server.schema, table.name)
        for ending in FILES:
            source = kept.with_name(kept.name + ending)
            if source.exists():
                _copy(source, live.with_name(live.name + ending))
        session.ask(f"FLUSH LOCAL TABLES {full(server.schema, table.name)}")


def _copy(source: Path, target: Path) -> None:
    """With owner and mode: the server must be able to open it."""
    part = target.with_name(target.name + ".part")
    shutil.copy2(source, part)
    told = source.stat()
    shutil.chown(part, told.st_uid, told.st_gid)
    part.replace(target)
