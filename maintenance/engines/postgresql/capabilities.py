"""In what the versions of the server differ, decided once.

Each name says what there is; the comment says since which major version (from its release notes).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capabilities:
    """What this version of the server can, and how it calls things."""

    major: int
    drop_with_force: bool  # 13
    analyze_progress: bool  # 13
    index_tids: bool  # 13: an entry of a b-tree may stand for several rows
    trusted_extensions: bool  # 13: before, only superusers could create most of them
    copy_progress: bool  # 14
    read_all_data: bool  # 14: pg_read_all_data
    heap_check: bool  # 14: verify_heapam in amcheck, and pg_surgery
    checks_client: bool  # 14: client_connection_check_interval
    idle_session_timeout: bool  # 14
    copy_strategy: bool  # 15: before, a database was always copied by file
    locale_provider: bool  # 15
    database_collation_version: bool  # 15
    parameter_privilege: bool  # 15: GRANT SET ON PARAMETER
    icu_rules: bool  # 16
    role_creators_need_admin: bool  # 16: CREATEROLE alone no longer rules over every role
    locale_column: str  # 17 renamed it, for the built-in provider
    event_triggers: bool  # 17: the setting that silences them
    fixed_path: bool  # 17: functions of indexes are run with a path of pg_catalog alone
    maintain_privilege: bool  # 17: pg_maintain
    transaction_timeout: bool  # 17
    examined_indexes: tuple[str, ...]  # 18: amcheck knows GIN as well; GiST, BRIN, hash it does not

    @property
    def session_settings(self) -> dict[str, object]:
        """For every session of ours, over what the role or the database has set; besides `connection.OWN`."""
        settings: dict[str, object] = {}
        if self.checks_client:
            # Without it a backend works on, and commits, after our process was killed.
            settings["client_connection_check_interval"] = 500
        if self.idle_session_timeout:
            settings["idle_session_timeout"] = 0
        if self.transaction_timeout:
            settings["transaction_timeout"] = 0
        return settings

    @property
    def amcheck_functions(self) -> tuple[str, ...]:
        """Return those that the console calls, with their arguments."""
        heap = ("verify_heapam(regclass, boolean, boolean, text, bigint, bigint)",) if self.heap_check else ()
        gin = ("gin_index_check(regclass)",) if "gin" in self.examined_indexes else ()
        return ("bt_index_check(regclass, boolean)", *heap, *gin)


def capabilities_of(number: int) -> Capabilities:
    """From `server_version_num`, e.g. 150006."""
    major = number // 10000
    return Capabilities(
        major=major,
        drop_with_force=major >= 13,
        analyze_progress=major >= 13,
        index_tids=major >= 13,
        trusted_extensions=major >= 13,
        copy_progress=major >= 14,
        read_all_data=major >= 14,
        heap_check=major >= 14,
        checks_client=major >= 14,
        idle_session_timeout=major >= 14,
        copy_strategy=major >= 15,
        locale_provider=major >= 15,
        database_collation_version=major >= 15,
        parameter_privilege=major >= 15,
        icu_rules=major >= 16,
        role_creators_need_admin=major >= 16,
        locale_column="datlocale" if major >= 17 else "daticulocale",
        event_triggers=major >= 17,
        fixed_path=major >= 17,
        maintain_privilege=major >= 17,
        transaction_timeout=major >= 17,
        examined_indexes=("btree", "gin") if major >= 18 else ("btree",),
    )
