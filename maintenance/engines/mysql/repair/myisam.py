"""Repair of MyISAM and Aria tables: every repair may drop rows, so the files are kept first."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from maintenance.engines.errors import Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unreachable
from maintenance.engines.messages import listed, msg
from maintenance.engines.values import Loss, Performed

from .. import structure
from ..fingerprints import read_whole
from ..names import canonical, full
from ..structure import REPAIRABLE, Table
from ..target import Server
from ..verification import check_table
from .quarantine import old_schema

FILES = (".MYD", ".MYI", ".MAD", ".MAI")
"""Not the definition: a copy that the server takes for a table is repaired when anything opens it."""
CHANGED = re.compile(r"Number of rows changed from (\d+) to (\d+)")


def repair_files(server: Server, table: Table, allow_data_loss: bool) -> Performed:
    """Check; keeps the files; repairs the index, then the whole; counts the rows before and after.

    Even REPAIR … QUICK copies the data without what it cannot read, and calls that OK.

    Raises Damaged.
    """
    name = canonical(table.name)
    before = _rows_by_header(server, table)
    complaint = _complaint(server, table)
    if complaint is None:
        return Performed(msg("{table} is sound", table=name), None, None)
    if table.engine not in REPAIRABLE:
        raise Damaged(
            "repairing",
            name,
            msg("{complaint}; the storage engine {engine} cannot repair", complaint=complaint, engine=table.engine),
        )
    kept = _keep_files(server, table)
    if kept is None and not allow_data_loss:
        raise Damaged(
            "repairing",
            name,
            msg("{complaint}; a repair may drop rows, and its files cannot be kept from here", complaint=complaint),
        )
    words = _repaired(server, table)
    lost = _lost(before, _rows_by_header(server, table), words)
    if lost != 0 and not allow_data_loss and kept is not None:
        _put_files_back(server, table, kept)
        raise Damaged(
            "repairing",
            name,
            msg("a repair would drop rows ({words}); the files were put back", words=listed(words)),
        )
    if lost == 0:
        return Performed(msg("{table} was damaged and was repaired; no row is missing", table=name), None, None)
    loss = Loss(name, lost, (), msg("Rows that REPAIR TABLE could not read"))
    return Performed(msg("{table} was damaged and was repaired", table=name), None, None, (loss,))


def _repaired(server: Server, table: Table) -> list[str]:
    """Three ways, from the gentlest; what REPAIR said. Raises Damaged when none helped."""
    words: list[str] = []
    left: str | None = None
    for how in ("QUICK", "", "USE_FRM"):
        words += _repair(server, table, how)
        if (left := _complaint(server, table)) is None:
            return words
    raise Damaged("repairing", canonical(table.name), str(left))


def _rows_by_header(server: Server, table: Table) -> int | None:
    """The count that the table itself keeps; from the file of a MyISAM table, so that nothing opens it."""
    with server.session("counting the rows of", canonical(table.name)) as session:
        folder = server.data_folder(session)
        if table.engine == "MyISAM" and folder is not None:
            session.ask(f"FLUSH LOCAL TABLES {full(server.schema, table.name)}")
            return _rows_in_file(structure.file_stem(folder, server.schema, table.name))
        try:
            return int(session.value(f"SELECT COUNT(*) FROM {full(server.schema, table.name)}"))
        except DBAPIError:
            return None


def _rows_in_file(stem: Path) -> int | None:
    """Bytes 28 to 36 of a MyISAM index file; None where it is not long enough."""
    try:
        with open(stem.with_name(stem.name + ".MYI"), "rb") as file:
            head = file.read(36)
    except OSError:
        return None
    return int.from_bytes(head[28:36], "big") if len(head) == 36 else None


def _lost(before: int | None, after: int | None, words: list[str]) -> int | None:
    """Rows that are gone, None when it cannot be told how many."""
    if before is not None and after is not None:
        return max(0, before - after)
    told = [found for line in words if (found := CHANGED.search(line))]
    if told:
        return max(0, int(told[0][1]) - int(told[-1][2]))
    return None


def _complaint(server: Server, table: Table) -> str | None:
    try:
        check_table(server, table, extended=False)
        with server.session("reading", canonical(table.name)) as session:
            read_whole(session, server.schema, table)
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


def _keep_files(server: Server, table: Table) -> Path | None:
    """Copy the table's files into the quarantine schema's folder; None where this process cannot."""
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
            raise Damaged(
                "putting back the files of", canonical(table.name), msg("they are kept as {kept}.*", kept=str(kept))
            )
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
