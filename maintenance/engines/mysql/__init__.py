"""MariaDB 10.6 and later, MySQL 8.0 and later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import MySQLdb
from sqlalchemy import URL

from ..archive import Seal
from ..base import Engine
from ..errors import EngineError
from ..messages import Message
from ..parts import Measure, Rows
from ..values import (
    Action,
    Backup,
    Check,
    Cut,
    Diagnosis,
    Facts,
    Fingerprint,
    Grant,
    Image,
    Json,
    Limits,
    MaintenanceType,
    Performed,
    Progress,
    Tag,
    Thresholds,
)
from . import (
    access_gate,
    actions,
    address,
    backup,
    benchmark,
    dead_man_switch,
    definitions,
    diagnosis,
    fingerprints,
    gate_mirror,
    names,
    operator_queries,
    planning,
    privileges,
    restore,
    rollback,
    sessions,
    structure,
    verification,
    writing,
)
from . import (
    encryption as protection,
)
from .capabilities import MARIADB, MYSQL
from .connection import Session
from .repair import corruption
from .server import PINNED, Server


class Family(Server):
    """What MariaDB and MySQL have in common: each verb in the file of its topic."""

    armed = False

    def facts(self) -> Facts:
        return diagnosis.facts(self)

    def grants(self, role: str | None = None) -> list[Grant]:
        return privileges.grants(self, role)

    def spellings(self) -> dict[str, list[str]]:
        with self.session("listing tables of") as session:
            self.need_schema(session)
            tables = [table.name for table in structure.tables(session, self.schema)]
        return names.spellings(self.schema, tables)

    def writers(self) -> list[Message]:
        return sessions.writers(self)

    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        return diagnosis.diagnose(self, thresholds, tables)

    def refusal(self, session: Session) -> Message | None:
        return writing.cluster_refusal(session)

    def unreadable_tables(self) -> dict[str, str]:
        self.spared = corruption.unreadable_tables(self)
        return self.spared

    def unreadable_rows(self) -> dict[str, str]:
        return corruption.unreadable_tables(self, but_by_rows=True)

    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        return planning.plan(kind, diagnosis, thresholds, tables, allow_data_loss)

    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        return backup.back_up(self, method, folder, stem, seal)

    def is_held_elsewhere(self) -> bool:
        with self.session("looking who maintains") as session:
            return self.hold_is_anothers(session)

    def mark(self) -> Mapping[str, object] | None:
        with self.session("looking for the mark of a cut on") as session:
            return gate_mirror.marked(self, session)

    def _is_marked_by_another(self) -> bool:
        with self.session("looking for the mark of a cut on") as session:
            return gate_mirror.closed_by_another(self, session)

    def read_state(self) -> Json:
        return access_gate.read_state(self)

    def cut(self, gate_: Json, marker: Json) -> Cut:
        return access_gate.cut(self, gate_, marker)

    def open(self, gate_: Json, share: float | None) -> None:
        access_gate.open_gate(self, gate_, share)

    def differences(self, gate_: Json) -> list[str]:
        return access_gate.differences(self, gate_)

    def is_cut(self) -> bool:
        return access_gate.is_cut(self)

    def manual_commands(self, gate_: Json) -> list[str]:
        return access_gate.manual_commands(self, gate_)

    def arm(self, gate_: Json, seconds: float) -> None:
        dead_man_switch.arm(self, gate_, seconds)
        self.armed = True

    def disarm(self) -> None:
        dead_man_switch.disarm(self)
        self.armed = False

    def keepalive(self) -> None:
        if self.armed:
            dead_man_switch.put_off(self)

    def image(self, backup_: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        return backup.image(self, backup_, baseline, folder, stem, seal)

    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        return actions.perform(self, action, allow_data_loss)

    def progress(self) -> list[Progress]:
        return actions.progress(self)

    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        return fingerprints.fingerprint(self, tables, side)

    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        return verification.check(self, tables, thorough)

    def definitions(self, side: str | None = None) -> dict[str, str]:
        return definitions.catalog(self, side)

    def encryption(self, side: str | None = None) -> dict[str, list[str]]:
        return protection.encryption(self, side)

    def tls(self) -> dict[str, list[str]]:
        return protection.tls(self)

    def query(self, sql: str) -> Rows:
        return operator_queries.query(self, sql)

    def queries(self, tables: Sequence[str] | None) -> list[str]:
        return benchmark.queries(self, tables)

    @property
    def cost_unit(self) -> str:
        return "pages" if self.pages_sql else "rows handled"

    def measuring(self, query: str) -> AbstractContextManager[Measure]:
        return benchmark.measuring(self)

    def restore_beside(self, image: Image, backup_: Backup, seal: Seal) -> str:
        return restore.restore_beside(self, image, backup_, seal)

    def swap(self, side: str, gate_: Json, marker: Json) -> str:
        return rollback.swap(self, side, gate_, marker)

    def leftovers(self) -> list[str]:
        return rollback.leftovers(self)

    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        return rollback.clean(self, tuple(keep))


class MariaDB(Family):
    name = "mariadb"
    methods = ("mariadb-dump", "mariabackup")
    harms_damaged_tables = True
    statement_limit = ("max_statement_time", 1)
    kill_session = "KILL HARD CONNECTION"
    identity_sql = "SELECT @@server_uid"
    replica_sql = "SHOW ALL SLAVES STATUS"
    tablespaces = "innodb_sys_tablespaces"
    tablestats = "innodb_sys_tablestats"
    innodb_tables = "innodb_sys_tables"
    # Bit 4 of the type is the mark that CHECK TABLE or a failed purge set.
    flagged_indexes_sql = (
        "SELECT t.name, i.name FROM information_schema.innodb_sys_indexes i"
        " JOIN information_schema.innodb_sys_tables t ON t.table_id = i.table_id WHERE i.type & 16"
    )
    accounts_sql = (
        "SELECT user, host, IF(LOWER(COALESCE(JSON_VALUE(priv, '$.account_locked'), '0')) IN ('1', 'true'), 1, 0),"
        " COALESCE(JSON_VALUE(priv, '$.max_user_connections'), 0) FROM mysql.global_priv"
        " WHERE LOWER(COALESCE(JSON_VALUE(priv, '$.is_role'), '0')) NOT IN ('1', 'true')"
    )
    # Names are in the file system's spelling, in which # occurs only before a partition.
    encrypted_sql = (
        "SELECT CONVERT(CONVERT(CAST(SUBSTRING_INDEX(name, '/', 1) AS BINARY) USING filename) USING utf8mb4),"
        " CONVERT(CONVERT(CAST(SUBSTRING_INDEX(SUBSTRING_INDEX(name, '/', -1), '#', 1) AS BINARY) USING filename)"
        " USING utf8mb4), encryption_scheme > 0 AND min_key_version > 0, current_key_id"
        " FROM information_schema.innodb_tablespaces_encryption"
    )
    role_edges_sql = "SELECT CONCAT('''', user, '''@''', host, '''') FROM mysql.roles_mapping WHERE host <> ''"
    roles_of_all_sql: ClassVar[str | None] = None
    system_accounts = frozenset(("mariadb.sys",))
    repairs_on_open = True
    reading_damage_kills = False
    check_compares_indexes = True
    see_hidden_indexes = ""
    # The first, or the server refuses to rewrite a table that keeps its history; the second, or its rows of a former
    # day are taken for those of now.
    session_settings = (
        ", system_versioning_alter_history = 'KEEP', system_versioning_asof = DEFAULT, sql_if_exists = 0,"
        " check_constraint_checks = 1"
    )
    log_zone = "SYSTEM"
    innodb_indexes = "innodb_sys_indexes"
    dump_programs = ("mariadb-dump", "mysqldump")
    client_programs = ("mariadb", "mysql")
    dump_options = ()
    physical = True
    rights = MARIADB
    pages_sql = "ANALYZE FORMAT=JSON"


class MySQL(Family):
    name = "mysql"
    version_prefix = "MySQL "
    methods = ("mysqldump", "clone")
    statement_limit = ("max_execution_time", 1000)
    kill_session = "KILL CONNECTION"
    identity_sql = "SELECT @@server_uuid"
    replica_sql = "SHOW REPLICA STATUS"
    tablespaces = "innodb_tablespaces"
    tablestats = "innodb_tablestats"
    innodb_tables = "innodb_tables"
    flagged_indexes_sql: ClassVar[str | None] = None
    accounts_sql = "SELECT user, host, IF(account_locked = 'Y', 1, 0), max_user_connections FROM mysql.user"
    # One master key for all; no tablespace has a number of its own.
    encrypted_sql = (
        "SELECT SUBSTRING_INDEX(name, '/', 1), SUBSTRING_INDEX(SUBSTRING_INDEX(name, '/', -1), '#p#', 1),"
        " encryption = 'Y', 'of the server' FROM information_schema.innodb_tablespaces"
    )
    role_edges_sql = "SELECT CONCAT('''', to_user, '''@''', to_host, '''') FROM mysql.role_edges"
    roles_of_all_sql = "SELECT @@GLOBAL.mandatory_roles <> ''"
    system_accounts = frozenset(("mysql.sys", "mysql.session", "mysql.infoschema"))
    repairs_on_open = False
    reading_damage_kills = True
    check_compares_indexes = False
    see_hidden_indexes = "/*+ SET_VAR(optimizer_switch = 'use_invisible_indexes=on') */"
    # Otherwise sizes may be a day old.
    session_settings = ", information_schema_stats_expiry = 0"
    log_zone = "+00:00"
    innodb_indexes = "innodb_indexes"
    dump_programs = ("mysqldump",)
    client_programs = ("mysql",)
    dump_options = ("--set-gtid-purged=OFF", "--column-statistics=0")
    physical = False
    rights = MYSQL
    pages_sql: ClassVar[str | None] = None


def open_server(url: URL, tag: Tag, limits: Limits) -> Engine:
    """MariaDB or MySQL. The scheme mysql stands for both: then the server is asked.

    Does not answer now: MySQL, whose every verb raises Unreachable as MariaDB's would.
    """
    if url.get_backend_name() == "mariadb":
        return MariaDB(url, tag, limits)
    try:
        connection = address.connect(url, LOOKING_SECONDS, f"SET SESSION {PINNED}")
    except (EngineError, MySQLdb.Error):
        return MySQL(url, tag, limits)
    try:
        is_mariadb = "mariadb" in str(connection.get_server_info()).lower()  # type: ignore[no-untyped-call]
    finally:
        connection.close()  # type: ignore[no-untyped-call]
    return MariaDB(url, tag, limits) if is_mariadb else MySQL(url, tag, limits)


LOOKING_SECONDS = 10


__all__ = ["MariaDB", "MySQL", "open_server"]
