"""Ending the sessions of everybody else, until nobody is in."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from ..errors import EngineError, Transient
from ..messages import msg
from .connection import Row, Session
from .target import Server

QUIET_POLLS = 3


POLL_SECONDS = 0.03


REPLICATION_COMMANDS = frozenset(("Binlog Dump", "Binlog Dump GTID", "Slave_IO", "Slave_SQL", "Slave_worker", "Daemon"))


SERVER_USERS = frozenset(("system user", "event_scheduler"))


NOT_YET_KNOWN = "unauthenticated user"


@dataclass(frozen=True)
class Inside:
    """Whose sessions must go: those of these accounts, among all that there are, older than a session of ours."""

    shut_out: Sequence[Mapping[str, Any]]
    accounts: Sequence[Row]
    fence: int

    def includes(self, user: str, host: str) -> bool:
        """Whether a session of this user from this host is one of an account that is shut out.

        The server takes the most specific host of those that fit. Where none seems to fit (the session tells a name,
        the account an address), every account of that user is meant.
        """
        ours = {str(one["host"]) for one in self.shut_out if one["user"] == user}
        hosts = sorted((str(row[1]) for row in self.accounts if row[0] == user), key=_specific)
        fitting = [pattern for pattern in hosts if _fits(host.rpartition(":")[0] or host, pattern)]
        return fitting[0] in ours if fitting else bool(ours)


def _specific(pattern: str) -> tuple[int, str]:
    """Sort as the server does: by how much stands before the first wildcard."""
    wild = re.search(r"[%_]", pattern)
    return (-wild.start() if wild else -len(pattern) - 256, pattern)


def _fits(host: str, pattern: str) -> bool:
    """Whether a host pattern of an account fits: % and _ as in LIKE, or an address with a mask."""
    if "/" in pattern:
        try:
            return ip_address(host) in ip_network(pattern, strict=False)
        except ValueError:
            return False
    like = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(like, host, re.IGNORECASE) is not None


def drain(server: Server, session: Session, who: Inside) -> int:
    """End who is in until nobody is, three looks in a row. Raises Transient when somebody stays."""
    until = time.monotonic() + server.limits.cut_seconds
    ended: set[int] = set()
    quiet = 0
    while quiet < QUIET_POLLS:
        server.raise_if_stopping("cutting connections of", server.schema)
        inside = _inside(server, session, who)
        for row in inside:
            if server.kill(session, f"{server.capabilities.kill_session} {row[0]}") and row[1] != NOT_YET_KNOWN:
                ended.add(int(row[0]))
        quiet = 0 if inside else quiet + 1
        if inside and time.monotonic() > until:
            raise _stayed(server, session, inside)
        time.sleep(POLL_SECONDS)
    return len(ended)


def _inside(server: Server, session: Session, who: Inside) -> list[Row]:
    """Processlist rows that must go: older than the fence and of a locked account or not yet logged in,
    or in the schema whoever they are. Not ours, not replication, not the server's own."""
    ours = server.own_session_ids(session)
    own_name = str(session.value("SELECT USER()")).rpartition("@")[0]
    found = []
    # SHOW PROCESSLIST, because the table of the same content fails when tmpdir is full.
    for row in session.ask("SHOW PROCESSLIST"):
        number, user, database, command = int(row[0]), str(row[1]), row[3], str(row[4])
        if (number in ours and user == own_name) or user in SERVER_USERS or command in REPLICATION_COMMANDS:
            continue
        # Under our own name also work for other databases goes on: only who is in this one must go.
        shut_out = user != own_name and who.includes(user, str(row[2]))
        older = number < who.fence and (user == NOT_YET_KNOWN or shut_out)
        if older or (database == server.schema and user != NOT_YET_KNOWN):
            found.append(row)
    return found


def _stayed(server: Server, session: Session, inside: list[Row]) -> EngineError:
    own = str(session.value("SELECT USER()")).rpartition("@")[0]
    names = sorted({str(row[1]) for row in inside})
    if own in names:
        words = msg(
            "applications use our own account {account}, which cannot be locked; "
            "give the console an account of its own",
            account=own,
        )
        return Transient("cutting connections of", server.schema, words)
    return Transient(
        "cutting connections of", server.schema, msg("sessions of {names} stay or come back", names=", ".join(names))
    )
