"""The dead man's switch: an event on the server that opens the schema when this console is heard of no more.

It lies in the schema of the mirror and counts how often it ran since we were heard of: its own runs, so that no
clock moves it. Firing and disarming exclude each other by a user lock. Having fired it drops the mirror with
itself, which is how a console that comes back learns of it. It outlives a restart of the server where the
scheduler is on there.
"""

from __future__ import annotations

import math

from ..errors import Transient, Unable
from ..parts import DeadManSwitch
from ..values import Json
from . import structure
from .access_gate import opening
from .connection import Session
from .gate_mirror import closed_by_another, mirror_schema
from .names import full, quoted
from .target import Server

LOOKS = 5
"""How often the event looks in the time that is set; never more than each second, at least every 5 s."""
LOCK_SECONDS = 5
"""What a statement of the event waits for others at most; then its next run tries again."""
PATIENCE_SECONDS = 20
"""The disarming waits for an event that is opening the schema; longer than it may wait for others itself."""


class ServerSwitch(DeadManSwitch):
    """An event of the server, in the schema of the mirror."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._armed = False

    def arm(self, gate: Json, seconds: float) -> None:
        """See DeadManSwitch.arm."""
        with self.server.unreplicated("arming the switch of") as session:
            if str(session.value("SELECT @@GLOBAL.event_scheduler")) != "ON":
                raise Unable("arming the switch of", self.server.schema, "event_scheduler is not ON on this server")
            schema = mirror_schema(self.server)
            table, event = full(schema, "switch"), full(schema, "opens")
            session.ask(
                f"CREATE TABLE IF NOT EXISTS {table} (id TINYINT PRIMARY KEY, armed TINYINT NOT NULL,"
                " silent INT NOT NULL) ENGINE=InnoDB"
            )
            session.ask(f"DROP EVENT IF EXISTS {event}")
            session.ask(f"REPLACE INTO {table} VALUES (1, 1, 0)")
            every = max(1, min(5, int(seconds / LOOKS)))
            steps = ";\n        ".join(opening(self.server, session, gate) or ["SET trouble = 0"])
            session.verbatim(
                BODY.format(
                    event=event,
                    every=every,
                    lock=_lock(self.server),
                    table=table,
                    gate=full(schema, "gate"),
                    schema=quoted(schema),
                    patience=LOCK_SECONDS,
                    looks=max(1, math.ceil(seconds / every)),
                    steps=steps,
                )
            )
        self._armed = True

    def disarm(self) -> None:
        """See DeadManSwitch.disarm."""
        with self.server.unreplicated("disarming the switch of") as session:
            if _has_switch(self.server, session) and not closed_by_another(self.server, session):
                _disarm(self.server, session)
        self._armed = False

    def keepalive(self) -> None:
        """See DeadManSwitch.keepalive."""
        if not self._armed:
            return
        with self.server.unreplicated("putting off the switch of") as session:
            if _has_switch(self.server, session):
                session.ask(f"UPDATE {full(mirror_schema(self.server), 'switch')} SET silent = 0 WHERE armed = 1")


BODY = """CREATE EVENT {event} ON SCHEDULE EVERY {every} SECOND DO
BEGIN
  DECLARE trouble INT DEFAULT 0;
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET trouble = trouble + 1;
  DECLARE CONTINUE HANDLER FOR 1396, 1539 SET trouble = trouble + 0;
  SET SESSION sql_log_bin = 0;
  SET SESSION lock_wait_timeout = {patience}, innodb_lock_wait_timeout = {patience};
  IF GET_LOCK('{lock}', 0) = 1 THEN
    UPDATE {table} SET silent = silent + 1 WHERE armed = 1;
    IF (SELECT COUNT(*) FROM {table} WHERE armed = 1 AND silent >= {looks}) = 1 THEN
      SET trouble = 0;
      UPDATE {gate} SET marker = '{{}}';
      IF trouble = 0 THEN
        {steps};
      END IF;
      IF trouble = 0 THEN
        DROP DATABASE {schema};
      END IF;
    END IF;
    DO RELEASE_LOCK('{lock}');
  END IF;
END"""
"""1396 and 1539: the account or the event was dropped meanwhile. With other trouble the next run tries again; from the
first try on the mirror names no cut any more, so that nobody takes a schema for closed that was opened in part."""


def _disarm(server: Server, session: Session) -> None:
    """Wait for the event where it is opening the schema. Raises Transient where it does not end."""
    schema, lock = mirror_schema(server), _lock(server)
    if session.value("SELECT GET_LOCK(%(lock)s, %(seconds)s)", lock=lock, seconds=PATIENCE_SECONDS) != 1:
        raise Transient("disarming the switch of", server.schema, "its event does not end")
    session.ask(f"UPDATE {full(schema, 'switch')} SET armed = 0")
    session.ask("DO RELEASE_LOCK(%(lock)s)", lock=lock)
    session.ask(f"DROP EVENT IF EXISTS {full(schema, 'opens')}")


def _has_switch(server: Server, session: Session) -> bool:
    schema = mirror_schema(server)
    return structure.schema_exists(session, schema) and bool(
        session.ask(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %(s)s AND table_name = 'switch'", s=schema
        )
    )


def _lock(server: Server) -> str:
    return server.secret_name(f"switch {server.schema}")
