"""Accounts: which of them reach the schema, and what they were before the cut."""

from __future__ import annotations

import hashlib
from typing import Any

from ..messages import msg
from ..values import Json
from . import writing
from .connection import Session
from .draining import REPLICATION_COMMANDS
from .names import account
from .target import Server

LOCAL_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))


REACHING = (
    "'SELECT','INSERT','UPDATE','DELETE','DELETE HISTORY','SUPER','ALTER','DROP','CREATE','EXECUTE','INDEX','TRIGGER',"
    "'EVENT'"
)


def observed_accounts(server: Server, session: Session) -> list[Json]:
    me = str(session.value("SELECT CURRENT_USER()"))
    reaching = reaching_accounts(server, session)
    rescuing = _rescuing(server, session)
    found: list[Json] = []
    for user, host, locked, limit in session.ask(server.capabilities.accounts_sql):
        name = account(str(user), str(host))
        if name == me or str(user) in server.capabilities.system_accounts or name in rescuing:
            continue
        if reaching is None or f"'{user}'@'{host}'" in reaching:
            found.append(
                {
                    "user": str(user),
                    "host": str(host),
                    "locked": bool(int(locked)),
                    "max_user_connections": int(limit or 0),
                    "definition": account_digest(session, str(user), str(host)),
                }
            )
    return found


def reaching_accounts(server: Server, session: Session) -> set[str] | None:
    """Accounts with any right on the schema, in the server's spelling 'user'@'host'; None: all (PUBLIC).

    A role may lead anywhere, so whoever has one counts; so does whoever may take another's identity, because
    the lock of the account that is taken is not looked at. Rights on another schema lead here by what lies in it.
    """
    if server.capabilities.roles_of_all_sql is not None and session.value(server.capabilities.roles_of_all_sql):
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
        f" UNION ALL {server.capabilities.role_edges_sql}",
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
        for user, host, _, _ in session.ask(server.capabilities.accounts_sql)
        if f"'{user}'@'{host}'" in administrators and str(host) in LOCAL_HOSTS and str(user) not in busy
    }


def account_digest(session: Session, user: str, host: str) -> str:
    """Of SHOW CREATE USER: it holds a password hash, which must not lie in a journal."""
    shown = session.value("SHOW CREATE USER %(u)s@%(h)s", u=user, h=host)
    return hashlib.sha256(str(shown).encode()).hexdigest()


def account_switches(server: Server, session: Session) -> dict[tuple[str, str], tuple[bool, int]]:
    """Return user and host -> whether the account is locked, and how many connections it may have, now."""
    return {
        (str(u), str(h)): (bool(int(locked)), int(n or 0))
        for u, h, locked, n in session.ask(server.capabilities.accounts_sql)
    }


def account_differences(server: Server, session: Session, before: list[dict[str, Any]]) -> list[str]:
    """Return what differs from the accounts as they were `before`, one sentence each."""
    now = account_switches(server, session)
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
        if same_switches and account_digest(session, *key) != one["definition"]:
            differences.append(msg("account {name} is defined differently", name=name))
    return differences
