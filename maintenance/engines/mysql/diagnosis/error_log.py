"""The server's own log: which tables it complains of, and what else happened to the server."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Finding, Severity

from .. import structure
from ..connection import Session
from ..filenames import from_file
from ..structure import Size
from ..target import Server

LOG_TAIL = 512 * 1024

IN_FILE = re.compile(
    r"(?:file|table)\s+[`'\"]?(?:\./)?([^`'\"\s/]+)[`'\"]?[./][`'\"]?([^`'\"\s]+?)(?:\.ibd)?[`'\"]",
    re.I,
)
COMPLAINT = re.compile(
    r"Failed to read page|Database page corruption|marked as crashed|Flagged corruption|is corrupted|index .* corrupt",
    re.I,
)
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d)[ T] ?(\d\d?:\d\d:\d\d)")
"""MariaDB writes the hours before ten with one digit and a second space."""


def log_suspects(server: Server, session: Session, measured: dict[str, Size]) -> dict[str, str]:
    """Tables of the schema that the server's log complains of, with the line; not what was rebuilt since."""
    found: dict[str, str] = {}
    for line in log_lines(server, session):
        named = IN_FILE.search(line)
        if not COMPLAINT.search(line) or named is None or from_file(named[1]) != server.schema:
            continue
        table = from_file(structure.PARTITION.split(named[2])[0])
        if table in measured and not _rebuilt_since(server, measured[table], line, session):
            found[table] = line.strip()[:300]
    return found


def _rebuilt_since(server: Server, measured: Size, line: str, session: Session) -> bool:
    """A rebuild makes a new file: its birth is later than the complaint. The log may be in the system's time zone."""
    stamp = STAMP.match(line)
    if stamp is None or measured.created is None:
        return False
    hour = stamp[2] if len(stamp[2]) == 8 else f"0{stamp[2]}"
    local = session.value(
        "SELECT CONVERT_TZ(%(t)s, %(z)s, '+00:00')", t=f"{stamp[1]} {hour}", z=server.capabilities.log_zone
    )
    return bool(local is not None and measured.created >= local)


def log_lines(server: Server, session: Session) -> list[str]:
    """The end of the server's error log where this process can read it, else what the server tells of it."""
    path, folder = session.ask("SELECT @@log_error, @@datadir")[0]
    if path and path != "stderr" and server.data_folder(session) is not None:
        try:
            with open(Path(str(folder)) / str(path), "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_TAIL))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            pass
    try:
        rows = session.ask(
            "SELECT CONCAT(logged, ' ', data) FROM performance_schema.error_log"
            " WHERE prio IN ('System', 'Error', 'Warning') ORDER BY logged DESC LIMIT 500"
        )
    except DBAPIError:
        return []
    return [str(row[0]) for row in reversed(rows)]


@dataclass(frozen=True)
class Sign:
    """What a line of the log means for the server as a whole."""

    code: str
    severity: Severity
    pattern: re.Pattern[str]
    hint: Message


CRASHED = "server_crashed"
START = re.compile(r"starting as process|Starting MariaDB .* as process", re.I)
READY, ENDED = "ready for connections", "Shutdown complete"

SIGNS = (
    Sign(
        CRASHED,
        "high",
        re.compile(r"got signal \d|got exception 0x|Starting crash recovery", re.I),
        msg("Something ended the server; look at the lines before, at the memory and at the hardware"),
    ),
    Sign(
        "disk_was_full",
        "high",
        re.compile(r"Disk is full|No space left on device|OS error: 28|errno: 28", re.I),
        msg("Writes waited or failed; free space before anything is rebuilt"),
    ),
)


def log_findings(server: Server, session: Session) -> list[Finding]:
    """What the end of the log tells of the server: the latest line of each kind, and how many there are."""
    lines = log_lines(server, session)
    found = []
    for sign in SIGNS:
        matching = [line.strip() for line in lines if sign.pattern.search(line)]
        if sign.code == CRASHED:
            matching += [line.strip() for line in _starts_without_an_end(lines)]
        if matching:
            evidence = msg(
                "{count} lines of the server's log, the last one: {line}", count=len(matching), line=matching[-1][:300]
            )
            found.append(Finding(sign.code, sign.severity, "", evidence, sign.hint))
    return found


def _starts_without_an_end(lines: list[str]) -> list[str]:
    """Start of a server that was ready before and did not say that it shut down: a kill writes no line."""
    found = []
    running = False
    for line in lines:
        if START.search(line):
            if running:
                found.append(line)
            running = False
        elif READY in line:
            running = True
        elif ENDED in line:
            running = False
    return found
