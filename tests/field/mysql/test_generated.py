"""Schemas and values that nobody thought of: rebuilt and rolled back, every bit and every definition as before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import MySQLdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from maintenance.engines.mysql import Family
from tests.engines.lab_mariadb import MariaDBLab
from tests.field.mysql.runs import maintain

RUNS, TABLES, AT_LEAST = 10, 60, 200
NUMBERS = (
    "-0e0",
    "0",
    "1",
    "-1",
    "0.1",
    "0.123456789",
    "16777217",
    "-2.5e-40",
    "1.7e38",
    "5e-324",
    "127",
    "255",
    "1e9",
)
WHOLE = ("0", "1", "-1", "127", "-128", "32767", "2147483647", "9223372036854775807")
MOMENTS = ("'2026-03-29 02:30:00.123456'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00'")
BYTES = ("''", "x'00'", "x'00ff0a0d1a275c'", "REPEAT(x'ff', 300)", "'a  '", "' '")
LETTERS = (
    "",
    "a",
    "A ",
    "a\t",
    "ß",
    "é",
    "ｱ",
    "～",
    "‖",
    "髙",
    "①",
    "∥",
    "¥",
    "\\",
    "'",
    "東京",
    "Ж",
    "😀",
    "\x80",
    "\u00a0",
    "ſ",
    "İ",
)
CHARSETS = (
    *(
        "utf8mb4",
        "utf8mb3",
        "latin1",
        "latin2",
        "ascii",
        "ucs2",
        "utf16",
        "cp932",
        "sjis",
        "ujis",
        "gbk",
        "big5",
        "euckr",
    ),
    *("cp1251", "koi8r", "cp850", "swe7", "binary"),
)
TYPES = {
    **dict.fromkeys(("FLOAT", "FLOAT(7,3)", "DOUBLE", "DOUBLE(12,4)", "DECIMAL(30,10)", "FLOAT UNSIGNED"), NUMBERS),
    **dict.fromkeys(
        ("TINYINT", "SMALLINT UNSIGNED", "INT", "BIGINT", "BIGINT UNSIGNED", "BIT(9)", "INT ZEROFILL"), WHOLE
    ),
    **dict.fromkeys(("DATE", "DATETIME", "DATETIME(6)", "TIMESTAMP NULL", "TIMESTAMP(3) NULL"), MOMENTS),
    "TIME(6)": ("'-838:59:59'", "'12:34:56.7'", "0"),
    "YEAR": ("0", "1901", "2155"),
    **dict.fromkeys(("BINARY(6)", "VARBINARY(400)", "BLOB", "LONGBLOB"), BYTES),
    "JSON": ("'{}'", "'[1, 1.0, -0.0, 1e300, null]'", '\'{"b": "ü", "a": 0.1}\''),
    "POINT": ("ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(0.1 -1e-300)')"),
}
LETTERED = ("CHAR(8)", "VARCHAR(30)", "TEXT", "ENUM('a', 'é', '')", "SET('x', 'y')")
ENGINES = ("InnoDB", "InnoDB", "InnoDB", "MyISAM", "Aria", "MEMORY", "ARCHIVE")
FORMATS = {"InnoDB": ("DYNAMIC", "COMPACT", "REDUNDANT", "COMPRESSED"), "MyISAM": ("DYNAMIC", "FIXED")}


@dataclass(frozen=True)
class Made:
    """The definition of a table without its name, and rows as values of SQL."""

    columns: Sequence[str]
    options: str
    rows: Sequence[Sequence[str]]


@st.composite
def tables(draw: st.DrawFn) -> Made:
    engine = draw(st.sampled_from(ENGINES))
    charset = draw(st.sampled_from(CHARSETS))
    columns, values = [], []
    for number in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            own = draw(st.sampled_from((charset, *CHARSETS)))
            kind = f"{draw(st.sampled_from(LETTERED))} CHARACTER SET {own}"
            texts = st.lists(st.sampled_from(LETTERS), max_size=4).map("".join)
            values.append(texts.map(lambda text: f"CONVERT(x'{text.encode().hex()}' USING utf8mb4)"))
        else:
            kind = draw(st.sampled_from(sorted(TYPES)))
            values.append(st.sampled_from(TYPES[kind]))
        columns.append(f"c{number} {kind}")
    more = draw(
        st.lists(
            st.sampled_from(
                (
                    "id INT AUTO_INCREMENT PRIMARY KEY",
                    "KEY (c0)",
                    "UNIQUE KEY (id)",
                    "stored VARCHAR(300) AS (LEFT(HEX(c0), 200)) STORED",
                    "unstored VARCHAR(300) AS (LEFT(HEX(c0), 200)) VIRTUAL",
                    "CHECK (c0 <> 77)",
                    "hidden INT DEFAULT 3 INVISIBLE",
                )
            ),
            unique=True,
            max_size=4,
        )
    )
    if engine == "ARCHIVE":
        # MySQL takes no row back whose number is below the one that the table was made again with (1022).
        more = [one for one in more if "AUTO_INCREMENT" not in one]
    options = f"ENGINE={engine} CHARACTER SET {charset} COMMENT 'é ''\\\\'"
    if engine in FORMATS and draw(st.booleans()):
        options += f" ROW_FORMAT={draw(st.sampled_from(FORMATS[engine]))}"
    if draw(st.integers(0, 5)) == 0:
        options += " WITH SYSTEM VERSIONING"
    elif "id" not in " ".join(more) and draw(st.integers(0, 5)) == 0:
        options += " PARTITION BY KEY (c0) PARTITIONS 3"
    row = st.tuples(*(st.one_of(st.just("NULL"), value, value) for value in values))
    return Made([*columns, *more], options, draw(st.lists(row, max_size=8)))


def made(lab: MariaDBLab, number: int, table: Made) -> bool:
    """Whether the server took the definition; rows that it refuses are left out."""
    connection = lab.server.connect(lab.database)
    cursor = connection.cursor()
    try:
        cursor.execute("SET SESSION sql_mode = '', innodb_strict_mode = OFF")
        cursor.execute(f"CREATE TABLE t{number} ({', '.join(table.columns)}) {table.options}")
        names = [column.split()[0] for column in table.columns if column[0] == "c"]
        for row in table.rows:
            with suppress(MySQLdb.Error):
                cursor.execute(f"INSERT INTO t{number} ({', '.join(names)}) VALUES ({', '.join(row)})")
    except MySQLdb.Error:
        return False
    finally:
        connection.close()  # type: ignore[no-untyped-call]
    return True


def seen(lab: MariaDBLab, number: int) -> dict[str, object]:
    """The checksum of a table with virtual columns is none of its rows: MariaDB adds what lies in their place. Nor is
    that of an ARCHIVE table: MySQL often tells 0."""
    shown = [(str(row[0]), str(row[1])) for row in lab.sql(f"SHOW COLUMNS FROM t{number}")]
    bits = [f"{name} * 1e0" for name, kind in shown if kind.startswith(("float", "double"))]
    asked = ", ".join([*(f"HEX({name}), {name}" for name, _ in shown), *bits])
    found: dict[str, object] = {
        "definition": lab.sql(f"SHOW CREATE TABLE t{number}"),
        "values": sorted(map(str, lab.sql(f"SELECT {asked} FROM t{number}"))),
    }
    if "unstored" not in dict(shown) and "ENGINE=ARCHIVE" not in str(found["definition"]):
        found["checksum"] = lab.sql(f"CHECKSUM TABLE t{number} EXTENDED")
    return found


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_whatever_lies_in_a_schema_comes_back_bit_by_bit(family_lab: MariaDBLab) -> None:
    tried: list[int] = []

    @settings(
        max_examples=RUNS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(tables(), min_size=TABLES, max_size=TABLES))
    def bit_by_bit(drawn: list[Made]) -> None:
        if len(tried) >= AT_LEAST:
            return
        lab = family_lab.fresh()
        there = [number for number, table in enumerate(drawn) if made(lab, number, table)]
        tried.extend(there)
        before = {number: seen(lab, number) for number in there}
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            ran = maintain(engine, lab, "rebuild", roll_back=True)
        assert ran.refused is None
        for number in there:
            after = seen(lab, number)
            other = {what: (before[number][what], after[what]) for what in after if after[what] != before[number][what]}
            assert other == {}, (drawn[number], other)
        lab.sql(f"DROP DATABASE {lab.database}")

    bit_by_bit()
    assert len(tried) >= AT_LEAST
