"""Code that others wrote runs with their rights, not with ours.

Reading a table is enough to run it: planning a query evaluates the expressions of the table's indexes and statistics,
a CHECK constraint calls functions, and a question that people registered calls whatever the path of names leads to.
SET ROLE is no boundary, since such code may set it back. A function that runs as its owner is one: within it the
server refuses to change the role. So a statement is handed to a temporary function that belongs to that role.
https://www.postgresql.org/docs/current/sql-createfunction.html (SECURITY DEFINER)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .connection import SAFE_PATH
from .definitions import FIRST_OWN
from .sql import Row, ask, configure, quoted, transaction

OTHERS_CODE = f"""
SELECT p.oid FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner JOIN pg_language l ON l.oid = p.prolang
WHERE CASE WHEN r.rolsuper THEN p.oid >= {FIRST_OWN} AND l.lanname NOT IN ('c', 'internal')
  ELSE r.rolname <> current_user END
"""
"""Functions of others, and what a superuser wrote in a language whose body calls by name what others may replace."""

CALLING = f"""
SELECT d.classid, d.objid FROM pg_depend d
WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid IN ({OTHERS_CODE})
  OR d.refclassid = 'pg_operator'::regclass AND d.refobjid IN (
    SELECT q.oid FROM pg_operator q WHERE q.oprcode IN ({OTHERS_CODE}))
  OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT y.oid FROM pg_type y WHERE y.typtype = 'd')
"""
"""Objects whose expressions call such functions, if only as operator, cast or domain."""

HAS_CODE = f"""
(c.oid IN (SELECT x.indrelid FROM pg_index x WHERE ('pg_class'::regclass, x.indexrelid) IN ({CALLING}))
 OR c.oid IN (SELECT x.stxrelid FROM pg_statistic_ext x WHERE ('pg_statistic_ext'::regclass, x.oid) IN ({CALLING})))
"""
"""Whether planning a query of table `c` runs such functions."""

OWNER = """
(SELECT o.rolname::text FROM pg_roles o WHERE o.oid = c.relowner AND NOT o.rolsuper AND o.rolname <> current_user)
"""
"""The owner of table `c`; NULL where that is a superuser or this very account."""

READER = f"CASE WHEN {HAS_CODE} THEN {OWNER} END"
"""In whose name table `c` is read; NULL: in ours."""

FUNCTIONS = """
CREATE FUNCTION pg_temp.{ask}(statement text, path text) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {safe} AS $$
BEGIN
  PERFORM set_config('search_path', path, true);
  RETURN QUERY EXECUTE statement;
END $$;
CREATE FUNCTION pg_temp.{answer}(statement text, path text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {safe} AS $$
DECLARE found refcursor; first record;
BEGIN
  PERFORM set_config('search_path', path, true);
  OPEN found FOR EXECUTE statement;
  FETCH found INTO first;
  RETURN left(record_out(first)::text, 100);
END $$;
CREATE FUNCTION pg_temp.{run}(statement text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {safe} AS $$
BEGIN
  EXECUTE statement;
END $$
"""
NAMES = ("ask", "answer", "run")

UNKNOWN_NAMES = {"42883", "42P01", "42704", "3F000"}
"""Codes of a function, table, type or schema that is not found."""

USUAL_PATH = """
SELECT s.value FROM (
  SELECT setdatabase, setrole, substr(c, strpos(c, '=') + 1) AS value FROM pg_db_role_setting, unnest(setconfig) c
  WHERE split_part(c, '=', 1) = 'search_path' AND setrole = 0
    AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))) s
