"""What the owner of a database file, or of its folder, could do to the console; none of it comes about."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from maintenance.engines.errors import AccessDenied, EngineError
from maintenance.engines.marks import Signer
from maintenance.engines.sqlite import SQLite
from maintenance.engines.sqlite import connection as door
from maintenance.engines.sqlite.names import tables_in
from maintenance.engines.sqlite.processes import started
from maintenance.engines.sqlite.repair.shape import shape_of
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import PLAIN, SHORT, SMALL, content, plan, under_cut

KEY = b"known to this installation alone"


@pytest.fixture
def lab(tmp_path: Path) -> SQLiteLab:
    made = SQLiteLab(tmp_path / "shop")
    made.fill()
    return made


@pytest.fixture
def engine(lab: SQLiteLab) -> Iterator[SQLite]:
    made = SQLite(lab.url, Tag(7, 2, "abc", Signer(KEY)), SHORT)
    yield made
    made.close()


def whole_work(engine: SQLite, folder: Path) -> None:
    """Everything a run does with a file."""
    with under_cut(engine):
        before = engine.verifier.fingerprint(None)
        image = engine.backups.image(
            engine.backups.back_up("sqlite_backup", folder, "one", PLAIN), before, folder, "image", PLAIN
        )
        engine.backups.back_up("file_copy", folder, "two", PLAIN)
        for action in plan(engine, "rebuild"):
            engine.actions.perform(action, True)
        engine.verifier.check(None)
        engine.verifier.definitions()
        engine.benchmark.measure_all(engine.benchmark.queries(None), 1)
        engine.rollback.restore_beside(image, None, PLAIN)  # type: ignore[arg-type]
    engine.rollback.clean()


class TestTheSchema:
    def test_every_connection_is_pinned(self, lab: SQLiteLab, engine: SQLite, monkeypatch: pytest.MonkeyPatch) -> None:
        lab.damage_index()
        made: list[sqlite3.Connection] = []
        usual = sqlite3.connect

        def connect(*args: object, **named: object) -> sqlite3.Connection:
            made.append(usual(*args, **named))  # type: ignore[call-overload]
            return made[-1]

        pinned: list[sqlite3.Connection] = []
        pin = door._pinned

        def pinning(connection: sqlite3.Connection) -> sqlite3.Connection:
            pinned.append(connection)
            done = pin(connection)
            assert done.execute("PRAGMA trusted_schema").fetchone() == (0,)
            assert done.execute("PRAGMA cell_size_check").fetchone() == (1,)
            assert done.execute("PRAGMA foreign_keys").fetchone() == (0,)
            assert done.getlimit(sqlite3.SQLITE_LIMIT_ATTACHED) == 1
            return done

        monkeypatch.setattr(sqlite3, "connect", connect)
        monkeypatch.setattr(door, "_pinned", pinning)
        engine.diagnostics.diagnose(SMALL)
        whole_work(engine, lab.folder)
        assert made
        assert pinned == made, "a connection came through another door"

    @pytest.mark.parametrize(
        ("hostile", "used"),
        [
            ("CREATE VIEW v AS SELECT load_extension('/tmp/evil')", "SELECT * FROM v"),
            ("CREATE VIEW v AS SELECT fts3_tokenizer('x', zeroblob(8))", "SELECT * FROM v"),
            (
                "CREATE TRIGGER t AFTER UPDATE ON orders BEGIN SELECT load_extension('/tmp/evil'); END",
                "UPDATE orders SET note = note",
            ),
        ],
    )
    def test_nothing_that_acts_outside_the_file_is_called(self, lab: SQLiteLab, hostile: str, used: str) -> None:
        lab.sql(hostile)
        with closing(door.connect(lab.path)) as connection, pytest.raises(sqlite3.Error):
            connection.execute(used)

    @pytest.mark.parametrize("default", ["(randomblob(900000000))", "(load_extension('x'))", "((SELECT 1))"])
    def test_a_default_is_a_small_constant_or_nothing(self, lab: SQLiteLab, default: str) -> None:
        with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                "UPDATE sqlite_master SET sql = replace(sql, 'note TEXT', ?) WHERE name = 'orders'",
                (f"note TEXT DEFAULT {default}",),
            )
        with closing(door.connect(lab.path)) as connection, suppress(sqlite3.Error):
            assert shape_of(connection, tables_in(connection)["orders"]).defaults[-1] in (None, 1)


class TestTheFolder:
    @pytest.mark.parametrize("name", ["dbmaint", "dbmaint.part", "dbmaint-lock"])
    def test_a_planted_link_is_not_written_through(self, lab: SQLiteLab, engine: SQLite, name: str) -> None:
        victim = lab.folder / "victim"
        victim.write_text("of somebody else")
        lab.path.with_name(f"{lab.path.name}.{name}").symlink_to(victim)
        with suppress(AccessDenied), under_cut(engine):
            pass
        assert victim.read_text() == "of somebody else"

    def test_no_copy_of_ours_is_written_through_a_link(self, lab: SQLiteLab, engine: SQLite) -> None:
        victim = lab.folder / "victim"
        victim.write_text("of somebody else")
        sides = engine.file.sides
        for side in (
            sides.image,
            sides.restored,
            sides.broken,
            sides.rows,
            sides.evidence,
            sides.elsewhere,
            sides.before,
        ):
            for ending in ("", ".part", "-journal"):
                side.with_name(side.name + ending).symlink_to(victim)
        lab.damage_index()
        with suppress(EngineError):
            whole_work(engine, lab.folder)
        assert victim.read_text() == "of somebody else"

    def test_a_forged_marker_gives_nobody_the_file(self, lab: SQLiteLab, engine: SQLite) -> None:
        status = lab.path.stat()
        gate = {"journal_mode": "wal", "mode": 0o4777, "owner": 1, "group": 1, "journal": False}
        claim = {"gate": gate, "marker": {}, "target": 7, "site": "abc", "token": 1}
        lab.path.with_name("shop.db.dbmaint").write_text(json.dumps(Signer(b"a guess").signed(claim, str(lab.path))))
        state = engine.gate.read_state()
        assert (state["mode"], state["owner"]) == (status.st_mode & 0o7777, status.st_uid)
        assert state["journal_mode"] == "delete"

    def test_a_forged_claim_gets_no_process_killed(self, lab: SQLiteLab, engine: SQLite) -> None:
        with subprocess.Popen(["sleep", "60"]) as bystander:
            lock = engine.file.sides.lock
            claim = {"pid": bystander.pid, "started": started(bystander.pid), "target": 7, "site": "abc", "token": 1}
            lock.write_text(json.dumps(claim))
            keeper = subprocess.Popen(["flock", "--exclusive", str(lock), "sleep", "30"])
            try:
                with suppress(EngineError):
                    engine.lock.fence()
                assert bystander.poll() is None
            finally:
                keeper.kill()
                keeper.wait()
                bystander.kill()

    def test_a_forged_note_gets_nothing_removed(self, lab: SQLiteLab, engine: SQLite) -> None:
        victim = lab.folder / "victim"
        victim.touch()
        for text in (f"{victim}\n", json.dumps({"image": str(victim)})):
            engine.file.sides.elsewhere.write_text(text)
            engine.rollback.clean()
            assert victim.exists()

    def test_rights_are_given_to_the_very_file(self, lab: SQLiteLab, engine: SQLite) -> None:
        victim = lab.folder / "victim"
        victim.touch(mode=0o600)
        engine.lock.fence()
        gate = engine.gate.read_state()
        engine.gate.cut(gate, {})
        moved = lab.path.with_name("moved")
        os.rename(lab.path, moved)
        lab.path.symlink_to(victim)
        with suppress(EngineError, OSError):
            engine.gate.open({**gate, "mode": 0o666}, None)
        assert victim.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    "name", ["a b%20c.db", "what?mode=memory.db", "hash#tag.db", "-rf.db", "line\nbreak.db", "n" * 233, b"caf\xe9.db"]
)
def test_any_name_of_a_file_is_only_a_name(tmp_path: Path, name: str | bytes) -> None:
    lab = SQLiteLab(tmp_path / "shop")
    lab.fill()
    path = lab.path.with_name(os.fsdecode(name))
    os.rename(lab.path, path)
    lab.path, lab.url = path, lab.url.set(database=str(path))
    before = content(lab)
    made = SQLite(lab.url, Tag(7, 2, "abc", Signer(KEY)), Limits())
    try:
        made.diagnostics.diagnose(SMALL)
        whole_work(made, lab.folder)
        assert made.rollback.leftovers() == []
    finally:
        made.close()
    assert content(lab) == before
    assert [os.fsdecode(found) for found in os.listdir(path.parent)] == [path.name]
