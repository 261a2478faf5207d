"""Damages that a generator drew once, each as the kind it is of: the truth is known, and the file afterwards tells."""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from .oracle import Run, Tables, is_sound, repair, saved, tables_of
from .shell import recover

WITH_INDEX = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX tn ON t (name)"
TWINS = "CREATE TABLE log (at INTEGER, line TEXT); CREATE TABLE log_old (at INTEGER, line TEXT)"
ROWS = 600


@dataclass
class Case:
    """A file, and what was in it before it was damaged."""

    path: Path
    size: int
    true: Tables

    def pages(self, tree: str, kind: str) -> list[int]:
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path", (tree, kind)
            )
            return [int(row[0]) for row in rows]

    def write(self, offset: int, data: bytes) -> None:
        content = bytearray(self.path.read_bytes())
        content[offset : offset + len(data)] = data
        self.path.write_bytes(content)

    def page(self, number: int) -> bytes:
        return self.path.read_bytes()[(number - 1) * self.size : number * self.size]

    def swap(self, one: int, other: int) -> None:
        first, second = self.page(one), self.page(other)
        self.write((one - 1) * self.size, second)
        self.write((other - 1) * self.size, first)

    def repaired(self, leave: bool = True) -> Run:
        """Never fewer rows than `.recover` saves, none invented, and the file as it was where it was given up."""
        damaged, beside = self.path.read_bytes(), self.path.parent.with_name("recovered.db")
        recover(self.path, beside)
        run = repair(self.path, leave)
        if run.ended or not run.worked:
            assert self.path.read_bytes() == damaged
            assert not (leave and run.ended), run.ended
        else:
            assert is_sound(self.path)
            assert self.invented == []
            assert saved(self.true, self.tables) >= (saved(self.true, tables_of(beside)) if leave else 0)
        return run

    @property
    def tables(self) -> Tables:
        return tables_of(self.path)

    @property
    def invented(self) -> list[object]:
        return [row for name, rows in self.true.items() for row in self.tables.get(name, Counter()) - rows]


def made(place: Path, schema: str, size: int = 1024, vacuum: int = 0, journal_mode: str = "delete") -> Case:
    """Every table of two columns gets 600 rows, each of another length."""
    path = place / "case" / "case.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (f"page_size = {size}", f"auto_vacuum = {vacuum}", f"journal_mode = {journal_mode}"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(schema)
        names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for place_of, name in enumerate(names):
            rows = [(n, f"{name} {n} " + "x" * ((n * 7 + place_of * 3) % 40)) for n in range(1, ROWS + 1)]
            connection.executemany(f"INSERT INTO {name} VALUES (?, ?)", rows)
    return Case(path, size, tables_of(path))


@pytest.mark.parametrize("leave", [True, False])
@pytest.mark.parametrize("more", [1, 0x400, 0x8000])
def test_a_wrong_number_of_cells_hides_none_of_them(tmp_path: Path, more: int, leave: bool) -> None:
    case = made(tmp_path, WITH_INDEX)
    page = case.pages("t", "leaf")[3]
    count = struct.unpack_from(">H", case.page(page), 3)[0]
    case.write((page - 1) * case.size + 3, struct.pack(">H", count + more))
    assert {loss.rows for loss in case.repaired(leave).losses} <= {0}
    assert case.tables == case.true


def test_a_record_longer_than_its_values_is_kept_beside(tmp_path: Path) -> None:
    case = made(tmp_path, WITH_INDEX)
    page = case.pages("t", "leaf")[3]
    content = case.page(page)
    last = struct.unpack_from(">H", content, 8 + 2 * 10)[0]
    case.write((page - 1) * case.size + last, bytes((content[last] + 4,)))
    case.repaired()
    assert saved(case.true, case.tables) == ROWS


