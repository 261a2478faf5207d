"""Free space where the server keeps data, log and tablespaces, and whether it is enough to rewrite a table."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import Message, msg, size
from maintenance.engines.values import Finding

from ..sql import Row, ask, canonical, data_directory, transaction

ROOM = 1.2
"""A rewrite needs the table once more, and its sorting some space beside that."""

DATA, LOG = ".", "pg_wal"
"""Both as the server sees them, from its data folder."""

ELSEWHERE = """
SELECT c.oid, s.spcname, pg_tablespace_location(s.oid) FROM pg_class c
JOIN pg_database d ON d.datname = current_database()
JOIN pg_tablespace s ON s.oid = CASE c.reltablespace WHEN 0 THEN d.dattablespace ELSE c.reltablespace END
WHERE c.relkind IN ('r', 'm') AND pg_tablespace_location(s.oid) <> ''
"""
"""Tables that do not lie in the data folder."""


def free_bytes(connection: Connection) -> int | None:
    """Return the free space where the data lies; None when nobody can tell."""
    return _free(connection, [DATA])[0]


def headroom(connection: Connection, rows: Sequence[Row]) -> list[Finding]:
    """Return findings about places too full to rewrite the largest table in them. `rows` are as of `sizes.TABLES`."""
    sizes = {int(row[0]): (int(row[6]), canonical(row[1], row[2])) for row in rows}
    if not sizes:
        return []
    places: dict[str, tuple[str, tuple[int, str]]] = {}
    for oid, space, location in ask(connection, ELSEWHERE):
        largest = max(sizes.pop(int(oid), (0, "")), places.get(location, (space, (0, "")))[1])
        places[str(location)] = (str(space), largest)
    [(log_size,)] = ask(connection, "SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_wal_size'")
    data, log, *spaces = _free(connection, [DATA, LOG, *places])
    if data is None or log is None:
        return [unknown()]
    everything = [*sizes.values(), *(largest for _, largest in places.values())]
    found = [
        short("disk_headroom", msg("the data"), data, max(sizes.values(), default=(0, "")), 0),
        short("wal_headroom", msg("the log (pg_wal)"), log, max(everything), int(log_size)),
    ]
    for (space, largest), free in zip(places.values(), spaces, strict=True):
        found.append(short("tablespace_headroom", msg("tablespace {name}", name=space), free or 0, largest, 0))
    return [finding for finding in found if finding]


def _free(connection: Connection, places: Sequence[str]) -> list[int | None]:
    """Return bytes, seen directly when the server is on this host, otherwise asked of the server by way of `df` where
    this account may run programs there."""
    folder = data_directory(connection)
    if folder and _is_local(connection):
        try:
            return [shutil.disk_usage(Path(folder, place)).free for place in places]
        except OSError:
            pass
    try:
        program = "df -Pk " + " ".join(shlex.quote(place) for place in places)
        [(literal,)] = ask(connection, "SELECT quote_literal(%(program)s)", program=program)
        with transaction(connection, "BEGIN READ WRITE"):
            ask(connection, "CREATE TEMPORARY TABLE dbmaint_df (line text) ON COMMIT DROP")
            ask(connection, f"COPY dbmaint_df FROM PROGRAM {literal}")
            lines = [str(line) for (line,) in ask(connection, "SELECT line FROM dbmaint_df")]
        return [int(line.split()[3]) * 1024 for line in lines[-len(places) :]]
    except (DBAPIError, IndexError, ValueError):
        return [None] * len(places)


def _is_local(connection: Connection) -> bool:
    """The data folder on this host carries the start time of the very server that we speak to."""
    try:
        [(started, folder)] = ask(
            connection,
            "SELECT extract(epoch FROM pg_postmaster_start_time()), current_setting('data_directory')",
        )
        lines = (Path(folder) / "postmaster.pid").read_text().splitlines()
        return abs(int(lines[2]) - float(started)) < 3
    except (DBAPIError, OSError, IndexError, ValueError):
        return False


def short(code: str, place: Message, free: int, largest: tuple[int, str], more: int) -> Finding | None:
    needed = int(largest[0] * ROOM) + more
    if free >= needed:
        return None
    return Finding(
        code,
        "high",
        "",
        msg(
            "{free} are free for {place}; rewriting {table} may need {needed}",
            free=size(free),
            place=place,
            table=largest[1],
            needed=size(needed),
        ),
        msg("Make room first: a full data disk ends the work, a full log disk ends the server"),
    )


def unknown() -> Finding:
    return Finding(
        "free_space_unknown",
        "low",
        "",
        msg("The server does not tell this account how much disk space is free"),
        msg("Look on the server's host before a rebuild, or run the console there"),
    )
