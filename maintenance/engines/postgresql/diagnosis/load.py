"""What slows everybody down now."""

from __future__ import annotations

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from ..sql import Row
from .question import Question


def _blocked(row: Row) -> Finding:
    pid, blockers, seconds = row
    return Finding(
        "blocked_session",
        "medium",
        "",
        msg(
            "Session {pid} waits {seconds:.0f} s for sessions {blockers}",
            pid=pid,
            seconds=float(seconds or 0),
            blockers=", ".join(str(x) for x in blockers),
        ),
        msg("See what the blocking session does; maintenance ends both when it cuts the connections"),
    )


# Below 90 % an OLTP database reads from disk what memory should hold; small counts say nothing.
def _cache(row: Row) -> Finding:
    return Finding(
        "low_cache_hit",
        "low",
        "",
        msg("Only {share:.0%} of the blocks were found in memory", share=float(row[0])),
        msg("Bloat, a missing index, or shared_buffers too small for the working set"),
    )


def _connections(row: Row) -> Finding:
    used, room = row
    return Finding(
        "connections_near_limit",
        "high",
        "",
        msg("{used} of {room} connections are in use", used=int(used), room=int(room)),
        msg("New clients are refused soon; look for leaks and idle transactions"),
    )


QUESTIONS = (
    Question(
        "blocked sessions",
        """SELECT pid, pg_blocking_pids(pid), extract(epoch FROM now() - query_start) FROM pg_stat_activity
           WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0 LIMIT 20""",
        _blocked,
    ),
    Question(
        "cache hits",
        """SELECT blks_hit::float / (blks_hit + blks_read) FROM pg_stat_database
           WHERE datname = current_database() AND blks_read > 100000 AND blks_hit < 9 * blks_read""",
        _cache,
    ),
    Question(
        "connections",
        """SELECT used, room FROM (SELECT count(*) AS used FROM pg_stat_activity
               WHERE backend_type = 'client backend') a,
             (SELECT current_setting('max_connections')::int AS room) b WHERE used > 0.85 * room""",
        _connections,
    ),
)
