"""The gate: who may come in. Locked accounts, ended sessions, proof of quiet, opening again in stages.

ACCOUNT LOCK alone leaves a door: a client that was asked for its password before the lock and answers
after it gets in. Connection ids are given when the server accepts, so a session of our own opened
after the lock is a fence: what is older than it is ended, what is newer meets the lock.

An account lock outlives a restart of the server, so the state before is mirrored on the target, in a
schema of ours, before the first account is locked: any host can put it back.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, cast

from sqlalchemy.exc import DBAPIError

from ..errors import AccessDenied, EngineError, Transient, Unable
from ..messages import listed, msg
from ..values import Cut, Json
from . import structure, writing
from .address import way
from .driver_errors import ENDED_FROM_OUTSIDE, code_of, from_driver
from .names import account, full, quoted, shortened
from .server import Server
from .session import Row, Session

QUIET_POLLS = 3
POLL_SECONDS = 0.03
REPLICATION_COMMANDS = frozenset(("Binlog Dump", "Binlog Dump GTID", "Slave_IO", "Slave_SQL", "Slave_worker", "Daemon"))
SERVER_USERS = frozenset(("system user", "event_scheduler"))
OUR_SCHEMAS = r"dbm\_%"
"""The switch of another target on this server is an event of ours."""
NOT_YET_KNOWN = "unauthenticated user"
LOCAL_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))
REACHING = (
    "'SELECT','INSERT','UPDATE','DELETE','DELETE HISTORY','SUPER','ALTER','DROP','CREATE','EXECUTE','INDEX','TRIGGER',"
    "'EVENT'"
)


def mirror_schema(server: Server) -> str:
    """Where the state before lies on the target while the gate is not as before."""
    return f"dbm_gate_{shortened(server.schema)}"


# -- the state before ------------------------------------------------------------------------------


def read_state(server: Server) -> Json:
    """See AccessGate.read_state."""
    with server.session("reading the gate of") as session:
        server.need_schema(session)
        return mirrored(server, session) or observed(server, session)


def observed(server: Server, session: Session) -> Json:
    """Accounts that reach the schema, events that are on, and the limits, as they are now."""
    return {
        "schema": server.schema,
        "max_connections": int(session.value("SELECT @@GLOBAL.max_connections")),
        "accounts": _accounts(server, session),
        "events": _events(server, session),
    }


def _accounts(server: Server, session: Session) -> list[Json]:
    me = str(session.value("SELECT CURRENT_USER()"))
    reaching = reaching_accounts(server, session)
    rescuing = _rescuing(server, session)
    found: list[Json] = []
    for user, host, locked, limit in session.ask(server.accounts_sql):
        name = account(str(user), str(host))
        if name == me or str(user) in server.system_accounts or name in rescuing:
            continue
        if reaching is None or f"'{user}'@'{host}'" in reaching:
            found.append(
                {
                    "user": str(user),
                    "host": str(host),
                    "locked": bool(int(locked)),
                    "max_user_connections": int(limit or 0),
                    "definition": _definition_digest(session, str(user), str(host)),
                }
            )
    return found


def reaching_accounts(server: Server, session: Session) -> set[str] | None:
    """Accounts with any right on the schema, in the server's spelling 'user'@'host'; None: all (PUBLIC).

    A role may lead anywhere, so whoever has one counts; so does whoever may take another's identity, because
    the lock of the account that is taken is not looked at. Rights on another schema lead here by what lies in it.
    """
    if server.roles_of_all_sql is not None and session.value(server.roles_of_all_sql):
        return None
    found = _grantees(server, session, server.schema)
    for schema in writing.leading_here(server, session, found):
        found |= _grantees(server, session, schema)
    to_all = any(name.split("@")[0].strip("'").upper() == "PUBLIC" for name in found)
    return None if to_all else found


def _grantees(server: Server, session: Session, schema: str) -> set[str]:
    """Compared byte by byte, as the server does: `App` is another account than `app`, `Shop` another schema."""
    exact = "CAST({0} AS BINARY)" if int(session.value("SELECT @@lower_case_table_names")) == 0 else "LOWER({0})"
    here, there = exact.format("%(s)s"), exact.format
    rows = session.ask(
        f"SELECT grantee FROM information_schema.user_privileges WHERE privilege_type IN ({REACHING})"
        f" UNION ALL SELECT grantee FROM information_schema.schema_privileges WHERE {here} LIKE {there('table_schema')}"
        f" UNION ALL SELECT grantee FROM information_schema.table_privileges WHERE {there('table_schema')} = {here}"
        f" UNION ALL SELECT grantee FROM information_schema.column_privileges WHERE {there('table_schema')} = {here}"
        " UNION ALL SELECT CONCAT('''', user, '''@''', host, '''') FROM mysql.procs_priv"
        f" WHERE {there('db')} = {here}"
        " UNION ALL SELECT CONCAT('''', user, '''@''', host, '''') FROM mysql.proxies_priv"
        f" UNION ALL {server.role_edges_sql}",
        s=schema,
    )
    return {str(row[0]) for row in rows}


def _rescuing(server: Server, session: Session) -> set[str]:
    """Local administrators who are not logged in now: they stay able to undo everything by hand. Who is in could
    write, whatever schema they named, and is shut out like everybody else."""
    rows = session.ask(
        "SELECT DISTINCT grantee FROM information_schema.user_privileges"
        " WHERE privilege_type IN ('SUPER', 'CONNECTION ADMIN', 'CONNECTION_ADMIN')"
    )
    administrators = {str(row[0]) for row in rows}
    busy = {str(row[1]) for row in session.ask("SHOW PROCESSLIST") if str(row[4]) not in REPLICATION_COMMANDS}
    return {
        account(str(user), str(host))
        for user, host, _, _ in session.ask(server.accounts_sql)
        if f"'{user}'@'{host}'" in administrators and str(host) in LOCAL_HOSTS and str(user) not in busy
    }


def _definition_digest(session: Session, user: str, host: str) -> str:
    """Of SHOW CREATE USER: it holds a password hash, which must not lie in a journal."""
    shown = session.value("SHOW CREATE USER %(u)s@%(h)s", u=user, h=host)
    return hashlib.sha256(str(shown).encode()).hexdigest()


def _events(server: Server, session: Session) -> list[Json]:
    """Those of the schema, and those of others that name it: an event runs although its definer is locked."""
    rows = session.ask(
        "SELECT event_schema, event_name, status, definer, sql_mode, time_zone, character_set_client,"
        " collation_connection, database_collation, COALESCE(execute_at, ends) FROM information_schema.events"
        " WHERE event_schema = %(s)s OR (event_definition REGEXP %(n)s AND event_schema NOT LIKE %(ours)s)"
        " ORDER BY event_schema <> %(s)s, 1, 2",
        s=server.schema,
        n=writing.named(server.schema),
        ours=OUR_SCHEMAS,
    )
    keys = (
        *("schema", "name", "status", "definer", "sql_mode", "time_zone"),
        *("charset", "collation", "database_collation", "last_due"),
    )
    return [dict(zip(keys, map(str, row), strict=True)) for row in rows]


def enabled_events(server: Server, session: Session) -> list[Json]:
    """Events that reach the schema as far as their text tells, and that are on now."""
    return [event for event in _events(server, session) if event["status"] == "ENABLED"]


# -- the mirror on the target ----------------------------------------------------------------------


def mirrored(server: Server, session: Session) -> Json | None:
    """The state before that an earlier cut of this installation left on the target.

    Whoever may create schemas can put one like it there, or a copy: what we did not sign for this very schema of this
    very server is nothing, and nobody's account is opened by it.
    """
    gate, _ = _lying_there(server, session)
    if gate is None or not server.tag.signer.is_signed(gate, _place(server, session, "gate")):
        return None
    return {name: value for name, value in gate.items() if name != "signature"}


def marked(server: Server, session: Session) -> Json | None:
    """The marker of a cut of this installation that is on the target."""
    _, marker = _lying_there(server, session)
    if marker is None or not server.tag.signer.is_signed(marker, _place(server, session, "marker")):
        return None
    return marker if mirrored(server, session) is not None else None


def closed_by_another(server: Server, session: Session) -> bool:
    """Whether another installation closed the schema. Its signature means nothing to us, so its mark does no more
    than keep us away, and only where accounts that it names and that reach the schema are locked indeed."""
    gate, marker = _lying_there(server, session)
    if gate is None or marker is None or not server.tag.is_anothers(marker):
        return False
    locked = {(one["user"], one["host"]) for one in _accounts(server, session) if one["locked"]}
    accounts = gate.get("accounts")
    return isinstance(accounts, list) and any(
        isinstance(one, dict) and not one.get("locked") and (one.get("user"), one.get("host")) in locked
        for one in accounts
    )


def _lying_there(server: Server, session: Session) -> tuple[Json | None, Json | None]:
    """Gate and marker as they lie on the target, whoever put them there; None for what is neither."""
    schema = mirror_schema(server)
    columns = session.ask(
        "SELECT c.column_name FROM information_schema.tables t JOIN information_schema.columns c"
        " ON c.table_schema = t.table_schema AND c.table_name = t.table_name WHERE t.table_schema = %(s)s"
        " AND t.table_name = 'gate' AND t.table_type = 'BASE TABLE' AND c.table_schema = %(s)s"
        " AND c.table_name = 'gate' AND c.column_name IN ('gate', 'marker')",
        s=schema,
    )
    try:
        rows = session.ask(f"SELECT gate, marker FROM {full(schema, 'gate')} LIMIT 1") if len(columns) == 2 else []
    except DBAPIError as error:
        if code_of(error) not in (1049, 1146):
            raise
        rows = []  # the switch has fired and drops it at this moment
    gate, marker = rows[0] if rows else (None, None)
    return _parsed(gate), _parsed(marker)


def _parsed(text: object) -> Json | None:
    try:
        found = json.loads(str(text))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _place(server: Server, session: Session, what: str) -> str:
    """What a signature is good for: this server's schema."""
    return f"{what} of {server.schema} on {session.value(server.identity_sql)}"