ORDER BY s.setdatabase DESC LIMIT 1
"""
DEFAULT_PATH = '"$user", public'

FILE_ROLES = ["pg_read_server_files", "pg_write_server_files", "pg_execute_server_program"]


def lend(connection: Connection, role: str) -> dict[str, str]:
    """Make the functions that run as `role`, once in a session; their names. Raises the server's refusal.

    Not within a transaction, which may be one that cannot write.
    """
    lent: dict[str, dict[str, str]] = connection.info.setdefault("least accounts", {})
    if role not in lent:
        names = {name: f"dbmaint_{name}_{len(lent)}" for name in NAMES}
        with transaction(connection, "BEGIN READ WRITE"):
            _make(connection, role, names)
        lent[role] = names
    return lent[role]


def _make(connection: Connection, role: str, names: dict[str, str]) -> None:
    [(me, superuser)] = ask(connection, "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")
    if not superuser:
        ask(connection, f"SET LOCAL ROLE {quoted(role)}")
    ask(connection, FUNCTIONS.format(safe=SAFE_PATH, **names))
    for name, arguments in (("ask", "text, text"), ("answer", "text, text"), ("run", "text")):
        function = f"pg_temp.{names[name]}({arguments})"
        if superuser:
            ask(connection, f"ALTER FUNCTION {function} OWNER TO {quoted(role)}")
        else:
            ask(connection, f"GRANT EXECUTE ON FUNCTION {function} TO {quoted(str(me))}")
    if not superuser:
        ask(connection, "RESET ROLE")


def ask_as(connection: Connection, role: str | None, columns: str, statement: str, path: str = SAFE_PATH) -> list[Row]:
    """Run one statement as `role`; None: as we are. `columns` are names and types of what it returns."""
    if role is None:
        return ask(connection, statement)
    names = lend(connection, role)
    return ask(
        connection,
        f"SELECT * FROM pg_temp.{names['ask']}(%(statement)s, %(path)s) AS asked ({columns})",
        statement=statement,
        path=path,
    )


def insert_as(connection: Connection, role: str | None, into: str, columns: str, statement: str) -> list[Row]:
    """Put what `statement` reads as `role` into a table of ours; a row for each."""
    if role is None:
        return ask(connection, f"INSERT INTO {into} {statement} RETURNING 1")
    names = lend(connection, role)
    insert = f"INSERT INTO {into} SELECT * FROM pg_temp.{names['ask']}".replace("%", "%%")
    return ask(
        connection,
        f"{insert}(%(statement)s, %(path)s) AS asked ({columns.replace('%', '%%')}) RETURNING 1",
        statement=statement,
        path=SAFE_PATH,
    )


def run_as(connection: Connection, role: str | None, statement: str) -> None:
    """Run one statement that writes."""
    if role is None:
        ask(connection, statement)
    else:
        ask(connection, f"SELECT pg_temp.{lend(connection, role)['run']}(%(statement)s)", statement=statement)


def usual_path(connection: Connection) -> str:
    """Return the path of names that the database gives to its applications."""
    rows = ask(connection, USUAL_PATH)
    return str(rows[0][0]) if rows else DEFAULT_PATH


def names_unknown(error: DBAPIError) -> bool:
    """Return whether a function may have counted on the usual path of names."""
    return getattr(error.orig, "pgcode", None) in UNKNOWN_NAMES


def found_by(path: str, asking: Callable[[str], list[Row]]) -> list[Row]:
    """Return what `asking` finds with the server's own names alone; where that leaves some unknown, with the usual
    `path`."""
    try:
        return asking(SAFE_PATH)
    except DBAPIError as error:
        if not names_unknown(error):
            raise
    return asking(path)


def reading(
    connection: Connection,
    statement: str,
    role: str | None = None,
    columns: str = "",
    path: str = SAFE_PATH,
    binds: Mapping[str, object] | None = None,
) -> list[Row]:
    """Run it in a transaction that cannot write, whatever functions it calls: owners of tables wrote those.

    As `role`, where that is not None: `lend` to it before.
    """
    # After the first query the transaction cannot be made writable any more.
    ask(connection, "BEGIN READ ONLY; SELECT 1")
    try:
        if role is None:
            configure(connection, {"search_path": path}, local=True)
            return ask(connection, statement, **(binds or {}))
        return ask_as(connection, role, columns, statement, path)
    finally:
        if not connection.invalidated:
            ask(connection, "ROLLBACK")


def asker(connection: Connection, read_all_data: bool) -> str | None:
    """Return the role in whose name questions of people are asked; None where each could reach files of the server's
    host.

    `read_all_data`: the server has that predefined role. Otherwise the owner of the database, or this account.
    """
    rows = ask(
        connection,
        """SELECT r.rolname FROM pg_database d, (SELECT oid FROM pg_roles WHERE rolname = current_user) me, pg_roles r
           WHERE d.datname = current_database() AND NOT r.rolsuper AND pg_has_role(me.oid, r.oid, 'MEMBER')
             AND (r.oid IN (d.datdba, me.oid) OR r.rolname = 'pg_read_all_data' AND %(read_all_data)s)
             AND NOT EXISTS (SELECT 1 FROM pg_roles f WHERE f.rolname = ANY(%(file_roles)s)
               AND pg_has_role(r.oid, f.oid, 'MEMBER'))
           ORDER BY r.rolname = 'pg_read_all_data' DESC, r.oid = d.datdba DESC LIMIT 1""",
        read_all_data=read_all_data,
        file_roles=FILE_ROLES,
    )
    return str(rows[0][0]) if rows else None


def readable(connection: Connection, role: str, oids: Sequence[int]) -> set[int]:
    """Return those of the tables that `role` may read."""
    rows = ask(
        connection,
        """SELECT c.oid FROM pg_class c WHERE c.oid = ANY(%(oids)s::oid[])
           AND has_table_privilege(%(role)s::name, c.oid, 'SELECT')
           AND has_schema_privilege(%(role)s::name, c.relnamespace, 'USAGE')""",
        oids=list(oids),
        role=role,
    )
    return {int(oid) for (oid,) in rows}
