"""A worker that was frozen until the dead man's switch opened its database: once it goes on it changes nothing there
that it did not close again before, by the server's own list of statements and by the journal."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import kill

import psutil
import pytest

from chaos.case import Case
from chaos.judge import different, locked_out
from chaos.target import DATABASE
from tests.acceptance.test_endings import Scene, scene

__all__ = ["scene"]
SWITCH_SECONDS = 3
SINCE = "INSERT INTO ledger (id, word) VALUES (700001, 'since')"
CHANGES = re.compile(
    r"\b(INSERT|UPDATE|DELETE|REPLACE|VACUUM|REINDEX|CLUSTER|OPTIMIZE|REPAIR|TRUNCATE|RENAME|ALTER|DROP|CREATE)\b", re.I
)
CLOSES = {"postgresql": "COMMENT ON DATABASE", "mariadb": "CREATE DATABASE IF NOT EXISTS `dbm_gate"}
"""With which statement the console begins to close a database."""


@pytest.fixture
def logged(scene: Scene) -> Iterator[Scene]:
    """With a server that writes down every statement."""
    scene.fresh()
    lab = scene.target.lab
    if scene.engine == "postgresql":
        for setting in ("log_statement = 'all'", "log_line_prefix = '%a|'"):
            lab.sql(f"ALTER SYSTEM SET {setting}")
        lab.sql("SELECT pg_reload_conf()")
    else:
        lab.sql("SET GLOBAL log_output = 'TABLE'")
        lab.sql("TRUNCATE mysql.general_log")
        lab.sql("SET GLOBAL general_log = ON")
    yield scene
    if scene.engine == "postgresql":
        lab.sql("ALTER SYSTEM RESET ALL")
        lab.sql("SELECT pg_reload_conf()")
    else:
        lab.sql("SET GLOBAL general_log = OFF")


def asked_of_the_server(scene: Scene) -> list[str]:
    if scene.engine == "postgresql":
        logs = sorted((scene.target.folder / "server" / "data" / "log").iterdir())
        log = "\n".join(path.read_text(errors="replace") for path in logs)
        return [line.partition("statement: ")[2] or line for line in log.splitlines()]
    return [
        str(row[0]) for row in scene.target.lab.sql("SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log")
    ]


def until(what: str, seconds: float, true: object) -> None:
    over = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < over, what
        time.sleep(0.1)


@pytest.mark.every(4)
@pytest.mark.parametrize(("moment", "closes_again"), [("image", True), ("load_test", False)])
def test_a_worker_that_comes_back_after_the_switch_opened(logged: Scene, moment: str, closes_again: bool) -> None:
    scene = logged
    console = scene.console
    url = scene.target.url.render_as_string(hide_password=False)
    assert console.run("register_target", DATABASE, url, f"--set=switch_seconds={SWITCH_SECONDS}").code == 0
    before = scene.target.settings()
    with ThreadPoolExecutor(1) as pool:
        life = pool.submit(console.maintain, Case(scene.engine, "rebuild", f"paused@{moment}"))
        paused = console.home / "it was paused"
        until("it comes to the moment", 120, lambda: paused.exists() or life.done())
        assert not life.done(), life.result().output
        [(worker,)] = console.asked("SELECT worker FROM run_target")
        pid = int(worker.split(":")[1])
        try:
            until("it stands still", 10, lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
            assert list(locked_out(scene.target, console)) != [], "it is closed as long as the switch waits"
            until("the switch opens", 60, lambda: not list(locked_out(scene.target, console)))
            scene.target.lab.sql(SINCE)
            [(lines,)] = console.asked("SELECT max(id) FROM step_record")
        finally:
            kill(pid, signal.SIGCONT)
        ended = life.result(180)
    assert ended.code == 0, ended.output
    told = asked_of_the_server(scene)
    since = told[max(n for n, statement in enumerate(told) if SINCE in statement) + 1 :]
    closing = [n for n, statement in enumerate(since) if statement.startswith(CLOSES[scene.engine])]
    cuts = console.asked(f"SELECT id FROM step_record WHERE id > {lines} AND part = 'cut'")
    assert bool(cuts) is closes_again
    if closes_again:
        since = since[: closing[0]]
        [(begun,)] = console.asked("SELECT min(started_at) FROM action_record")
        [(cut,)] = console.asked(f"SELECT finished_at FROM step_record WHERE id = {cuts[0][0]}")
        assert begun > cut, "nothing was worked on before it was closed again"
    assert [statement for statement in since if CHANGES.match(statement) and not harmless(statement)] == []
    assert 700001 in scene.target.ledger()
    assert list(locked_out(scene.target, console)) == []
    assert list(different(before, scene.target, console)) == []


def harmless(statement: str) -> bool:
    """What the console made beside the data goes; who may connect is put as it was before, again."""
    said = re.sub(r"/\*.*?\*/", "", statement)  # every statement of the console is signed so
    return bool(re.search(r"dbm\w*_", said) or re.match(r"ALTER (DATABASE|USER|DEFINER)\b|\w+ EXTENSION\b", said))