def _write_mirror(server: Server, session: Session, gate: Json, marker: Json) -> None:
    """The first gate of ours stays; the marker is always the latest. What others put in its place goes."""
    schema = mirror_schema(server)
    if mirrored(server, session) is None:
        _drop_mirror(server, session)
    session.ask(f"CREATE DATABASE IF NOT EXISTS {quoted(schema)} CHARACTER SET utf8mb4")
    session.ask(
        f"CREATE TABLE IF NOT EXISTS {full(schema, 'gate')}"
        " (id TINYINT PRIMARY KEY, gate LONGTEXT NOT NULL, marker LONGTEXT NOT NULL) ENGINE=InnoDB"
    )
    sign = server.tag.signer.signed
    session.ask(
        f"INSERT INTO {full(schema, 'gate')} VALUES (1, %(gate)s, %(marker)s)"
        " ON DUPLICATE KEY UPDATE marker = VALUES(marker)",
        gate=json.dumps(sign(gate, _place(server, session, "gate"))),
        marker=json.dumps(sign(marker, _place(server, session, "marker"))),
    )


def _drop_mirror(server: Server, session: Session) -> None:
    session.ask(f"DROP DATABASE IF EXISTS {quoted(mirror_schema(server))}")


@contextmanager
def local_session(server: Server, doing: str) -> Iterator[Session]:
    """Replicas keep their own accounts: what we do to the gate stays out of the binary log where we may."""
    with server.session(doing) as session:
        try:
            session.ask("SET SESSION sql_log_bin = 0")
        except DBAPIError as error:
            if code_of(error) not in (1227, 1231):
                raise
        yield session


