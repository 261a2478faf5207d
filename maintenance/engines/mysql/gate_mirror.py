"""The mirror of the gate: the state before, kept on the target in a schema of ours while the gate is not as before."""

from __future__ import annotations

import json

from sqlalchemy.exc import DBAPIError

from ..values import Json
from . import structure
from .accounts import observed_accounts
from .connection import Session
from .driver_errors import code_of
from .names import full, quoted, shortened
from .target import Server


def mirror_schema(server: Server) -> str:
    """Where the state before lies on the target while the gate is not as before."""
    return f"dbm_gate_{shortened(server.schema)}"


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
    locked = {(one["user"], one["host"]) for one in observed_accounts(server, session) if one["locked"]}
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
    return f"{what} of {server.schema} on {session.value(server.capabilities.identity_sql)}"


def write_mirror(server: Server, session: Session, gate: Json, marker: Json) -> None:
    """The first gate of ours stays; the marker is always the latest. What others put in its place goes."""
    schema = mirror_schema(server)
    if mirrored(server, session) is None:
        drop_mirror(server, session)
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


def drop_mirror(server: Server, session: Session) -> None:
    """Drop the mirror where there is one: a server that is read-only refuses even the attempt."""
    if structure.schema_exists(session, mirror_schema(server)):
        session.ask(f"DROP DATABASE IF EXISTS {quoted(mirror_schema(server))}")
