"""Who may come in by TLS only. PostgreSQL encrypts nothing on disk itself: that is the file system's."""

from __future__ import annotations

from .sql import ask
from .target import TargetDatabase


def tls_rules(target: TargetDatabase) -> dict[str, list[str]]:
    """Return the lines of pg_hba.conf that let somebody into the database over TLS only.

    Empty where the account may not read them.
    """
    with target.session("reading who must use TLS for") as connection:
        [(readable,)] = ask(connection, MAY_READ_RULES)
        rows = ask(connection, RULES, database=target.name) if readable else []
    return {f"pg_hba.conf: {rule}": ["hostssl"] for (rule,) in rows}


MAY_READ_RULES = """
SELECT has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
  AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
"""

RULES = """
SELECT concat_ws(' ', type, array_to_string(database, ','), array_to_string(user_name, ','), address, netmask,
  auth_method)
FROM pg_catalog.pg_hba_file_rules
WHERE type = 'hostssl' AND (database && ARRAY['all', 'sameuser', 'samerole', 'samegroup', %(database)s]
  OR array_to_string(database, ',') ~ '(^|,)/')
"""
"""Also lines that name databases by a pattern. Without the options: a directory's password may stand there."""