# -- cut -------------------------------------------------------------------------------------------


def cut(server: Server, gate: Json, marker: Json) -> Cut:
    """See AccessGate.cut."""
    begun = time.monotonic()
    accounts = cast(list[dict[str, Any]], gate["accounts"])
    with local_session(server, "cutting connections of") as session:
        _need_to_see_everybody(session)
        _write_mirror(server, session, gate, marker)
        for one in accounts:
            if not one["locked"]:
                _lock(session, one)
        for event in cast(list[dict[str, str]], gate["events"]):
            if event["status"] == "ENABLED":
                _set_event(session, event, "DISABLE")
        # A new session proves that we can still log in; what is older than it is ended.
        with server.session("proving the way in to") as canary:
            fence = canary.id
        ended = _drain(server, session, Inside(accounts, session.ask(server.accounts_sql), fence))
    return Cut(ended, QUIET_POLLS, time.monotonic() - begun)


def _need_to_see_everybody(session: Session) -> None:
    """Without PROCESS we would see our own sessions only and call that quiet. Raises the server's refusal."""
    session.ask("SELECT COUNT(*) FROM information_schema.innodb_trx")


def _lock(session: Session, one: dict[str, Any]) -> None:
    name = account(one["user"], one["host"])
    try:
        session.ask("ALTER USER %(u)s@%(h)s ACCOUNT LOCK", u=one["user"], h=one["host"])
    except DBAPIError as error:
        if code_of(error) == 1396:
            return  # dropped meanwhile
        if code_of(error) in (1227, 1044, 1045):
            raise Unable(
                "locking", name, msg("{words}; this account needs the right to alter it", words=str(error.orig))
            ) from error
        raise


