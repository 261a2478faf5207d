"""The dead man's switch: the server opens the database by itself when this console is heard of no more.

A session beside the target runs one block that looks every second whether a session of our role holds the
maintenance lock. The server frees that lock with the session that holds it - at once when our process dies, within 25 s
by TCP keep-alive (maintenance_lock.KEEP_ALIVE) when the whole host does, and from version 14 on also when only the line
is silent. The block runs on when its client is gone, because nothing makes the server look at that connection
(client_connection_check_interval is 0 in it). It counts its own seconds, so no clock moves it, and ends when the mark
of the cut is gone, whoever opened. It does not outlive a restart of the server. It opens the database of the oid, the
owner and the very mark that it was armed for, whatever names and marks others put up meanwhile.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import Transient, Unable
from ..parts import DeadManSwitch
from ..values import Json
from .access_gate import PostgresGate
from .connection import give_back
from .database_access import access_of
from .maintenance_lock import PostgresLock
from .sql import ask, literal, words_of
from .target import TargetDatabase

LEAST_IDLE_SECONDS = 15
"""Several times the pause between two signs of life."""
UNLIMITED = (
    "SET statement_timeout = 0; SET lock_timeout = '1s'; SET idle_in_transaction_session_timeout = 0;"
    " SET client_min_messages = warning"
)


class PostgresSwitch(DeadManSwitch):
    """Arming and disarming; the gate knows nothing of it."""

    def __init__(self, target: TargetDatabase, lock: PostgresLock, gate: PostgresGate) -> None:
        self.target, self.lock, self.gate = target, lock, gate

    def arm(self, gate: Json, seconds: float) -> None:
        """See DeadManSwitch.arm."""
        if self._switch_runs():
            return  # The block counts from when we were heard of last, so there is nothing to begin anew.
        connection = self.target.open(self.target.control_database(), "arming the switch of", self.target.name)
        try:
            statement = self._block(connection, gate, max(1, round(seconds)))
            for setting in UNLIMITED.split(";"):
                ask(connection, setting)
            if self.target.capabilities.checks_client:
                ask(connection, "SET client_connection_check_interval = 0")
            ask(connection, "SELECT set_config('application_name', %(name)s, false)", name=self._switch_name())
        except DBAPIError as error:
            give_back(connection)
            raise Unable("arming the switch of", self.target.name, words_of(error)) from error
        threading.Thread(target=_run, args=(connection, statement), name="switch", daemon=True).start()
        self._need_running()
        self.lock.release_when_idle(max(seconds, LEAST_IDLE_SECONDS))

    def disarm(self) -> None:
        """See DeadManSwitch.disarm. End the block, also one that an earlier object armed, and wait until it is gone."""
        self.lock.reacquire()
        self.lock.release_when_idle(0)
        with self.target.control("disarming the switch of") as connection:
            for _ in range(500):
                pids = self._switches(connection)
                if not pids:
                    break
                for pid in pids:
                    ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
                self.target.stopping.wait(0.01)
            else:
                raise Transient("disarming the switch of", self.target.name, "its session stays")

    def keepalive(self) -> None:
        """See DeadManSwitch.keepalive. The lock that the block looks at is ours as long as our session lives."""
        self.lock.reacquire()

    # -- the block ---------------------------------------------------------------------------------

    def _switch_name(self) -> str:
        return f"{self.target.tag.session}:switch"

    def _block(self, connection: Connection, gate: Json, seconds: int) -> str:
        access = access_of(self.target, connection)
        return BLOCK.format(
            tag=f"$s{secrets.token_hex(6)}$",
            oid=access.oid,
            name=literal(connection, self.target.name),
            found=literal(connection, access.name),
            owner=literal(connection, access.owner),
            mark=literal(connection, access.comment),
            key=literal(connection, self.lock.lock_key()),
            seconds=seconds,
            hidden="true" if access.name != self.target.name else "false",
            steps=", ".join(literal(connection, step) for step in self.gate.opening(connection, gate)),
        )

    def _need_running(self) -> None:
        with self.target.control("looking for the switch of") as connection:
            for _ in range(200):
                if self._runs(connection):
                    return
                self.target.stopping.wait(0.01)
        raise Unable("arming the switch of", self.target.name, "the server does not run its block")

    def _switch_runs(self) -> bool:
        with self.target.control("looking for the switch of") as connection:
            return self._runs(connection)

    def _runs(self, connection: Connection) -> bool:
        rows = ask(
            connection,
            """SELECT 1 FROM pg_stat_activity
               WHERE application_name = %(mine)s AND state = 'active' AND usename = session_user""",
            mine=self._switch_name(),
        )
        return bool(rows)

    def _switches(self, connection: Connection) -> list[int]:
        rows = ask(
            connection,
            """SELECT pid FROM pg_stat_activity
               WHERE starts_with(application_name, %(family)s) AND application_name LIKE '%%:switch'
                 AND usename = session_user""",
            family=self.target.tag.family,
        )
        return [int(pid) for (pid,) in rows]


def _run(connection: Connection, statement: str) -> None:
    """As long as the block runs; the process may end meanwhile."""
    with suppress(DBAPIError):
        ask(connection, statement)
    give_back(connection)


BLOCK = """DO {tag}
DECLARE silent int := 0; step text; opened boolean := false;
BEGIN
  LOOP
    PERFORM pg_catalog.pg_sleep(1);
    COMMIT;
    EXIT WHEN opened OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_database
      WHERE oid = {oid} AND datname = {found} AND pg_catalog.pg_get_userbyid(datdba) = {owner}
        AND pg_catalog.shobj_description(oid, 'pg_database') = {mark});
    IF EXISTS (SELECT 1 FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
      WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND a.usename = session_user
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        AND (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtextextended({key}, 0))
    THEN silent := 0; ELSE silent := silent + 1; END IF;
    CONTINUE WHEN silent < {seconds};
    BEGIN
      IF {hidden} THEN
        PERFORM pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datid = {oid};
      END IF;
      FOREACH step IN ARRAY ARRAY[{steps}] LOOP EXECUTE step; END LOOP;
      IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE oid = {oid} AND datname = {name}) THEN
        RAISE EXCEPTION 'the statements reached another database';
      END IF;
      opened := true;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
END {tag}"""
"""https://www.postgresql.org/docs/current/plpgsql-transactions.html: COMMIT in a DO block outside a transaction."""
