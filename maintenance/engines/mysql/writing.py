"""Who else can write into the schema: other schemas whose contents lead here, and other nodes of a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from ..messages import Message, msg
from . import structure
from .connection import Session
from .target import Server

SERVER_SCHEMAS = frozenset(("sys", "mysql", "information_schema", "performance_schema"))
DYNAMIC = re.compile(r"\b(PREPARE|EXECUTE\s+IMMEDIATE)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """A view, routine or trigger: where it lies, what it says, and with whose rights it runs ('user'@'host')."""

    schema: str
    body: str
    definer: str
    with_rights_of_definer: bool


def leading_here(server: Server, session: Session, reaching: Iterable[str]) -> list[str]:
    """Return other schemas through which somebody without a right here can write here.

    Their views, routines or triggers name this schema, or one that leads here itself; their routines build statements
    while they run and have a definer who reaches this schema, and then the text tells nothing; or rows here go or
    change with rows there, by a foreign key.
    """
    reaching = set(reaching)
    texts = [one for one in _texts(session) if one.schema not in (server.schema, *SERVER_SCHEMAS)]
    found = {
        one.schema
        for one in texts
        if one.with_rights_of_definer and one.definer in reaching and DYNAMIC.search(one.body)
    }
    found |= _parents(server, session)
    while True:
        goals = [re.compile(_named(schema), re.IGNORECASE) for schema in (server.schema, *found)]
        more = {one.schema for one in texts if one.schema not in found and any(goal.search(one.body) for goal in goals)}
        if not more:
            return sorted(found - {server.schema})
        found |= more


def named(schema: str) -> str:
    """Return the server's regular expression for the name as a word of its own, quoted or not."""
    return f"(^|[^[:alnum:]_$]){re.escape(schema)}([^[:alnum:]_$]|$)"


def _named(schema: str) -> str:
    return rf"(?<![\w$]){re.escape(schema)}(?![\w$])"


def _texts(session: Session) -> list[Text]:
    rows = session.ask(
        "SELECT table_schema, view_definition, definer, 1 FROM information_schema.views"
        " UNION ALL SELECT routine_schema, routine_definition, definer, security_type = 'DEFINER'"
        " FROM information_schema.routines"
        " UNION ALL SELECT trigger_schema, action_statement, definer, 1 FROM information_schema.triggers"
    )
    texts = []
    for schema, body, definer, by_definer in rows:
        user, _, host = str(definer).rpartition("@")
        texts.append(Text(str(schema), str(body or ""), f"'{user}'@'{host}'", bool(by_definer)))
    return texts


def _parents(server: Server, session: Session) -> set[str]:
    """Schemas of tables that tables here refer to, and so on: a row deleted or changed there may take rows here."""
    found: set[str] = set()
    open_: list[str] = [server.schema]
    while open_:
        schema = open_.pop()
        for key in structure.foreign_keys(server, session, schema):
            if key.schema == schema and key.to_schema not in found | {server.schema}:
                found.add(key.to_schema)
                open_.append(key.to_schema)
    return found


def cluster_refusal(session: Session) -> Message | None:
    """Return why nothing may begin while other servers accept writes for the same tables; None: this one is alone.

    An account that is locked here, and a session that is ended here, write on over there.
    """
    told = session.ask("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")
    size = int(str(told[0][1])) if told else 0
    if size > 1:
        return msg(
            "this server is one of {nodes} nodes of a Galera cluster, and applications can write on the others; stop"
            " the other nodes or take this one out of the cluster (SET GLOBAL wsrep_cluster_address = 'gcomm://'), then"
            " ask again",
            nodes=size,
        )
    try:
        members = session.value(
            "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE member_state <> 'OFFLINE'"
        )
    except DBAPIError:
        return None  # MariaDB has no such table
    if int(str(members or 0)) > 1:
        return msg(
            "this server is one of {nodes} members of a replication group, and applications can write on the others;"
            " take this one out of the group (STOP GROUP_REPLICATION), then ask again",
            nodes=int(str(members)),
        )
    return None