def _set_event(session: Session, event: dict[str, str], state: str) -> None:
    """ALTER EVENT takes definer, sql_mode, character sets and time zone from the session that says it: all are given as
    they were, or the event means something else afterwards."""
    user, _, host = event["definer"].rpartition("@")
    session.ask(
        "SET SESSION sql_mode = %(mode)s, character_set_client = %(charset)s, collation_connection = %(collation)s,"
        " collation_database = %(database)s, time_zone = %(zone)s",
        mode=event["sql_mode"],
        charset=event.get("charset", "utf8mb4"),
        collation=event.get("collation", "utf8mb4_general_ci"),
        database=event.get("database_collation", "utf8mb4_general_ci"),
        zone=event["time_zone"],
    )
    try:
        session.ask(
            f"ALTER DEFINER = {quoted(user)}@{quoted(host)} EVENT {full(event['schema'], event['name'])} {state}"
        )
    except DBAPIError as error:
        if code_of(error) not in GONE:
            raise
    finally:
        session.ask("SET NAMES utf8mb4")
        session.ask("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")


GONE = frozenset((1539, 1588, 1589))
"""The event was dropped meanwhile, or its time is over."""


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
    """Sorts as the server does: by how much stands before the first wildcard."""
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


def _drain(server: Server, session: Session, who: Inside) -> int:
    """Ends who is in until nobody is, three looks in a row. Raises Transient when somebody stays."""
    until = time.monotonic() + server.limits.cut_seconds
    ended: set[int] = set()
    quiet = 0
    while quiet < QUIET_POLLS:
        server.raise_if_stopping("cutting connections of", server.schema)
        inside = _inside(server, session, who)
        for row in inside:
            if server.kill(session, f"{server.kill_session} {row[0]}") and row[1] != NOT_YET_KNOWN:
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


# -- open ------------------------------------------------------------------------------------------


def open_gate(server: Server, gate: Json, share: float | None) -> None:
    """See AccessGate.open. Accounts first, then events, the mirror last."""
    accounts = cast(list[dict[str, Any]], gate["accounts"])
    with local_session(server, "opening the gate of") as session:
        failed = [
            error
            for one in accounts
            if not one["locked"] and (error := _failed(_unlock, session, one, _limit(one, gate, share)))
        ]
        if share is None:
            failed += [
                error
                for event in cast(list[dict[str, str]], gate["events"])
                if event["status"] == "ENABLED" and (error := _failed(_set_event, session, event, "ENABLE"))
            ]
        if failed:
            # Everything else is open by now; the mark stays, so that it can be done again.
            kind = next((type(error) for error in failed if isinstance(error, Transient)), type(failed[0]))
            words = listed(error.sentence for error in failed)
            raise kind("opening the gate of", server.schema, words)
        if share is None:
            _drop_mirror(server, session)


def _failed(step: Callable[..., None], session: Session, one: Mapping[str, Any], *args: object) -> EngineError | None:
    """Do one step of opening; return why it did not come about. A lost connection is raised: nothing else would."""
    try:
        step(session, one, *args)
    except EngineError as error:
        return error
    except DBAPIError as error:
        if code_of(error) in ENDED_FROM_OUTSIDE:
            raise
        name = account(one["user"], one["host"]) if "user" in one else full(one["schema"], one["name"])
        return from_driver(error, "opening", name, stopping=False)
    return None


def opening(server: Server, session: Session, gate: Json) -> list[str]:
    """The statements that bring accounts and events back as `gate` says, in the order of `open_gate`."""

    def literal(text: str) -> str:
        return str(session.value("SELECT QUOTE(%(t)s)", t=text))

    statements = [
        f"ALTER USER {literal(one['user'])}@{literal(one['host'])} WITH MAX_USER_CONNECTIONS"
        f" {_limit(one, gate, None):d} ACCOUNT UNLOCK"
        for one in cast(list[dict[str, Any]], gate["accounts"])
        if not one["locked"]
    ]
    for event in cast(list[dict[str, str]], gate["events"]):
        if event["status"] == "ENABLED":
            user, _, host = event["definer"].rpartition("@")
            statements += [
                f"SET SESSION sql_mode = {literal(event['sql_mode'])}",
                f"ALTER DEFINER = {quoted(user)}@{quoted(host)} EVENT {full(event['schema'], event['name'])} ENABLE",
            ]
    return statements


