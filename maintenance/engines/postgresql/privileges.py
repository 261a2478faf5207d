"""What the console's account must be allowed, asked right by right, with the statement that gives each.

The account need not be a superuser. It becomes a member of the roles that own the database and its tables, and
gets the server's predefined roles for statistics and signals. Rights on functions that read the server's files are
given in the maintenance database, not in the target: a dump of the target would carry them along, and an ordinary
account could not restore it.

Role number 0 stands for an account that does not exist yet: the server answers for it what holds for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

from sqlalchemy import Connection

from ..messages import msg
from ..parts import Privileges
from ..values import Finding, Grant
from .definitions import OURS
from .dump_limits import SPACES, for_superusers
from .least_account import HAS_CODE
from .sql import ask, canonical, quoted
from .target import TargetDatabase

PLAIN_NAME = re.compile(r"\w+", re.ASCII)
KEEPING_ROWS = "c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't'"

OWNERS = f"""
SELECT r.rolname, pg_has_role(%(me)s::oid, r.oid, 'USAGE') FROM (
  SELECT c.relowner AS owner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {KEEPING_ROWS} AND {OURS}
  UNION SELECT nspowner FROM pg_namespace n WHERE {OURS}
  UNION SELECT lomowner FROM pg_largeobject_metadata) o
JOIN pg_roles r ON r.oid = o.owner JOIN pg_database d ON d.datname = current_database()
WHERE NOT r.rolsuper AND r.rolname !~ '^pg_' AND o.owner NOT IN (%(me)s, d.datdba) ORDER BY 1
"""

OF_SUPERUSERS = f"""
SELECT n.nspname, c.relname, c.relkind::text, has_table_privilege(%(me)s::oid, c.oid, 'UPDATE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
WHERE r.rolsuper AND {KEEPING_ROWS} AND {OURS} ORDER BY 1, 2
"""

WITH_ITS_TABLE = """
EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
  AND c.relkind = 'S')
"""
"""A sequence of a column: its owner changes with the table's."""

CLOSED_SCHEMAS = f"""
SELECT n.nspname, has_schema_privilege(%(me)s::oid, n.oid, 'USAGE') FROM pg_namespace n
JOIN pg_roles r ON r.oid = n.nspowner
WHERE {OURS} AND r.rolsuper AND NOT has_schema_privilege(0::oid, n.oid, 'USAGE') ORDER BY 1
"""

WITHOUT_TEMPORARY = f"""
SELECT DISTINCT r.rolname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.oid = c.relowner
WHERE {KEEPING_ROWS} AND {OURS} AND NOT r.rolsuper AND r.oid <> %(me)s AND {HAS_CODE}
  AND NOT has_database_privilege(r.oid, current_database(), 'TEMPORARY') ORDER BY 1
"""
"""Owners in whose name tables are read by a temporary function, which they may not have."""

BEHIND_POLICIES = f"""
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.oid = c.relowner
WHERE c.relrowsecurity AND (c.relforcerowsecurity OR r.rolsuper) AND {OURS} ORDER BY 1, 2
"""
"""Tables whose policies hold for members of the owning role too."""

FOREIGN_SETTINGS = """
SELECT r.rolname, bool_and(pg_has_role(%(me)s::oid, r.oid, 'MEMBER WITH ADMIN OPTION'))
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase JOIN pg_roles r ON r.oid = s.setrole
WHERE d.datname = current_database() AND r.oid <> %(me)s GROUP BY r.rolname ORDER BY 1
"""
"""Roles with settings of their own in this database; a rollback must set them anew."""

SUPERUSER_SETTINGS = """
SELECT DISTINCT p.name FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase,
  unnest(s.setconfig) c JOIN pg_settings p ON p.name = split_part(c, '=', 1)
WHERE d.datname = current_database() AND p.context = 'superuser' ORDER BY 1
"""

NAMED = 10
"""Objects that a finding names."""

LOG_FUNCTIONS = ("pg_current_logfile()", "pg_read_binary_file(text, bigint, bigint, boolean)")
FILE_FUNCTIONS = ("pg_stat_file(text, boolean)", "pg_ls_dir(text)")
CONFIGURATION = "pg_show_all_file_settings()"


