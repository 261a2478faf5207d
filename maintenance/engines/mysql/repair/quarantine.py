"""Moving a table aside and another into its place, with triggers and foreign keys as they were.

RENAME refuses to take a table with triggers into another schema, and a foreign key follows the table
it points to, also into the quarantine. So triggers are saved on the target, dropped and created
again, and keys that went astray are pointed back. Each step looks at what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from .. import structure
from ..connection import Session
from ..names import full, quoted, shortened
from ..structure import Definition, ForeignKey
from ..target import Server

SAVED = "dbmaint_objects"
"""Table in a schema of ours with definitions that must come back."""


def _side_schema(server: Server, purpose: str) -> str:
    """The target's digest is in the name: two consoles may count their run targets alike on one server."""
    return f"dbm_{server.tag.suffix}_{shortened(server.schema)}_{purpose}"


def old_schema(server: Server) -> str:
    """What was live before an exchange, and damaged originals."""
    return _side_schema(server, "old")


def new_schema(server: Server) -> str:
    """What a rollback restores before it takes the place of the live tables."""
    return _side_schema(server, "new")


def salvage_schema(server: Server) -> str:
    """Readable rows of a damaged table while they are collected."""
    return _side_schema(server, "salvage")


def exact_schema(server: Server) -> str:
    """Copies of tables whose values a dump does not carry."""
    return _side_schema(server, "exact")


def save_definitions(server: Server, session: Session, schema: str, found: Iterable[Definition]) -> None:
    """Keep definitions in `schema`, signed; one of ours that is there already stays as it was first."""
    session.ask(
        f"CREATE TABLE IF NOT EXISTS {full(schema, SAVED)}"
        " (number INT AUTO_INCREMENT PRIMARY KEY, kind VARCHAR(20) CHARACTER SET ascii NOT NULL,"
        " name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, body LONGTEXT NOT NULL,"
        " owner VARCHAR(130) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,"
        " UNIQUE KEY (kind, owner, name)) ENGINE=InnoDB CHARACTER SET utf8mb4"
    )
    there = {(one.kind, _owner(one), one.name) for one in saved_definitions(server, session, schema)}
    for one in found:
        if (one.kind, _owner(one), one.name) in there:
            continue
        session.ask(
            f"REPLACE INTO {full(schema, SAVED)} (kind, owner, name, body) VALUES (%(k)s, %(o)s, %(n)s, %(b)s)",
            k=one.kind,
            o=_owner(one),
            n=one.name,
            b=json.dumps(server.tag.signer.signed(one.to_json(), _place(server, schema))),
        )


def _owner(one: Definition) -> str:
    return f"{one.schema}.{one.table}"


def _place(server: Server, schema: str) -> str:
    return f"definition for {server.schema} in {schema}"


def saved_definitions(server: Server, session: Session, schema: str) -> list[Definition]:
    """Return what we kept there. It is run as it stands: what we did not sign is not ours, and left out."""
    if not session.ask(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = %(s)s AND table_name = %(t)s", s=schema, t=SAVED
    ):
        return []
    found = []
    for (body,) in session.ask(f"SELECT body FROM {full(schema, SAVED)} ORDER BY number"):
        kept = json.loads(body)
        if server.tag.signer.is_signed(kept, _place(server, schema)):
            found.append(Definition(**{name: value for name, value in kept.items() if name != "signature"}))
    return found


def create_missing(server: Server, session: Session, wanted: Sequence[Definition]) -> list[str]:
    """Create in the live schema what is not there of `wanted`; return their names."""
    there = {(one.kind, one.name) for one in structure.definitions(session, server.schema)}
    made = []
    for one in wanted:
        if (one.kind, one.name) not in there and one.kind != FOREIGN_KEY:
            structure.create(session, one, server.schema)
            there.add((one.kind, one.name))
            made.append(f"{one.kind} {one.name}")
    return made


def set_triggers_aside(server: Server, session: Session, tables: Iterable[str]) -> None:
    """Saves the triggers of these live tables in the quarantine schema, then drops them."""
    wanted = set(tables)
    found = [one for one in structure.triggers(session, server.schema) if one.table in wanted]
    save_definitions(server, session, old_schema(server), found)
    for one in found:
        session.ask(f"DROP TRIGGER IF EXISTS {full(server.schema, one.name)}")


def move(session: Session, moves: Sequence[tuple[str, str, str, str]]) -> None:
    """One RENAME TABLE of all (from schema, table, to schema, table): all or nothing."""
    session.ask(f"RENAME TABLE {', '.join(f'{full(a, b)} TO {full(c, d)}' for a, b, c, d in moves)}")


def point_back(server: Server, session: Session, aside: str, own: Sequence[Definition] = ()) -> None:
    """Foreign keys after a move: live ones lead to live tables, quarantined ones hold nobody back.

    `own`: keys that live tables must have: of the replacement, and of what pointed to the original.
    """
    session.ask("SET SESSION foreign_key_checks = 0")
    for key in structure.foreign_keys(server, session, aside):
        if key.schema == aside and key.to_schema == server.schema:
            session.ask(f"ALTER TABLE {full(aside, key.table)} DROP FOREIGN KEY {quoted(key.name)}")
        elif key.schema != aside and key.to_schema == aside:
            _point_to_live(server, session, key, aside)
    there = {(key.schema, key.table, key.name) for key in structure.foreign_keys(server, session, server.schema)}
    for one in own:
        schema = one.schema or server.schema
        if (schema, one.table, one.name) not in there:
            session.verbatim(f"ALTER TABLE {full(schema, one.table)} ADD {one.sql}")
    session.ask("SET SESSION foreign_key_checks = 1")


def _point_to_live(server: Server, session: Session, key: ForeignKey, aside: str) -> None:
    """Drops and adds the key in its own words. A crash in between is why they are saved first."""
    clause = foreign_key_clause(session, key)
    if key.schema == server.schema:
        clause = clause.replace(f"REFERENCES {quoted(aside)}.", "REFERENCES ")
    else:
        clause = clause.replace(f"REFERENCES {quoted(aside)}.", f"REFERENCES {quoted(server.schema)}.")
    own = Definition(FOREIGN_KEY, key.name, clause, table=key.table, schema=key.schema)
    save_definitions(server, session, aside, [own])
    table = full(key.schema, key.table)
    # Two statements: in one, the server compares the new key with the old name and refuses.
    session.ask(f"ALTER TABLE {table} DROP FOREIGN KEY {quoted(key.name)}")
    session.verbatim(f"ALTER TABLE {table} ADD {clause}")


def foreign_key_clause(session: Session, key: ForeignKey) -> str:
    """The key as SHOW CREATE TABLE writes it: no other place tells a rule that was given from one by default."""
    shown = str(session.ask(f"SHOW CREATE TABLE {full(key.schema, key.table)}")[0][1])
    beginning = f"CONSTRAINT {quoted(key.name)} FOREIGN KEY "
    return next(line.strip().rstrip(",") for line in shown.splitlines() if line.strip().startswith(beginning))


def saved_foreign_keys(server: Server, session: Session, schema: str) -> list[Definition]:
    return [one for one in saved_definitions(server, session, schema) if one.kind == FOREIGN_KEY]


FOREIGN_KEY = "foreign_key"