def test_a_cell_pointer_beyond_its_page_is_read_as_sqlite_reads_it(tmp_path: Path) -> None:
    case = made(tmp_path, f"{WITH_INDEX}; CREATE VIEW v AS SELECT 1")
    case.write(108, bytes((case.page(1)[108] | 0x40,)))
    assert not [loss for loss in case.repaired().losses if loss.rows]
    assert case.tables["t"] == case.true["t"]
    with closing(sqlite3.connect(case.path)) as connection:
        names = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master")}
    assert names >= {"t", "tn", "v"}


@pytest.mark.parametrize("leave", [True, False])
@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
@pytest.mark.parametrize("versions", [(129, None), (None, 3), (255, 255)])
def test_a_header_that_names_no_version_of_the_format_is_put_right(
    tmp_path: Path, versions: tuple[int | None, int | None], journal_mode: str, leave: bool
) -> None:
    case = made(tmp_path, WITH_INDEX, journal_mode=journal_mode)
    for offset, version in zip((18, 19), versions, strict=True):
        if version is not None:
            case.write(offset, bytes((version,)))
    run = case.repaired(leave)
    assert (run.worked, run.ended) == (True, "")
    assert case.tables == case.true
    if not leave and versions != (255, 255):
        assert case.path.read_bytes()[18:20] == {"delete": b"\1\1", "wal": b"\2\2"}[journal_mode]


@pytest.mark.parametrize("vacuum", [0, 1])
@pytest.mark.parametrize(("one", "other"), [("log", "log_old"), ("log_old", "log")])
@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_pointer_into_a_table_alike_leaves_that_table_as_it_is(
    tmp_path: Path, one: str, other: str, place: int, vacuum: int
) -> None:
    case = made(tmp_path, TWINS, vacuum=vacuum)
    inner, strange = case.pages(one, "internal")[0], case.pages(other, "leaf")[place]
    cell = struct.unpack_from(">H", case.page(inner), 12 + 2 * 4)[0]
    case.write((inner - 1) * case.size + cell, struct.pack(">I", strange))
    case.repaired()
    assert case.tables[other] == case.true[other]
    assert saved(case.true, case.tables) == 2 * ROWS


@pytest.mark.parametrize("vacuum", [1, 2])
def test_a_list_of_free_pages_that_is_lost_gives_no_deleted_row_back_where_a_map_tells(
    tmp_path: Path, vacuum: int
) -> None:
    case = made(tmp_path, TWINS, vacuum=vacuum)
    with closing(sqlite3.connect(case.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM log WHERE at BETWEEN 100 AND 400")
    case.true = tables_of(case.path)
    case.write(32, struct.pack(">II", 0, 0))
    case.write((case.pages("log", "internal")[0] - 1) * case.size, bytes(8))
    case.repaired()
    assert case.tables["log"] == case.true["log"]


def test_a_record_that_repeats_its_rowid_is_none_of_a_table_that_names_it(tmp_path: Path) -> None:
    schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE u (id INTEGER, name TEXT)"
    case = made(tmp_path, f"{schema}; CREATE INDEX un ON u (name)", size=65536)
    case.swap(case.pages("t", "leaf")[0], case.pages("u", "leaf")[0])
    case.repaired()
    assert saved(case.true, case.tables) == 2 * ROWS


FIELDS = ((0, 16), (16, 2), (18, 1), (19, 1), (20, 1), (21, 3), *((n, 4) for n in range(24, 100, 4)))
"""Of the header: where they begin, and bytes."""


@pytest.mark.parametrize(("first", "length"), FIELDS)
def test_no_field_of_the_header_costs_a_row(tmp_path: Path, first: int, length: int) -> None:
    for number, value in enumerate((b"\0", b"\xff", b"\x01", b"\x80\0")):
        place = tmp_path / str(number)
        place.mkdir()
        case = made(place, f"{WITH_INDEX}; CREATE TABLE u (a, b)", size=512)
        case.write(first, (value * 16)[:length])
        before = case.path.read_bytes()
        run = case.repaired()
        assert saved(case.true, case.tables) == 2 * ROWS, (value, run)
        assert run.worked or case.path.read_bytes() == before
