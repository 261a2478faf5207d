"""The zoo of damage to tables that are files of their own: what is done to each, and what it costs in rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from maintenance.engines.errors import Damaged
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import action

ROWS = 5000
Damaging = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """`lost`: rows that nothing can bring back, None where the table cannot be repaired at all."""

    engine: str
    ending: str
    damage: Damaging
    lost: range | None
    mysql: bool = False


def flipped(share: float, count: int) -> Damaging:
    """Turns `count` bytes at this share of the file's length."""

    def damage(file: Path) -> None:
        with open(file, "r+b") as opened:
            opened.seek(int(file.stat().st_size * share))
            before = opened.read(count)
            opened.seek(-len(before), os.SEEK_CUR)
            opened.write(bytes(byte ^ 0xFF for byte in before))

    return damage


def cut_to(count: int) -> Damaging:
    return lambda file: os.truncate(file, count)


def marked_crashed(file: Path) -> None:
    """The bit that a server leaves which died while writing."""
    with open(file, "r+b") as opened:
        opened.seek(26)
        mark = opened.read(1)[0] | 2
        opened.seek(26)
        opened.write(bytes([mark]))


NONE, SOME = range(1), range(1, ROWS // 2)
ZOO = {
    "MyISAM, a page of its index": Case("MyISAM ROW_FORMAT=DYNAMIC", "MYI", flipped(0.5, 200), NONE, mysql=True),
    "MyISAM, marked as crashed": Case("MyISAM ROW_FORMAT=DYNAMIC", "MYI", marked_crashed, NONE, mysql=True),
    "MyISAM, its index cut short": Case("MyISAM ROW_FORMAT=DYNAMIC", "MYI", cut_to(100), NONE),
    "MyISAM, bytes of its rows": Case("MyISAM ROW_FORMAT=DYNAMIC", "MYD", flipped(0.5, 64), SOME, mysql=True),
    "Aria, a page of its index": Case("Aria", "MAI", flipped(0.5, 100), NONE),
    "Aria, a page of its rows": Case("Aria", "MAD", flipped(0.5, 64), SOME),
    "ARCHIVE, which cannot be repaired": Case("ARCHIVE", "ARZ", flipped(0.5, 32), None),
}


@pytest.mark.parametrize("name", ZOO)
def test_what_is_damaged_is_repaired_or_said_to_be_beyond_it(family_lab: MariaDBLab, name: str) -> None:
    case, lab = ZOO[name], family_lab
    if lab.innodb == "innodb" and not case.mysql:
        pytest.skip("MySQL has no such table, or no way to make its index anew")
    if case.engine == "ARCHIVE" and not lab.sql("SELECT 1 FROM information_schema.engines WHERE engine = 'ARCHIVE'"):
        lab.sql("INSTALL SONAME 'ha_archive'")
    keys = "" if case.engine == "ARCHIVE" else ", PRIMARY KEY (id), KEY (t)"
    lab.sql(f"CREATE TABLE beast (id INT, t VARCHAR(200){keys}) ENGINE={case.engine}")
    lab.sql(f"INSERT INTO beast SELECT seq, REPEAT(CONCAT('line ', seq), 3 + seq % 5) FROM {lab.numbers(ROWS)}")
    with lab.engine() as engine:
        before = engine.verifier.fingerprint(["beast"])["beast"]
        assert before.rows == ROWS
        lab.sql("FLUSH TABLES beast")
        file = lab.server.data / lab.database / f"beast.{case.ending}"
        case.damage(file)
        if case.lost is None or case.lost is SOME:
            damaged = file.read_bytes()
            with pytest.raises(Damaged):
                engine.actions.perform(action("beast", "check_and_repair"), False)
            assert file.read_bytes() == damaged
        if case.lost is None:
            return
        done = engine.actions.perform(action("beast", "check_and_repair"), case.lost is SOME)
        lost = sum(loss.rows or 0 for loss in done.losses)
        assert lost in case.lost
        after = engine.verifier.fingerprint(["beast"])["beast"]
        assert after.rows == ROWS - lost
        assert (after == before) == (case.lost is NONE)
        assert [check for check in engine.verifier.check(["beast"]) if not check.passed] == []
        assert "sound" in engine.actions.perform(action("beast", "check_and_repair"), False).sentence
        engine.rollback.clean()
