"""Who else is in the database: sessions that the cut spared or that got past it, and workers of the server."""

from __future__ import annotations

from ..messages import Message, msg
from ..writers import told
from .relations import Server
from .sql import ask


class Activity(Server):
    """Reads pg_stat_activity."""

    def writers(self) -> list[Message]:
        """See Sessions.writers. An account without pg_read_all_stats sees neither kind nor address of others."""
        with self.control("looking who is in the database") as connection:
            entry = self.identity.target(connection)
            rows = ask(connection, OTHERS, oid=entry.oid if entry else None, mine=self.tag.session)
        return [
            told(
                msg("{kind} {number}", kind=kind, number=number),
                account=account,
                address=address,
                application=application,
                since=since,
            )
            for number, kind, account, address, application, since in rows
        ]


OTHERS = """
SELECT pid, coalesce(backend_type, 'backend'), coalesce(usename::text, ''),
  coalesce(host(client_addr), CASE WHEN client_port = -1 THEN 'local socket' END, ''),
  coalesce(application_name, ''), coalesce(date_trunc('second', query_start)::text, '')
FROM pg_stat_activity
WHERE datid = %(oid)s AND pid <> pg_backend_pid()
  AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'parallel worker', 'walsender')
  AND (application_name IS DISTINCT FROM %(mine)s OR usename IS DISTINCT FROM session_user)
ORDER BY query_start DESC NULLS LAST, pid
"""
"""Workers of extensions and of subscriptions too. Left out is who changes no row: autovacuum, senders, and the parallel
workers of a session that is named itself. Ours have our name and our role: any session may call itself as ours do."""
