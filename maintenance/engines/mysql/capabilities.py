"""In what the products differ: named and decided here, never asked by version where it matters."""

from __future__ import annotations

from dataclasses import dataclass

from ..messages import Message, msg
from ..values import Severity

Right = tuple[str, Message, Severity]


@dataclass(frozen=True)
class Capabilities:
    """What every product says of itself."""

    version_prefix: str
    """The product's name where its version does not tell it; else empty."""
    backup_methods: tuple[str, str]
    harms_damaged_tables: bool
    """A structural check takes away what could still be read of a damaged table."""
    statement_limit: tuple[str, int]
    """Session variable that ends a long statement, and its units in a second."""
    kill_session: str
    identity_sql: str
    replica_sql: str
    innodb_tables: str
    """InnoDB's own list of tables with their ids, in information_schema."""
    tablespaces: str
    """InnoDB's files and their sizes, in information_schema."""
    tablestats: str
    """Live row counts and changes since the last statistics, in information_schema."""
    flagged_indexes_sql: str | None
    """Indexes that the server itself has marked corrupt; None where it does not tell."""
    accounts_sql: str
    """user, host, locked (0 or 1), max_user_connections of every account that is not a role."""
    encrypted_sql: str
    """Schema and table of every tablespace, whether it is encrypted (0 or 1), and the key."""
    role_edges_sql: str
    roles_of_all_sql: str | None
    """True where roles are given to every account; None where grants to PUBLIC say so."""
    system_accounts: frozenset[str]
    repairs_on_open: bool
    """MyISAM and Aria tables marked crashed are repaired, with loss, when anything opens them."""
    reading_damage_kills: bool
    """Reading one bad InnoDB page ends the whole server."""
    check_compares_indexes: bool
    """CHECK TABLE … EXTENDED really compares InnoDB's index entries with the rows."""
    see_hidden_indexes: str
    """Hint for a SELECT that compares indexes itself, those that queries may not use too."""
    session_settings: str
    """More assignments for SET SESSION, each after a comma."""
    demands_off: tuple[str, ...]
    """Assignments by which a session may make what the server would otherwise refuse to make, or make differently."""
    log_zone: str
    """Time zone of the stamps in the error log, as CONVERT_TZ takes it."""
    innodb_indexes: str
    """InnoDB's own list of indexes, in information_schema."""
    dump_programs: tuple[str, ...]
    client_programs: tuple[str, ...]
    dump_options: tuple[str, ...]
    physical: bool
    """There is a tool (mariabackup) that copies the files of a running server."""
    rights: tuple[Right, ...]
    """Rights on the whole server that the account needs: name, what for, how bad it is without."""
    protecting_right: str | None
    """Right that keeps an account that has it from being altered by one that lacks it; None: there is no such right."""
    definer_rights: tuple[str, ...]
    """By version, the right to say who defines an event or a view, where `rights` does not name it."""
    pages_sql: str | None
    """Prefix that runs a query and tells the pages it touched; None where there is none."""


SAME_IN_BOTH: tuple[Right, ...] = (
    ("PROCESS", msg("Without it the console cannot see the sessions of applications"), "high"),
    ("CREATE USER", msg("Without it the console cannot lock the accounts of applications"), "high"),
    ("RELOAD", msg("Without it the console cannot take a consistent backup"), "high"),
)


MARIADB_RIGHTS: tuple[Right, ...] = (
    *SAME_IN_BOTH,
    ("CONNECTION ADMIN", msg("Without it the console cannot end the sessions of applications"), "high"),
    ("SET USER", msg("Without it the console cannot restore views and routines of other accounts"), "high"),
    ("BINLOG MONITOR", msg("Without it the console cannot take a physical backup"), "medium"),
    ("SLAVE MONITOR", msg("Without it the console cannot tell whether the server is a replica"), "medium"),
)
"""https://mariadb.com/kb/en/grant/"""


MYSQL_RIGHTS: tuple[Right, ...] = (
    *SAME_IN_BOTH,
    ("CONNECTION_ADMIN", msg("Without it the console cannot end the sessions of applications"), "high"),
    ("SHOW_ROUTINE", msg("Without it the console cannot back up routines of other accounts"), "high"),
    (
        "REPLICATION CLIENT",
        msg("Without it the console cannot tell whether the server is a replica"),
        "medium",
    ),
    (
        "SESSION_VARIABLES_ADMIN",
        msg("Without it the console cannot restore tables that were made under other rules of the server"),
        "low",
    ),
    ("BACKUP_ADMIN", msg("Without it the console cannot take a physical backup"), "low"),
)
"""https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html"""

