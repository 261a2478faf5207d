"""Names of tables as names of files, as both servers spell them."""

from __future__ import annotations

import pytest

from maintenance.engines.mysql import Family, structure
from maintenance.engines.mysql.filenames import from_file, in_file
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import SMALL

NAMES = [
    "Kün den",
    "Été",
    "ĄŻ",
    "顧客",
    "ﾊﾝｶｸ",
    "a#b",
    "a.b",
    "a b",
    "x$y",
    "a@b",
    "a/b",
    "q`q",
    "con",
    "Lpt1",
    "con1",
    "_Ω",
]


def test_every_letter_is_spelled_as_the_server_does(lab: MariaDBLab) -> None:
    rows = lab.sql(
        "SELECT seq, CAST(CONVERT(CONVERT(UNHEX(LPAD(HEX(seq), 4, '0')) USING ucs2) USING filename) AS BINARY)"
        " FROM seq_1_to_65535 WHERE seq NOT BETWEEN 0xD800 AND 0xDFFF"
    )
    spelled = {
        chr(number): code.decode() for number, code in rows if isinstance(number, int) and isinstance(code, bytes)
    }
    assert len(spelled) > 60_000
    assert [letter for letter, code in spelled.items() if in_file(letter) != code] == []
    assert [letter for letter, code in spelled.items() if from_file(code) != letter] == []


@pytest.mark.parametrize("engine_name", ["InnoDB", "MyISAM"])
def test_the_files_of_every_name_are_found(family_lab: MariaDBLab, engine_name: str) -> None:
    lab = family_lab
    for name in NAMES:
        quoted = name.replace("`", "``")
        lab.sql(f"CREATE TABLE `{quoted}` (id INT PRIMARY KEY, t VARCHAR(200)) ENGINE={engine_name}")
        lab.sql(f"INSERT INTO `{quoted}` SELECT seq, REPEAT('x', 200) FROM {lab.numbers(600)}")
    lab.sql(f"FLUSH TABLES {', '.join('`' + name.replace('`', '``') + '`' for name in NAMES)}")
    ending = ".ibd" if engine_name == "InnoDB" else ".MYI"
    assert [
        name
        for name in NAMES
        if not structure.file_stem(lab.server.data, lab.database, name).with_name(in_file(name) + ending).exists()
    ] == []
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        with engine.server.session("measuring") as session:
            found = structure.sizes(engine.server, session, structure.tables(session, lab.database), lab.database)
        assert sorted(found) == sorted(NAMES)
        assert [name for name in NAMES if found[name].bytes < 100_000] == []
        if engine_name == "InnoDB":
            told = engine.diagnostics.diagnose(SMALL).tables
            assert [
                table.name for table in told if table.notes.get("pages") != "sound" or table.stale_share is None
            ] == []
