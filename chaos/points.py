"""Crash points at every effect of the console's process, whoever wrote the code: heard at the doors to the outside.

Before and after each statement that changes something on a server, before each that changes a SQLite file (the
control database's commits too), before each file that is written, renamed or removed, each program that is started.
Nothing of it is in the product, so it costs nothing there, and an effect that is added later is heard as well.
Names hold no numbers, so that the same effect has the same name in each run.
"""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

READS = frozenset(
    """SELECT SET RESET SHOW BEGIN START ROLLBACK SAVEPOINT RELEASE EXPLAIN WITH USE DESCRIBE CHECK VALUES XA
    PREPARE DEALLOCATE DECLARE FETCH CLOSE""".split()  # noqa: SIM905
)
ACTS = re.compile(r"\b(pg_terminate_backend|pg_cancel_backend|pg_(?:try_)?advisory_\w*lock|setval|GET_LOCK)\b", re.I)
"""What a SELECT may call that changes something."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
FILE_EVENTS = frozenset(
    ("os.rename", "os.remove", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.mkdir", "os.rmdir")
)
LEFT_OUT = ("/logs/", "/trace")


def effect_of(statement: str) -> str | None:
    """What a statement changes, in two words; None when it only reads."""
    words = re.findall(r"[A-Za-z_]+|=", statement[:2000])
    if not words:
        return None
    first = words[0].upper()
    if first == "PRAGMA":
        return f"PRAGMA {words[1]}" if "=" in statement else None
    if first in READS and (first, *words[1:2]) != ("SET", "GLOBAL"):
        acts = ACTS.search(statement)
        return f"{first} {acts[1].lower()}" if acts else None
    second = words[1].upper() if len(words) > 1 and first not in ("COMMIT", "DO") else ""
    return f"{first} {second}".strip()


class Doors:
    """Tells `pass_` the name of each effect before it happens, and after those of servers."""

    def __init__(self, pass_: Any, places: list[str]) -> None:
        self.pass_, self.places = pass_, places
        self.here = threading.local()

    def hear(self) -> None:
        from sqlalchemy import Engine, Pool, event

        def before(connection: Any, cursor: Any, statement: str, *rest: object) -> None:
            if connection.dialect.name != "postgresql":
                self.passing("statement", effect_of(statement))

        def after(connection: Any, cursor: Any, statement: str, *rest: object) -> None:
            effect = effect_of(statement)
            if effect and connection.dialect.name != "postgresql":
                self.passing("statement", f"{effect} done")

        event.listen(Engine, "before_cursor_execute", before)
        event.listen(Engine, "after_cursor_execute", after)
        event.listen(Pool, "connect", self.give_cursor)
        connect = sqlite3.connect

        def connected(*args: Any, **named: Any) -> sqlite3.Connection:
            made: sqlite3.Connection = connect(*args, **named)
            self.watch(made)
            return made

        for door in (sqlite3, sqlite3.dbapi2):
            door.connect = connected  # type: ignore[attr-defined]
        sys.addaudithook(self.audited)

    def give_cursor(self, driver: Any, record: object) -> None:
        """PostgreSQL's long statements go by the driver's own cursor, past SQLAlchemy."""
        if not isinstance(driver, psycopg2.extensions.connection):
            return
        doors = self

        class Heard(psycopg2.extensions.cursor):
            def execute(self, query: Any, vars: Any = None) -> None:
                effect = effect_of(query if isinstance(query, str) else "")
                doors.passing("statement", effect)
                super().execute(query, vars)
                doors.passing("statement", effect and f"{effect} done")

        driver.cursor_factory = Heard

    def passing(self, kind: str, name: str | None) -> None:
        if name is None or getattr(self.here, "busy", False):
            return
        self.here.busy = True
        try:
            self.pass_(f"{kind} {name}")
        finally:
            self.here.busy = False

    def audited(self, event: str, args: tuple[Any, ...]) -> None:
        if getattr(self.here, "busy", False):
            return
        if event == "subprocess.Popen":
            self.passing("program", program_of(args[1]))
        elif event in FILE_EVENTS:
            self.passing(
                event.removeprefix("os."), self.ours(args[1] if event in ("os.rename", "os.link") else args[0])
            )
        elif event == "open" and isinstance(args[2], int) and args[2] & WRITES:
            self.passing("write", self.ours(args[0]))

    def ours(self, path: object) -> str | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        text = os.path.abspath(os.fsdecode(path))
        if not text.startswith(tuple(self.places)) or any(part in text for part in LEFT_OUT):
            return None
        return numberless(Path(text).name)

    def watch(self, connection: sqlite3.Connection) -> None:
        self.here.busy = True
        try:
            path = next((row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"), "")
        finally:
            self.here.busy = False
        if Path(path).name.startswith("control"):
            connection.set_trace_callback(lambda sql: self.passing("journal", "COMMIT" if sql == "COMMIT" else None))
        else:
            connection.set_trace_callback(lambda sql: self.passing("sqlite", effect_of(sql)))


def program_of(args: Any) -> str | None:
    words = [os.fsdecode(word) for word in args]
    return Path(words[words.index("--") + 1] if "--" in words[:-1] else words[0]).name


def numberless(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", re.sub(r"\d+", "N", name))


def trace(file: Path) -> None:
    """Every point of this process into `file`, one a line, at its end; each can be its death before.

    In their names a folder of this matrix is called by its last part: it has another name each time.
    """
    from maintenance.workflow import crashpoints

    own, places = crashpoints.point, os.environ["DBMAINT_CHAOS_PLACES"].split(os.pathsep)
    passed: list[str] = []

    def traced(name: str) -> None:
        for place in places:
            name = name.replace(place, Path(place).name)
        passed.append(name)
        own(name)

    crashpoints.point = traced
    Doors(lambda name: crashpoints.point(name), places).hear()
    atexit.register(lambda: file.write_text("\n".join(passed)))
