"""Schemas that a salvage holds for a while: left out of every proof by a signed mark, never by their name.

Whoever owns the target may call a schema as ours are called, and would hide its rows from the proof. So a schema counts
as ours where it belongs to our account and this installation signed a mark for exactly its oid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection

from ..values import Tag
from .identity import claim_in
from .sql import ask, literal, quoted

SETTING = "dbmaint.schemas"
"""Holds their oids in every session of ours; none at its start, over what the database or the role would set."""

NOT_OURS = f"n.oid <> ALL (current_setting('{SETTING}')::oid[])"
"""Whether schema `n` is none of them."""

CALLED_SO = """
SELECT n.oid, n.nspname, obj_description(n.oid, 'pg_namespace') FROM pg_namespace n
WHERE n.nspname ~ '^dbm[a-z]*[0-9]+_' AND pg_get_userbyid(n.nspowner) = current_user ORDER BY 1
"""


def own_schemas(connection: Connection, tag: Tag) -> dict[int, str]:
    """Return oid -> name of the schemas that this installation holds in the database."""
    return {
        int(oid): str(name)
        for oid, name, comment in ask(connection, CALLED_SO)
        if (mark := claim_in(comment)) is not None and tag.signer.is_signed(mark, place(int(oid)))
    }


def as_setting(oids: Mapping[int, str]) -> str:
    """Return the value of SETTING."""
    return "{" + ",".join(map(str, oids)) + "}"


def mark_schema(connection: Connection, tag: Tag, name: str) -> None:
    """Sign the schema, which was made in this very transaction."""
    [(oid,)] = ask(connection, "SELECT oid FROM pg_namespace WHERE nspname = %(name)s", name=name)
    mark = json.dumps(tag.signer.signed({"dbmaint": 1, **tag.mark}, place(int(oid))))
    ask(connection, f"COMMENT ON SCHEMA {quoted(name)} IS {literal(connection, mark)}")


def place(oid: int) -> str:
    """Return what the mark is signed for."""
    return f"postgresql schema {oid}"
