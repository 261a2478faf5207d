"""What the tests of MariaDB share: an engine on a lab, and ways to die in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from maintenance.engines.archive import Seal
from maintenance.engines.errors import EngineError
from maintenance.engines.messages import msg
from maintenance.engines.mysql import Family
from maintenance.engines.mysql.connection import Session
from maintenance.engines.values import Action, Json, Limits, Thresholds
from tests.engines.lab_mariadb import PAGE, MariaDBLab, _flip, _leaf_pages

PLAIN = Seal()


SMALL = Thresholds(minimum_bytes=10_000)


MARKER: Json = {"run": 5}


EFFECTS = ("ALTER", "CREATE", "DROP", "INSERT", "RENAME", "DELETE", "UPDATE")


@contextmanager
def engine_of(lab: MariaDBLab, token: int = 1, target: int = 7, **limits: Any) -> Iterator[Family]:
    with lab.engine(target, token, Limits(**{"jobs": 2, "lock_seconds": 5, "cut_seconds": 10, **limits})) as engine:
        assert isinstance(engine, Family)
        yield engine


def action(table: str, kind: str) -> Action:
    return Action(table, kind, msg("for the test"), msg("none"), 1, 1)


def backed_up(engine: Family, lab: MariaDBLab, which: int = 0, seal: Seal = PLAIN) -> Any:
    return engine.backups.back_up(engine.backups.methods[which], lab.folder, "shop", seal)


class Crash(BaseException):
    """Ends the engine's work as kill -9 would: nothing of it cleans up on the server."""


@contextmanager
def crashing_after(effects: int) -> Iterator[list[str]]:
    """The statement after so many with an effect does not come about any more. Yields what was said."""
    said: list[str] = []
    ask, verbatim = Session.ask, Session.verbatim

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(session: Session, sql: str, **binds: object) -> Any:
            if sql.lstrip().upper().startswith(EFFECTS):
                if len(said) == effects:
                    raise Crash(sql)
                said.append(sql)
            return original(session, sql, **binds)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "ask", guarded(ask))
        patch.setattr(Session, "verbatim", guarded(verbatim))
        yield said


def crash_everywhere(work: Callable[[], None]) -> Iterator[int]:
    """Runs `work` with a crash after 0, 1, 2, … effects, and gives control after each; ends when it got through."""
    for effects in range(200):
        try:
            with crashing_after(effects):
                work()
        except Crash:
            yield effects
        else:
            assert effects > 0
            return
    raise AssertionError("never got through")


@contextmanager
def crash_before(beginning: str) -> Iterator[list[str]]:
    """The first statement that begins so does not come about."""
    reached: list[str] = []
    ask, verbatim = Session.ask, Session.verbatim

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(session: Session, sql: str, **binds: object) -> Any:
            if sql.startswith(beginning):
                reached.append(sql)
                raise Crash(sql)
            return original(session, sql, **binds)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "ask", guarded(ask))
        patch.setattr(Session, "verbatim", guarded(verbatim))
        yield reached


def background(work: Callable[[], object]) -> Any:
    import threading

    def quietly() -> None:
        try:
            work()
        except (MySQLdb.Error, EngineError):
            pass

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def running(lab: MariaDBLab, text: str) -> int:
    return sum(1 for row in lab.sql("SHOW FULL PROCESSLIST") if text in str(row[7]) and row[1] != "root")


def crashed_table(lab: MariaDBLab) -> Path:
    """A MyISAM table with the mark that a server leaves which died while writing. Returns its index file."""
    lab.sql("CREATE TABLE old_log (id INT PRIMARY KEY, t VARCHAR(40)) ENGINE=MyISAM")
    lab.sql("INSERT INTO old_log SELECT seq, CONCAT('line ', seq) FROM seq_1_to_500")
    lab.sql("FLUSH TABLES old_log")
    index = lab.server.data / lab.database / "old_log.MYI"
    with open(index, "r+b") as file:
        file.seek(26)
        mark = file.read(1)[0] | 2
        file.seek(26)
        file.write(bytes([mark]))
    return index


def shown(lab: MariaDBLab, user: str, host: str) -> str:
    return str(lab.sql(f"SHOW CREATE USER '{user}'@'{host}'")[0][0])


def event_states(lab: MariaDBLab) -> list[tuple[object, ...]]:
    return lab.sql(
        "SELECT event_name, status, definer, sql_mode, time_zone, starts, interval_value, event_definition"
        " FROM information_schema.events WHERE event_schema = DATABASE() ORDER BY 1"
    )


def index_number(lab: MariaDBLab, table: str, index: str) -> int:
    """What the pages of this index call it."""
    found = lab.sql(
        f"SELECT i.index_id FROM information_schema.{lab.innodb}_indexes i"
        f" JOIN information_schema.{lab.innodb}_tables t ON t.table_id = i.table_id"
        f" WHERE t.name = '{lab.database}/{table}' AND i.name = '{index}'"
    )
    return int(str(found[0][0]))


def damaged_leaves(lab: MariaDBLab, table: str, index: int, bad: Callable[[Sequence[int]], Sequence[int]]) -> int:
    """The server stands still. Turns bytes of the leaves that `bad` takes of all; returns how many rows are on them."""
    file = lab.server.data / lab.database / f"{table}.ibd"
    data = file.read_bytes()
    pages = bad(_in_order(data, _leaf_pages(file, index)))
    for page in pages:
        _flip(file, page * PAGE + 8000, 64)
    return sum(int.from_bytes(data[page * PAGE + 54 : page * PAGE + 56], "big") for page in pages)


def _in_order(data: bytes, leaves: Sequence[int]) -> list[int]:
    following = {page: int.from_bytes(data[page * PAGE + 12 : page * PAGE + 16], "big") for page in leaves}
    place = next(page for page in leaves if page not in following.values())
    found = [place]
    while (place := following[place]) in following:
        found.append(place)
    return found