def manual_commands(server: Server, gate: Json) -> list[str]:
    """See AccessGate.manual_commands."""
    with server.session("looking how to open by hand") as session:
        drop = f"DROP DATABASE IF EXISTS {quoted(mirror_schema(server))}"
        statements = "; ".join([*opening(server, session, gate), drop])
        return [shlex.join([server.client_programs[0], *way(server.url), "-p", "-e", statements])]


def is_cut(server: Server) -> bool:
    """See AccessGate.is_cut."""
    with server.session("looking for the mark of the cut on") as session:
        mark = marked(server, session)
        return mark is not None and server.tag.wrote(mark)


def _limit(one: dict[str, Any], gate: Json, share: float | None) -> int:
    """Connections this account may have; exactly its own limit (0: none) when `share` is None."""
    own = int(one["max_user_connections"])
    if share is None:
        return own
    return max(1, math.ceil((own or int(cast(int, gate["max_connections"]))) * share))


def _unlock(session: Session, one: dict[str, Any], limit: int) -> None:
    try:
        session.ask(
            f"ALTER USER %(u)s@%(h)s WITH MAX_USER_CONNECTIONS {limit:d} ACCOUNT UNLOCK", u=one["user"], h=one["host"]
        )
    except DBAPIError as error:
        if code_of(error) == 1396:
            return  # dropped meanwhile; differences tells
        if code_of(error) == 1227:
            raise AccessDenied("unlocking", account(one["user"], one["host"]), str(error.orig)) from error
        raise


def differences(server: Server, gate: Json) -> list[str]:
    """See AccessGate.differences."""
    with server.session("comparing the gate of") as session:
        differences = _account_differences(server, session, cast(list[dict[str, Any]], gate["accounts"]))
        differences += _event_differences(server, session, cast(list[dict[str, str]], gate["events"]))
        limit = int(session.value("SELECT @@GLOBAL.max_connections"))
        if limit != gate["max_connections"]:
            differences.append(msg("max_connections is {now}, was {then}", now=limit, then=gate["max_connections"]))
        if structure.schema_exists(session, mirror_schema(server)):
            differences.append(msg("our marker {name} is still on the target", name=mirror_schema(server)))
    return differences


def _account_differences(server: Server, session: Session, before: list[dict[str, Any]]) -> list[str]:
    now = {(str(u), str(h)): (bool(int(locked)), int(n or 0)) for u, h, locked, n in session.ask(server.accounts_sql)}
    differences: list[str] = []
    for one in before:
        name, key = account(one["user"], one["host"]), (str(one["user"]), str(one["host"]))
        if key not in now:
            differences.append(msg("account {name} is gone", name=name))
            continue
        locked, limit = now[key]
        if locked != one["locked"]:
            told = (
                msg("account {name} is locked", name=name) if locked else msg("account {name} is not locked", name=name)
            )
            differences.append(told)
        if limit != one["max_user_connections"]:
            then = one["max_user_connections"]
            told = msg("account {name} may have {now} connections, was {then}", name=name, now=limit, then=then)
            differences.append(told)
        same_switches = locked == one["locked"] and limit == one["max_user_connections"]
        if same_switches and _definition_digest(session, *key) != one["definition"]:
            differences.append(msg("account {name} is defined differently", name=name))
    return differences


def _is_over(session: Session, event: dict[str, str]) -> bool:
    """Whether the last time at which the event was to run is past. The server tells it in the event's time zone."""
    due = event.get("last_due", "None")
    if due == "None":
        return False
    return bool(
        session.value(
            "SELECT COALESCE(CONVERT_TZ(%(due)s, %(zone)s, '+00:00'), %(due)s) <= UTC_TIMESTAMP()",
            due=due,
            zone=event["time_zone"],
        )
    )


def _event_differences(server: Server, session: Session, before: list[dict[str, str]]) -> list[str]:
    now = {(str(event["schema"]), str(event["name"])): event for event in _events(server, session)}
    differences: list[str] = []
    for event in before:
        found = now.get((event["schema"], event["name"]))
        if found is None and _is_over(session, event):
            continue  # its time came during the outage, and then the server drops it or puts it to sleep
        if found is None:
            differences.append(msg("event {name} is gone", name=event["name"]))
        elif _is_over(session, event) and {**found, "status": ""} == {**event, "status": ""}:
            continue
        elif found != event:
            changed = [
                msg("{what} is {now}, was {then}", what=key, now=found[key], then=event[key])
                for key in event
                if found[key] != event[key]
            ]
            differences.append(msg("event {name}: {changes}", name=event["name"], changes=listed(changed)))
    return differences
