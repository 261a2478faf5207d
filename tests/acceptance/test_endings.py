"""Nothing is left behind: what a target's server holds is listed before and after every ending, and compared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from chaos.case import Case
from chaos.console import Console
from chaos.judge import different, locked_out, rows_lost
from chaos.target import Target
from demo.private_server import ServerFailed
from maintenance.engines.programs import CommandFailed
from tests.engines.conftest import short_folder

ENDINGS = {
    "success": "succeeded",
    "backup failed": "failed",
    "action failed": "rolled_back",
    "cancelled@perform": "cancelled",
    "timed out@perform": "timed_out",
}
"""Path of a case -> how its run ends. Here the alternate place fails as well."""
LEFT = {
    "postgresql": {
        "databases": "CREATE DATABASE dbm_copy",
        "schemas": "CREATE SCHEMA dbm_side",
        "objects": "CREATE TABLE dbm_table (id int)",
        "comments": "COMMENT ON TABLE orders IS 'dbm was here'",
        "indexes": "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_status'::regclass",
        "roles": "CREATE ROLE dbm_guard",
        "prepared": "BEGIN; DELETE FROM ledger WHERE id = 1; PREPARE TRANSACTION 'dbm'",
        "database": "COMMENT ON DATABASE shop IS 'dbm was here'",
    },
    "mariadb": {
        "schemas": "CREATE DATABASE dbm_copy",
        "objects": "CREATE TABLE dbm_table (id int)",
        "comments": "ALTER TABLE customers COMMENT 'dbm was here'",
        "events": "CREATE EVENT dbm_switch ON SCHEDULE EVERY 1 DAY STARTS NOW() + INTERVAL 1 DAY DO SET @nothing = 1",
        "accounts": "CREATE USER 'dbm_guard'@'127.0.0.1'",
    },
}
LEFT["mysql"] = LEFT["mariadb"]
"""What the comparison must see; no more than a sample of what a maintenance makes and removes again."""


@dataclass
class Scene:
    engine: str
    target: Target
    console: Console

    def fresh(self) -> None:
        self.target.fresh(damaged=False, other=False)
        self.console.fresh()


@pytest.fixture(scope="module", params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in LEFT])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    folder = short_folder()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "target").mkdir()
        try:
            if request.param == "postgresql":
                from chaos.on_postgresql import OnPostgreSQL as Server
            elif request.param == "mysql":
                from chaos.on_mysql import OnMySQL as Server  # type: ignore[assignment]
            else:
                from chaos.on_mariadb import OnMariaDB as Server  # type: ignore[assignment]
            target = Server(folder / "target")
        except (FileNotFoundError, CommandFailed, ServerFailed) as error:
            pytest.skip(f"no {request.param} here: {error}")
        stack.callback(target.close)
        console = Console(folder / "console", target)
        stack.callback(console.close)
        yield Scene(request.param, target, console)


@pytest.mark.every(5, 2)
@pytest.mark.parametrize("path", ENDINGS)
def test_after_every_ending_the_server_holds_what_it_held_before(scene: Scene, path: str) -> None:
    scene.fresh()
    if path == "backup failed":
        for place in (scene.target.backups, scene.console.home / "alternate"):
            shutil.rmtree(place, ignore_errors=True)
            place.write_text("a file where the folder should be")
    before, contents = scene.target.settings(), scene.target.contents()
    life = scene.console.maintain(Case(scene.engine, "rebuild", path))
    [(status, because)] = scene.console.asked("SELECT status, ended_because FROM tbl_096_maintenance_run")
    assert status == ENDINGS[path], f"{because}\n{life.output}"
    assert list(locked_out(scene.target, scene.console)) == []
    assert list(rows_lost(scene.target, contents, set(), set())) == []
    assert list(different(before, scene.target, scene.console)) == []
    assert scene.console.flag.exists(), "the application runs again"


def test_the_comparison_sees_what_would_be_left(scene: Scene) -> None:
    scene.fresh()
    left = LEFT[scene.engine]
    before = scene.target.settings()
    try:
        for statement in left.values():
            scene.target.lab.sql(statement)
        found = " ".join(words for _, words in different(before, scene.target, scene.console))
    finally:
        if "prepared" in left:
            scene.target.lab.sql("ROLLBACK PREPARED 'dbm'")
            scene.target.lab.sql("DROP ROLE dbm_guard")
        else:
            scene.target.lab.sql("DROP USER 'dbm_guard'@'127.0.0.1'")
    assert [kind for kind in left if f"{kind}: " not in found] == []
