"""Salvage of damaged tables, whole or broken off."""

from __future__ import annotations

import pytest

from maintenance.engines.errors import Damaged
from maintenance.engines.postgresql.repair.salvage import Salvage
from maintenance.engines.values import Thresholds
from tests.engines.lab_postgresql import PAGE, PostgreSQLLab

from .world import engine


def test_a_damaged_page_is_salvaged_only_when_loss_is_allowed_and_the_rest_stays(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql(
        "CREATE TABLE items (order_id int REFERENCES orders, n int); "
        "CREATE VIEW paid AS SELECT * FROM orders WHERE status = 'paid'"
    )
    orders = lab.damage_table()
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        refused = made.planner.plan("repair", diagnosis, Thresholds(), None, False)
        assert [a.kind for a in refused if a.stage == 0] == ["read_test"]
        with pytest.raises(Damaged, match="invalid page"):
            made.actions.perform(refused[0], False)
        definitions = made.verifier.definitions()
        plan = made.planner.plan("repair", diagnosis, Thresholds(), None, True)
        assert plan[0].kind == "salvage"
        assert plan[0].needs_data_loss
        with pytest.raises(Damaged):
            made.actions.perform(plan[0], False)
        done = made.actions.perform(plan[0], True)
        assert [(loss.object, loss.pages) for loss in done.losses] == [(orders, (11,))]
        for planned in plan[1:]:
            made.actions.perform(planned, True)
        assert all(check.passed for check in made.verifier.check(None))
        assert made.verifier.definitions() == definitions
        assert made.rollback.leftovers() == []
    [(left,)] = lab.sql("SELECT count(*) FROM orders")
    assert 7900 < int(str(left)) < 8000


def test_a_value_whose_reading_ends_the_server_is_told_and_salvaged(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE TABLE pp (id int PRIMARY KEY, words text); CREATE TABLE good (id int); INSERT INTO good VALUES (1)")
    lab.sql("INSERT INTO pp SELECT i, repeat('word ' || i, 10) FROM generate_series(1, 3000) i")
    lab.damage_value("pp", 5, 4)
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("damaged_table", "public.pp") in {(f.code, f.object) for f in diagnosis.findings}
        prints = made.verifier.fingerprint(None)
        assert not prints["public.pp"].readable
        assert prints["public.good"].rows == 1
        [salvage, *_] = made.planner.plan("repair", diagnosis, Thresholds(), None, True)
        done = made.actions.perform(salvage, True)
        assert [(loss.rows, loss.pages) for loss in done.losses] == [(1, (5,))]
        assert made.verifier.fingerprint(["public.pp"])["public.pp"].rows == 2999


def test_a_salvage_broken_off_after_the_rewrite_is_brought_to_its_end(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.fill()
    lab.damage_table()
    with engine(lab) as made:
        [salvage, *_] = made.planner.plan("repair", made.diagnostics.diagnose(Thresholds()), Thresholds(), None, True)
        monkeypatch.setattr(Salvage, "_put_back", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.actions.perform(salvage, True)
        assert made.rollback.leftovers() == ["schema dbm7_salvage"]
        monkeypatch.undo()
        done = made.actions.perform(salvage, True)
        assert done.losses[0].pages == (11,)
        assert made.rollback.leftovers() == []


@pytest.mark.every(2)
@pytest.mark.parametrize("broken_off", ["", "_rewrite", "_operate", "_put_back"])
def test_of_a_page_whose_checksum_is_wrong_every_row_that_reads_is_kept_once(
    lab_with_checksums: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch, broken_off: str
) -> None:
    lab = lab_with_checksums
    lab.fill()
    path = lab.path_of("orders")
    with lab.stopped(), open(path, "r+b") as file:
        file.seek(11 * PAGE + PAGE - 20)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with engine(lab) as made:
        [salvage, *_] = made.planner.plan("repair", made.diagnostics.diagnose(Thresholds()), Thresholds(), None, True)
        if broken_off:
            monkeypatch.setattr(Salvage, broken_off, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                made.actions.perform(salvage, True)
            monkeypatch.undo()
            lab.server.server.restart()
        [loss] = made.actions.perform(salvage, True).losses
        assert loss.pages == (11,)
        assert "rows of these pages could still be read" in loss.detail
        assert made.verifier.fingerprint(None)["public.orders"].rows == 8000
        assert all(check.passed for check in made.verifier.check(None))
        assert made.rollback.leftovers() == []
