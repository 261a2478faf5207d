"""Who may come in by TLS only. PostgreSQL encrypts nothing on disk itself: that is the file system's."""

from __future__ import annotations

from .relations import Server
from .sql import ask


class Transport(Server):
    """Reads pg_hba.conf through the server."""

    def tls(self) -> dict[str, list[str]]:
        """The lines that let somebody into this database over TLS only. Empty where the account may not read them."""
        with self.session("reading who must use TLS for") as connection:
            [(readable,)] = ask(connection, MAY_READ_RULES)
            rows = ask(connection, RULES, database=self.database) if readable else []
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