@dataclass(frozen=True)
class Account:
    """A role's attributes. `oid` is 0 while there is no such role."""

    name: str
    oid: int = 0
    superuser: bool = False
    creates_databases: bool = False
    creates_roles: bool = False
    replicates: bool = False
    passes_policies: bool = False


class PostgresPrivileges(Privileges):
    """Tells rights, and findings for those that are missing."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target = target

    def grants(self, role: str | None = None) -> list[Grant]:
        """See Privileges.grants."""
        with (
            self.target.session("asking for the rights of the account") as inside,
            self.target.control("asking for the rights of the account") as beside,
        ):
            account = account_of(inside, role)
            if account.superuser:
                return []
            needed = self._needed(inside, beside, account)
            return [replace(grant, enter=entering(grant.where)) if grant.where else grant for grant in needed]

    def missing_rights(self) -> list[Finding]:
        """Return one finding for each right that the target's own account lacks."""
        return [grant.finding for grant in self.grants() if not grant.given]

    def _needed(self, inside: Connection, beside: Connection, account: Account) -> Iterator[Grant]:
        me = quoted(account.name)
        if not account.oid:
            yield Grant(f"CREATE ROLE {me} LOGIN", msg("The console has no account yet"), False)
        yield from self._ownership(inside, account, me)
        yield Grant(
            f"ALTER ROLE {me} CREATEDB",
            msg("Without it the console cannot copy the database nor hide it from applications"),
            account.creates_databases,
            "high",
        )
        policies = ask(inside, BEHIND_POLICIES)
        if policies:
            yield Grant(
                f"ALTER ROLE {me} BYPASSRLS",
                msg(
                    "Without it the console cannot read every row of {tables}, whose policies leave rows out",
                    tables=", ".join(canonical(*row) for row in policies),
                ),
                account.passes_policies,
                "high",
            )
        yield from self._everywhere(beside, account, me)
        yield from self._structure_checks(inside, account, me)
        yield from self._settings(inside, account, me)
        yield from self._restoring(inside, account, me)
        yield Grant(
            "",
            msg("The console cannot salvage a damaged table: only a superuser may remove broken rows"),
            False,
            "low",
        )

    def _ownership(self, inside: Connection, account: Account, me: str) -> Iterator[Grant]:
        name = self.target.place()
        [(owner, of_superuser, owns)] = ask(
            inside,
            """SELECT r.rolname, r.rolsuper, r.oid = %(me)s OR pg_has_role(%(me)s::oid, r.oid, 'USAGE')
               FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = current_database()""",
            me=account.oid,
        )
        becoming = f"ALTER DATABASE {quoted(name)} OWNER TO {me}" if of_superuser else f"GRANT {quoted(owner)} TO {me}"
        yield Grant(
            becoming,
            msg("Without it the console cannot close the database and open it again, as its owner"),
            bool(owns),
            "high",
        )
        for role, member in ask(inside, OWNERS, me=account.oid):
            yield Grant(
                f"GRANT {quoted(role)} TO {me}",
                msg("Without it the console cannot read and rebuild what belongs to {role}", role=role),
                bool(member),
                "high",
            )
        for (role,) in ask(inside, WITHOUT_TEMPORARY, me=account.oid):
            yield Grant(
                f"GRANT TEMPORARY ON DATABASE {quoted(name)} TO {quoted(role)}",
                msg("Without it the console cannot read the tables of {role} in the name of their owner", role=role),
                False,
                "high",
            )
        for schema, may in ask(inside, CLOSED_SCHEMAS, me=account.oid):
            yield Grant(
                f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {me}",
                msg("Without it the console cannot reach the tables of schema {schema}", schema=schema),
                bool(may),
                "high",
                name,
            )
        yield from self._of_superusers(inside, account, me)

    def _of_superusers(self, inside: Connection, account: Account, me: str) -> Iterator[Grant]:
        """To be a member of a superuser is to be one, so their tables are given away, or maintained by pg_maintain."""
        rows = ask(inside, OF_SUPERUSERS, me=account.oid)
        if not rows:
            return
        if self.target.capabilities.maintain_privilege:
            for role, purpose in (
                (
                    "pg_maintain",
                    msg("Without it the console cannot rewrite and reindex the tables of superusers"),
                ),
                ("pg_read_all_data", msg("Without it the console cannot read the tables of superusers")),
            ):
                yield Grant(f"GRANT {role} TO {me}", purpose, member(inside, account, role), "high")
            for schema, sequence, kind, may in rows:
                if kind == "S":
                    yield Grant(
                        f"GRANT UPDATE ON SEQUENCE {canonical(schema, sequence)} TO {me}",
                        msg(
                            "Without it the console cannot set the sequence {sequence}",
                            sequence=canonical(schema, sequence),
                        ),
                        bool(may),
                        "medium",
                        self.target.place(),
                    )
            return
        words = {"S": "SEQUENCE", "m": "MATERIALIZED VIEW"}
        for schema, table, kind, *_ in ask(
            inside, f"{OF_SUPERUSERS.replace('ORDER', f'AND NOT {WITH_ITS_TABLE} ORDER')}", me=account.oid
        ):
            yield Grant(
                f"ALTER {words.get(kind, 'TABLE')} {canonical(schema, table)} OWNER TO {me}",
                msg(
                    "Without it the console cannot read, rewrite and reindex {table}, which belongs to a superuser",
                    table=canonical(schema, table),
                ),
                False,
                "high",
                self.target.place(),
            )

    def _everywhere(self, beside: Connection, account: Account, me: str) -> Iterator[Grant]:
        """Rights on the server as a whole."""
        control = self.target.control_database()
        yield Grant(
            f"GRANT CONNECT ON DATABASE {quoted(control)} TO {me}",
            msg("Without it the console cannot work beside the database while that is closed"),
            bool(
                ask(
                    beside,
                    "SELECT has_database_privilege(%(me)s::oid, current_database(), 'CONNECT')",
                    me=account.oid,
                )[0][0]
            ),
            "high",
        )
        yield Grant(
            f"GRANT pg_monitor TO {me}",
            msg("Without it the console cannot see the sessions and sizes of other accounts"),
            member(beside, account, "pg_monitor"),
        )
        yield Grant(
            f"GRANT pg_signal_backend TO {me}",
            msg("Without it the console cannot end the sessions of applications"),
            member(beside, account, "pg_signal_backend"),
            "high",
        )
        yield Grant(
            f"ALTER ROLE {me} REPLICATION",
            msg("Without it the console cannot take a physical backup (pg_basebackup) when the logical one fails"),
            account.replicates,
        )
        yield Grant(
            "; ".join(f"GRANT EXECUTE ON FUNCTION {function} TO {me}" for function in LOG_FUNCTIONS),
            msg("Without it the console cannot look for signs of damage in the server's log"),
            all(runs(beside, account, function) for function in LOG_FUNCTIONS),
            "low",
            control,
        )
        yield Grant(
            "; ".join(f"GRANT EXECUTE ON FUNCTION {function} TO {me}" for function in FILE_FUNCTIONS),
            msg("Without it the console cannot see whether a file of a table or index is missing, or belongs to none"),
            all(runs(beside, account, function) for function in FILE_FUNCTIONS),
            "low",
            control,
        )
        [(may,)] = ask(beside, "SELECT has_table_privilege(%(me)s::oid, 'pg_file_settings', 'SELECT')", me=account.oid)
        yield Grant(
            f"GRANT SELECT ON pg_file_settings TO {me}; GRANT EXECUTE ON FUNCTION {CONFIGURATION} TO {me}",
            msg("Without it the console cannot see errors in the configuration files"),
            bool(may) and runs(beside, account, CONFIGURATION),
            "low",
            control,
        )

    def _structure_checks(self, inside: Connection, account: Account, me: str) -> Iterator[Grant]:
        rows = ask(
            inside,
            """SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
               WHERE e.extname = 'amcheck'""",
        )
        schema = quoted(str(rows[0][0])) if rows else "public"
        functions = [f"{schema}.{function}" for function in self.target.capabilities.amcheck_functions]
        yield Grant(
            "; ".join(
                ["CREATE EXTENSION IF NOT EXISTS amcheck" + ("" if rows else f" SCHEMA {schema}")]
                + [f"GRANT EXECUTE ON FUNCTION {function} TO {me}" for function in functions]
            ),
            msg("Without it the console cannot check the structure of tables and indexes (amcheck)"),
            bool(rows) and all(runs(inside, account, function) for function in functions),
            "medium",
            self.target.place(),
        )

    def _restoring(self, inside: Connection, account: Account, me: str) -> Iterator[Grant]:
        """Return what a rollback from a dump needs; one by copy does not."""
        for space, may in ask(inside, SPACES, me=account.oid):
            yield Grant(
                f"GRANT CREATE ON TABLESPACE {quoted(space)} TO {me}",
                msg("Without it the console cannot restore from a dump what lies in tablespace {name}", name=space),
                bool(may),
            )
        names = for_superusers(inside, self.target.capabilities)
        if names:
            yield Grant(
                "",
                msg(
                    "Without room for a copy only a superuser can roll back: nobody else may create again {names}",
                    names=", ".join([*names[:NAMED], *(["…"] if len(names) > NAMED else [])]),
                ),
                False,
            )

    def _settings(self, inside: Connection, account: Account, me: str) -> Iterator[Grant]:
        """A rollback puts another database in the place, and must give it the settings of the old one."""
        roles = ask(inside, FOREIGN_SETTINGS, me=account.oid)
        if roles:
            names = ", ".join(str(role) for role, _ in roles)
            yield Grant(
                f"ALTER ROLE {me} CREATEROLE",
                msg(
                    "Without it the console cannot carry the settings of {roles} through a rollback",
                    roles=names,
                ),
                account.creates_roles,
            )
        for role, admin in roles:
            if self.target.capabilities.role_creators_need_admin:
                yield Grant(
                    f"GRANT {quoted(role)} TO {me} WITH ADMIN OPTION",
                    msg(
                        "Without it the console cannot carry the settings of {roles} through a rollback",
                        roles=role,
                    ),
                    bool(admin),
                )
        for (name,) in ask(inside, SUPERUSER_SETTINGS):
            grantable = self.target.capabilities.parameter_privilege
            [(may,)] = (
                ask(inside, "SELECT has_parameter_privilege(%(me)s::oid, %(name)s, 'SET')", me=account.oid, name=name)
                if grantable
                else [(False,)]
            )
            yield Grant(
                f"GRANT SET ON PARAMETER {quoted(name)} TO {me}" if grantable else "",
                msg(
                    "Without it the console cannot carry the setting {name} of this database through a rollback",
                    name=name,
                ),
                bool(may),
            )


