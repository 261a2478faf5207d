"""With the rights that `grants` tells, an account other than root does the whole procedure on MariaDB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from maintenance.engines import open_engine
from maintenance.engines.archive import Seal
from maintenance.engines.programs import CommandFailed
from maintenance.engines.values import Limits, MaintenanceType, Tag, Thresholds

from .conftest import short_folder
from .lab_mariadb import MariaDBLab

ACCOUNT = "db_admin@127.0.0.1"


@pytest.fixture(scope="module")
def lab() -> Iterator[MariaDBLab]:
    folder = short_folder()
    try:
        opening = MariaDBLab.opened(folder)
        try:
            server = opening.__enter__()
        except (FileNotFoundError, CommandFailed) as error:
            pytest.skip(f"no MariaDB here: {error}")
        try:
            made = server.fresh()
            made.fill()
            yield made
        finally:
            opening.__exit__(None, None, None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_with_the_statements_run_the_account_does_the_whole_procedure(lab: MariaDBLab) -> None:
    with lab.engine() as administrator:
        for grant in administrator.privileges.grants(ACCOUNT):
            assert not grant.given
            lab.sql(grant.statement)
        assert [grant.statement for grant in administrator.privileges.grants(ACCOUNT) if not grant.given] == []
    url = lab.url.set(username="db_admin", host="127.0.0.1")._replace(password=None)
    engine = open_engine(url, Tag(8, 1), Limits(jobs=2, lock_seconds=5, cut_seconds=10))
    try:
        engine.lock.fence()
        diagnosis = engine.diagnostics.diagnose(Thresholds())
        backup = engine.backups.back_up(engine.backups.methods[0], lab.folder, "one", Seal())
        gate = engine.gate.read_state()
        engine.gate.cut(gate, {"run": 1})
        baseline = engine.verifier.fingerprint(None)
        image = engine.backups.image(backup, baseline, lab.folder, "image", Seal())
        kind: MaintenanceType = "rebuild"
        for action in engine.planner.plan(kind, diagnosis, Thresholds(), None, False):
            engine.actions.perform(action, False)
        assert engine.verifier.fingerprint(None) == baseline
        side = engine.rollback.restore_beside(image, backup, Seal())
        assert engine.verifier.fingerprint(None, side) == baseline
        engine.rollback.swap(side, gate, {"run": 1})
        engine.gate.open(gate, None)
        assert engine.gate.differences(gate) == []
        engine.rollback.clean()
        assert engine.rollback.leftovers() == []
    finally:
        engine.close()
    with lab.application() as application:
        assert application.execute("SELECT count(*) FROM customers") == [(2000,)]


def test_a_right_that_is_taken_away_is_told(lab: MariaDBLab) -> None:
    with lab.engine() as administrator:
        rights = [grant for grant in administrator.privileges.grants(ACCOUNT) if " ON *.* TO " in grant.statement]
        for grant in rights:
            lab.sql(grant.statement.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM ", 1))
            missing = [other.purpose for other in administrator.privileges.grants(ACCOUNT) if not other.given]
            assert missing == [grant.purpose]
            lab.sql(grant.statement)
