"""What measuring waits for, which is outage for everybody."""

from __future__ import annotations

import time

import pytest

from maintenance.engines.mysql.connection import Session
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import engine_of


def test_old_versions_of_rows_are_waited_for_once_however_they_move(
    family_lab: MariaDBLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch's event and our signs of life add to them each second: as long a wait for every query is outage."""
    lab = family_lab
    lab.fill()
    asked = Session.value
    with engine_of(lab) as engine, lab._root(lab.database) as writer, lab._root(lab.database) as reader:
        queries = engine.benchmark.queries(None)
        changing, looking = writer.cursor(), reader.cursor()
        looking.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")  # from here on nothing is put away

        def committing(session: Session, sql: str, **binds: object) -> object:
            if "trx_rseg_history_len" in sql:
                changing.execute("UPDATE customers SET city = IF(city = 'a', 'b', 'a') WHERE id = 1")
            return asked(session, sql, **binds)

        monkeypatch.setattr(Session, "value", committing)
        begun = time.monotonic()
        assert [engine.benchmark.measure(query, 2).error for query in queries] == [None] * len(queries)
        assert len(queries) > 3
        assert time.monotonic() - begun < 3.5
        changing.close()
        looking.close()
