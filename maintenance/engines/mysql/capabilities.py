"""In what the products differ: named here, decided in `__init__.py`, never asked by version where it matters."""

from __future__ import annotations

from typing import ClassVar

from ..base import UndividedEngine
from ..messages import Message, msg
from ..values import Severity


class Ways(UndividedEngine):
    """What every product says of itself."""

    version_prefix: ClassVar[str] = ""
    """The product's name where its version does not tell it."""
    statement_limit: ClassVar[tuple[str, int]]
    """Session variable that ends a long statement, and its units in a second."""
    kill_session: ClassVar[str]
    identity_sql: ClassVar[str]
    replica_sql: ClassVar[str]
    innodb_tables: ClassVar[str]
    """InnoDB's own list of tables with their ids, in information_schema."""
    tablespaces: ClassVar[str]
    """InnoDB's files and their sizes, in information_schema."""
    tablestats: ClassVar[str]
    """Live row counts and changes since the last statistics, in information_schema."""
    flagged_indexes_sql: ClassVar[str | None]
    """Indexes that the server itself has marked corrupt; None where it does not tell."""
    accounts_sql: ClassVar[str]
    """user, host, locked (0 or 1), max_user_connections of every account that is not a role."""
    encrypted_sql: ClassVar[str]
    """Schema and table of every tablespace, whether it is encrypted (0 or 1), and the key."""
    role_edges_sql: ClassVar[str]
    roles_of_all_sql: ClassVar[str | None]
    """True where roles are given to every account; None where grants to PUBLIC say so."""
    system_accounts: ClassVar[frozenset[str]]
    repairs_on_open: ClassVar[bool]
    """MyISAM and Aria tables marked crashed are repaired, with loss, when anything opens them."""
    reading_damage_kills: ClassVar[bool]
    """Reading one bad InnoDB page ends the whole server."""
    check_compares_indexes: ClassVar[bool]
    """CHECK TABLE … EXTENDED really compares InnoDB's index entries with the rows."""
    see_hidden_indexes: ClassVar[str]
    """Hint for a SELECT that compares indexes itself, those that queries may not use too."""
    session_settings: ClassVar[str]
    """More assignments for SET SESSION, each after a comma."""
    log_zone: ClassVar[str]
    """Time zone of the stamps in the error log, as CONVERT_TZ takes it."""
    innodb_indexes: ClassVar[str]
    """InnoDB's own list of indexes, in information_schema."""
    dump_programs: ClassVar[tuple[str, ...]]
    client_programs: ClassVar[tuple[str, ...]]
    dump_options: ClassVar[tuple[str, ...]]
    physical: ClassVar[bool]
    """There is a tool (mariabackup) that copies the files of a running server."""
    rights: ClassVar[tuple[tuple[str, Message, Severity], ...]]
    """Rights on the whole server that the account needs: name, what for, how bad it is without."""
    pages_sql: ClassVar[str | None]
    """Prefix that runs a query and tells the pages it touched; None where there is none."""


Right = tuple[str, Message, Severity]


SAME_IN_BOTH: tuple[Right, ...] = (
    ("PROCESS", msg("Without it the console cannot see the sessions of applications"), "high"),
    ("CREATE USER", msg("Without it the console cannot lock the accounts of applications"), "high"),
    ("RELOAD", msg("Without it the console cannot take a consistent backup"), "high"),
)


MARIADB: tuple[Right, ...] = (
    *SAME_IN_BOTH,
    ("CONNECTION ADMIN", msg("Without it the console cannot end the sessions of applications"), "high"),
    ("SET USER", msg("Without it the console cannot restore views and routines of other accounts"), "high"),
    ("BINLOG MONITOR", msg("Without it the console cannot take a physical backup"), "medium"),
    ("SLAVE MONITOR", msg("Without it the console cannot tell whether the server is a replica"), "medium"),
)
"""https://mariadb.com/kb/en/grant/"""


MYSQL: tuple[Right, ...] = (
    *SAME_IN_BOTH,
    ("CONNECTION_ADMIN", msg("Without it the console cannot end the sessions of applications"), "high"),
    ("SHOW_ROUTINE", msg("Without it the console cannot back up routines of other accounts"), "high"),
    (
        "REPLICATION CLIENT",
        msg("Without it the console cannot tell whether the server is a replica"),
        "medium",
    ),
    ("BACKUP_ADMIN", msg("Without it the console cannot take a physical backup"), "low"),
)
"""https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html"""
