"""What the server demands of whoever makes a table today: what lies there was made under other demands.

A rebuild and a restore make each table again. Where a session of ours may set a demand aside it does; where the
server alone could, and a table would not come back, that is said before the outage.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from ..errors import Unable
from ..messages import Message, msg
from . import structure
from .connection import Row, Session
from .driver_errors import LOST, code_of
from .filenames import from_file
from .names import canonical
from .target import Server


def set_aside(server: Server, session: Session) -> list[str]:
    """Set the demands aside for this session; return the assignments that the account may make."""
    made = []
    for assignment in server.capabilities.demands_off:
        try:
            session.ask(f"SET SESSION {assignment}")
        except DBAPIError as error:
            if code_of(error) in LOST:
                raise
        else:
            made.append(assignment)
    return made


def refuse_what_would_not_come_back(server: Server) -> None:
    """Raise Unable, with what to do, where a table could not be made again on this server as it is now."""
    with server.session("looking whether tables can be made again in") as session:
        set_aside(server, session)
        refusal = _refusal(server, session)
    if refusal is not None:
        raise Unable("backing up", server.schema, refusal)


def _refusal(server: Server, session: Session) -> Message | None:
    tables = structure.tables(session, server.schema)
    if by_numbers := structure.by_transaction(session, server.schema, tables):
        return msg(
            "{table} keeps its history by numbers of transactions, which no dump holds; take its history off, or its"
            " table into another schema, for the maintenance",
            table=canonical(by_numbers[0].name),
        )
    names = "innodb_force_primary_key", "sql_require_primary_key", "innodb_read_only_compressed"
    asked = ", ".join(f"'{name}'" for name in (*names, "enforce_storage_engine"))
    rows = session.ask(f"SHOW SESSION VARIABLES WHERE variable_name IN ({asked})")
    demands = {str(name): str(value) for name, value in rows if str(value) not in ("OFF", "")}
    for name in ("innodb_force_primary_key", "sql_require_primary_key"):
        if name in demands and (table := _keyless(server, session)):
            return msg(
                "{table} has no primary key and {variable} is on, so it could not be restored;"
                " SET GLOBAL {variable} = OFF for the maintenance",
                table=table,
                variable=name,
            )
    if "innodb_read_only_compressed" in demands and (table := _compressed(server, session)):
        return msg(
            "{table} is compressed and innodb_read_only_compressed is on, so it could not be restored;"
            " SET GLOBAL innodb_read_only_compressed = OFF for the maintenance",
            table=table,
        )
    engine = demands.get("enforce_storage_engine")
    if engine and (table := _of_another_engine(server, session, engine)):
        return msg(
            "enforce_storage_engine is {engine}, so {table} would come back as a table of another engine; SET GLOBAL"
            " enforce_storage_engine = NULL for the maintenance, or give the console's account the right SUPER",
            engine=engine,
            table=table,
        )
    return None


def _keyless(server: Server, session: Session) -> str | None:
    """Return a table of InnoDB without a primary key. Asks nothing that would open a table and so repair it."""
    if server.capabilities.repairs_on_open:
        rows = session.ask(
            f"SELECT t.name FROM information_schema.{server.capabilities.innodb_tables} t"
            f" JOIN information_schema.{server.capabilities.innodb_indexes} i ON i.table_id = t.table_id"
            " WHERE i.name = 'GEN_CLUST_INDEX'"
        )
        return _first_here(server, rows)
    found = session.value(
        "SELECT t.table_name FROM information_schema.tables t WHERE t.table_schema = %(s)s AND t.engine = 'InnoDB'"
        " AND NOT EXISTS (SELECT 1 FROM information_schema.table_constraints c WHERE c.table_schema = t.table_schema"
        " AND c.table_name = t.table_name AND c.constraint_type = 'PRIMARY KEY') LIMIT 1",
        s=server.schema,
    )
    return None if found is None else str(found)


def _compressed(server: Server, session: Session) -> str | None:
    rows = session.ask(
        f"SELECT name FROM information_schema.{server.capabilities.innodb_tables} WHERE row_format = 'Compressed'"
    )
    return _first_here(server, rows)


def _first_here(server: Server, rows: Sequence[Row]) -> str | None:
    """Return the first table of the schema among names as InnoDB spells them: schema/table#P#partition."""
    names = (str(row[0]).partition("/") for row in rows)
    here = (table for schema, _, table in names if from_file(schema) == server.schema)
    return next((from_file(structure.PARTITION.split(table)[0]) for table in here), None)


def _of_another_engine(server: Server, session: Session, engine: str) -> str | None:
    others = (table.name for table in structure.tables(session, server.schema) if table.engine != engine)
    return next(others, None)
