"""PostgreSQL 12 to 18, over SQLAlchemy Core and psycopg2, with the server's own programs for backups.

One topic a file: `sql` and `sessions` (the way to the server), `turn` (fencing), `server` (who it is), `versions`,
`privileges`, `diagnosis` with `questions`, `collations` and `sizes`, `planning`, `backup`, `gate` (cut and
release), `switch` (opens it without us), `work` and `salvage`, `proof` and `structure`, `benchmark`, `rollback`,
`tls`, `activity` (who else is in).
"""

from __future__ import annotations

from .actions import Work
from .activity import Activity
from .benchmark import Benchmark
from .dead_man_switch import Switch
from .planning import Planning
from .rollback import Rollback
from .tls import Transport


class PostgreSQL(Planning, Work, Benchmark, Switch, Rollback, Transport, Activity):
    """One database of a PostgreSQL server."""
