"""Digests of the definitions of everything in a schema."""

from __future__ import annotations

import hashlib

from sqlalchemy.exc import DBAPIError

from . import structure
from .connection import Session
from .driver_errors import code_of
from .fingerprints import OUR_TABLES
from .names import canonical
from .repair.corruption import unreadable_tables
from .repair.quarantine import saved_definitions
from .target import Server


def catalog(server: Server, side: str | None) -> dict[str, str]:
    """See Verifier.definitions. Of a side copy: its tables, and the definitions that an exchange will bring back."""
    schema = side or server.schema
    found: dict[str, str] = {}
    closed = unreadable_tables(server) if server.capabilities.repairs_on_open and side is None else {}
    with server.session("reading definitions of", schema) as session:
        for table in structure.tables(session, schema):
            if table.name in closed:
                # SHOW CREATE TABLE opens it, and the server would repair it.
                found[canonical(table.name)] = hashlib.sha256(closed[table.name].encode()).hexdigest()
            elif side is None or not table.name.startswith(OUR_TABLES):
                found[canonical(table.name)] = _table_digest(session, schema, table.name)
        for name in structure.sequence_names(session, server.schema):
            # No restore touches a sequence.
            found[canonical(name)] = _table_digest(session, server.schema, name)
        others = saved_definitions(server, session, side) if side else structure.definitions(session, schema)
        for one in others:
            found[canonical(one.name) if one.kind == "view" else f"{one.kind} {canonical(one.name)}"] = one.digest
    return found


def _table_digest(session: Session, schema: str, table: str) -> str:
    try:
        text = structure.table_definition(session, schema, table)
    except DBAPIError as error:
        text = f"unreadable: {code_of(error)}"
    return hashlib.sha256(text.encode()).hexdigest()