def account_of(connection: Connection, role: str | None) -> Account:
    """Return the session's own account, or `role`."""
    rows = ask(
        connection,
        """SELECT rolname, oid, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles
           WHERE rolname = coalesce(%(role)s::name, current_user)""",
        role=role,
    )
    return Account(*rows[0]) if rows else Account(str(role))


def member(connection: Connection, account: Account, role: str) -> bool:
    """Return whether the account has the rights of this predefined role."""
    sql = "SELECT pg_has_role(%(me)s::oid, oid, 'USAGE') FROM pg_roles WHERE rolname = %(role)s"
    rows = ask(connection, sql, me=account.oid, role=role)
    return bool(rows and rows[0][0])


def runs(connection: Connection, account: Account, function: str) -> bool:
    """Return whether the function is there and the account may run it."""
    sql = "SELECT has_function_privilege(%(me)s::oid, to_regprocedure(%(function)s)::oid, 'EXECUTE')"
    return bool(ask(connection, sql, me=account.oid, function=function)[0][0])


def entering(database: str) -> str:
    """Return what psql is told to go on in `database`. A name that is not plain would be taken for a connection string.

    https://www.postgresql.org/docs/current/app-psql.html
    """
    if PLAIN_NAME.fullmatch(database):
        return f'\\connect "{database}"'
    return f'\\connect -reuse-previous=on "postgresql:///{quote(database, safe="")}"'
