"""The gate: who may come in. Locked accounts, ended sessions, proof of quiet, opening again in stages.

ACCOUNT LOCK alone leaves a door: a client that was asked for its password before the lock and answers
after it gets in. Connection ids are given when the server accepts, so a session of our own opened
after the lock is a fence: what is older than it is ended, what is newer meets the lock.

An account lock outlives a restart of the server, so the state before is mirrored on the target, in a
schema of ours, before the first account is locked: any host can put it back.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from sqlalchemy.exc import DBAPIError

from ..errors import AccessDenied, EngineError, Transient, Unable
from ..messages import listed, msg
from ..parts import AccessGate
from ..values import Cut, Json
from . import structure
from .accounts import account_differences, account_switches, observed_accounts
from .address import way
from .connection import Session
from .draining import QUIET_POLLS, Inside, drain
from .driver_errors import ENDED_FROM_OUTSIDE, code_of, from_driver
from .events import event_differences, made_under, observed_events, set_event, to_enable
from .gate_mirror import drop_mirror, marked, mirror_schema, mirrored, write_mirror
from .names import account, full, quoted
from .target import Server


class ServerGate(AccessGate):
    """Accounts that reach the schema are locked, events that reach it are off."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def read_state(self) -> Json:
        """See AccessGate.read_state."""
        with self.server.session("reading the gate of") as session:
            self.server.need_schema(session)
            return mirrored(self.server, session) or observed(self.server, session)

    def cut(self, gate: Json, marker: Json) -> Cut:
        """See AccessGate.cut."""
        begun = time.monotonic()
        accounts = cast(list[dict[str, Any]], gate["accounts"])
        with self.server.unreplicated("cutting connections of") as session:
            _need_to_see_everybody(session)
            write_mirror(self.server, session, gate, marker)
            for one in accounts:
                if not one["locked"]:
                    _lock(session, one)
            for event in cast(list[dict[str, str]], gate["events"]):
                if event["status"] == "ENABLED":
                    set_event(session, event, "DISABLE")
            # A new session proves that we can still log in; what is older than it is ended.
            with self.server.session("proving the way in to") as canary:
                fence = canary.id
            ended = drain(
                self.server, session, Inside(accounts, session.ask(self.server.capabilities.accounts_sql), fence)
            )
        return Cut(ended, QUIET_POLLS, time.monotonic() - begun)

    def open(self, gate: Json, share: float | None) -> None:
        """See AccessGate.open. Accounts first, then events, the mirror last."""
        accounts = cast(list[dict[str, Any]], gate["accounts"])
        with self.server.unreplicated("opening the gate of") as session:
            # What is as it should be is left alone: a server that lets nobody alter accounts let us lock none, either.
            now = account_switches(self.server, session)
            failed = [
                error
                for one in accounts
                if not one["locked"]
                and now.get((one["user"], one["host"])) != (False, limit := _limit(one, gate, share))
                and (error := _failed(_unlock, session, one, limit))
            ]
            if share is None:
                events = cast(list[dict[str, str]], gate["events"])
                failed += [
                    error
                    for event in to_enable(session, events)
                    if (error := _failed(set_event, session, event, "ENABLE"))
                ]
            if failed:
                # Everything else is open by now; the mark stays, so that it can be done again.
                kind = next((type(error) for error in failed if isinstance(error, Transient)), type(failed[0]))
                words = listed(error.sentence for error in failed)
                raise kind("opening the gate of", self.server.schema, words)
            if share is None:
                drop_mirror(self.server, session)

    def differences(self, gate: Json) -> list[str]:
        """See AccessGate.differences."""
        with self.server.session("comparing the gate of") as session:
            differences = account_differences(self.server, session, cast(list[dict[str, Any]], gate["accounts"]))
            differences += event_differences(self.server, session, cast(list[dict[str, str]], gate["events"]))
            limit = int(session.value("SELECT @@GLOBAL.max_connections"))
            if limit != gate["max_connections"]:
                differences.append(msg("max_connections is {now}, was {then}", now=limit, then=gate["max_connections"]))
            if structure.schema_exists(session, mirror_schema(self.server)):
                differences.append(msg("our marker {name} is still on the target", name=mirror_schema(self.server)))
        return differences

    def is_cut(self) -> bool:
        """See AccessGate.is_cut."""
        with self.server.session("looking for the mark of the cut on") as session:
            mark = marked(self.server, session)
            return mark is not None and self.server.tag.wrote(mark)

    def manual_commands(self, gate: Json) -> list[str]:
        """See AccessGate.manual_commands."""
        with self.server.session("looking how to open by hand") as session:
            drop = f"DROP DATABASE IF EXISTS {quoted(mirror_schema(self.server))}"
            statements = "; ".join([*opening(self.server, session, gate), drop])
            return [
                shlex.join([self.server.capabilities.client_programs[0], *way(self.server.url), "-p", "-e", statements])
            ]


def observed(server: Server, session: Session) -> Json:
    """Accounts that reach the schema, events that are on, and the limits, as they are now."""
    return {
        "schema": server.schema,
        "max_connections": int(session.value("SELECT @@GLOBAL.max_connections")),
        "accounts": observed_accounts(server, session),
        "events": observed_events(server, session),
    }


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
    """The statements that bring accounts and events back as `gate` says, in the order of `ServerGate.open`."""

    def literal(text: str) -> str:
        return str(session.value("SELECT QUOTE(%(t)s)", t=text))

    statements = [
        f"ALTER USER {literal(one['user'])}@{literal(one['host'])} WITH MAX_USER_CONNECTIONS"
        f" {_limit(one, gate, None):d} ACCOUNT UNLOCK"
        for one in cast(list[dict[str, Any]], gate["accounts"])
        if not one["locked"]
    ]
    for event in to_enable(session, cast(list[dict[str, str]], gate["events"])):
        user, _, host = event["definer"].rpartition("@")
        settings = made_under(event)
        if not f"{event['schema']}{event['name']}{user}".isascii():
            # The client that says it writes names in UTF-8, whatever character set the event was made in.
            settings = {name: settings[name] for name in ("sql_mode", "time_zone")}
        statements += [
            "SET SESSION " + ", ".join(f"{name} = {literal(value)}" for name, value in settings.items()),
            f"ALTER DEFINER = {quoted(user)}@{quoted(host)} EVENT {full(event['schema'], event['name'])} ENABLE",
        ]
    return statements


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