MARIADB = Capabilities(
    backup_methods=("mariadb-dump", "mariabackup"),
    harms_damaged_tables=True,
    statement_limit=("max_statement_time", 1),
    kill_session="KILL HARD CONNECTION",
    identity_sql="SELECT @@server_uid",
    replica_sql="SHOW ALL SLAVES STATUS",
    tablespaces="innodb_sys_tablespaces",
    tablestats="innodb_sys_tablestats",
    innodb_tables="innodb_sys_tables",
    # Bit 4 of the type is the mark that CHECK TABLE or a failed purge set.
    flagged_indexes_sql=(
        "SELECT t.name, i.name FROM information_schema.innodb_sys_indexes i"
        " JOIN information_schema.innodb_sys_tables t ON t.table_id = i.table_id WHERE i.type & 16"
    ),
    accounts_sql=(
        "SELECT user, host, IF(LOWER(COALESCE(JSON_VALUE(priv, '$.account_locked'), '0')) IN ('1', 'true'), 1, 0),"
        " COALESCE(JSON_VALUE(priv, '$.max_user_connections'), 0) FROM mysql.global_priv"
        " WHERE LOWER(COALESCE(JSON_VALUE(priv, '$.is_role'), '0')) NOT IN ('1', 'true')"
    ),
    # Names are in the file system's spelling, in which # occurs only before a partition.
    encrypted_sql=(
        "SELECT CONVERT(CONVERT(CAST(SUBSTRING_INDEX(name, '/', 1) AS BINARY) USING filename) USING utf8mb4),"
        " CONVERT(CONVERT(CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(name, '/', -1), '#', 1) AS BINARY) USING filename)"
        " USING utf8mb4), encryption_scheme > 0 AND min_key_version > 0, current_key_id"
        " FROM information_schema.innodb_tablespaces_encryption"
    ),
    role_edges_sql="SELECT CONCAT('''', user, '''@''', host, '''') FROM mysql.roles_mapping WHERE host <> ''",
    roles_of_all_sql=None,
    system_accounts=frozenset(("mariadb.sys",)),
    repairs_on_open=True,
    reading_damage_kills=False,
    check_compares_indexes=True,
    see_hidden_indexes="",
    # The first, or the server refuses to rewrite a table that keeps its history; the second, or its rows of a former
    # day are taken for those of now.
    session_settings=(
        ", system_versioning_alter_history = 'KEEP', system_versioning_asof = DEFAULT, sql_if_exists = 0,"
        " check_constraint_checks = 1"
    ),
    demands_off=("innodb_strict_mode = OFF", "check_constraint_checks = OFF", "enforce_storage_engine = NULL"),
    log_zone="SYSTEM",
    innodb_indexes="innodb_sys_indexes",
    dump_programs=("mariadb-dump", "mysqldump"),
    client_programs=("mariadb", "mysql"),
    dump_options=(),
    physical=True,
    rights=MARIADB_RIGHTS,
    protecting_right=None,
    definer_rights=(),
    pages_sql="ANALYZE FORMAT=JSON",
    version_prefix="",
)

MYSQL = Capabilities(
    version_prefix="MySQL ",
    backup_methods=("mysqldump", "clone"),
    statement_limit=("max_execution_time", 1000),
    kill_session="KILL CONNECTION",
    identity_sql="SELECT @@server_uuid",
    replica_sql="SHOW REPLICA STATUS",
    tablespaces="innodb_tablespaces",
    tablestats="innodb_tablestats",
    innodb_tables="innodb_tables",
    flagged_indexes_sql=None,
    accounts_sql="SELECT user, host, IF(account_locked = 'Y', 1, 0), max_user_connections FROM mysql.user",
    # One master key for all; no tablespace has a number of its own.
    encrypted_sql=(
        "SELECT SUBSTRING_INDEX(name, '/', 1), SUBSTRING_INDEX(SUBSTRING_INDEX(name, '/', -1), '#p#', 1),"
        " encryption = 'Y', 'of the server' FROM information_schema.innodb_tablespaces"
    ),
    role_edges_sql="SELECT CONCAT('''', to_user, '''@''', to_host, '''') FROM mysql.role_edges",
    roles_of_all_sql="SELECT @@GLOBAL.mandatory_roles <> ''",
    system_accounts=frozenset(("mysql.sys", "mysql.session", "mysql.infoschema")),
    repairs_on_open=False,
    reading_damage_kills=True,
    check_compares_indexes=False,
    see_hidden_indexes="/*+ SET_VAR(optimizer_switch = 'use_invisible_indexes=on') */",
    # Otherwise sizes may be a day old.
    session_settings=", information_schema_stats_expiry = 0",
    demands_off=(
        "innodb_strict_mode = OFF",
        "sql_require_primary_key = OFF",
        "sql_generate_invisible_primary_key = OFF",
    ),
    log_zone="+00:00",
    innodb_indexes="innodb_indexes",
    dump_programs=("mysqldump",),
    client_programs=("mysql",),
    dump_options=("--set-gtid-purged=OFF", "--column-statistics=0"),
    physical=False,
    rights=MYSQL_RIGHTS,
    protecting_right="SYSTEM_USER",
    definer_rights=("SET_ANY_DEFINER", "SET_USER_ID"),
    pages_sql=None,
    harms_damaged_tables=False,
)
