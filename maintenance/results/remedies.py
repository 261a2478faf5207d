"""Which type of maintenance mends which finding, and which findings none mends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from maintenance.models import MaintenanceType

REPAIRED = frozenset(
    {
        "checksum_failures",
        "collation_mismatch",
        "damaged_index",
        "damaged_statistics",
        "damaged_system_index",
        "damaged_table",
        "file_damaged",
        "file_missing",
        "file_shorter_than_catalog",
        "file_truncated",
        "header_damaged",
        "index_damaged",
        "index_not_examined",
        "invalid_index",
        "lost_pages",
        "page_count_wrong",
        "search_index_damaged",
        "sequence_behind",
        "structure_damaged",
        "table_damaged",
        "visibility_damage",
    }
)
OPTIMIZED = frozenset(
    {"dead_rows", "free_pages", "index_bloat", "missing_statistics", "stale_statistics", "table_bloat", "wraparound"}
)
MENDING: Mapping[str, frozenset[str]] = {
    MaintenanceType.REPAIR: REPAIRED,
    MaintenanceType.OPTIMIZE: REPAIRED | OPTIMIZED,
    MaintenanceType.REBUILD: REPAIRED | OPTIMIZED,
}
"""Codes that a type works on. All types mend what is broken, where the engine can do it outside a repair."""


NOTHING: frozenset[str] = frozenset()
BEYOND_TABLES: Mapping[str, frozenset[str]] = {
    "analyze_all": frozenset({"missing_statistics", "stale_statistics"}),
    "correct_page_count": frozenset({"page_count_wrong"}),
    "pad": frozenset({"file_truncated"}),
    "rebuild_system_indexes": frozenset({"damaged_system_index"}),
    "remake_all_indexes": frozenset({"index_damaged"}),
    "renew_statistics": frozenset({"damaged_statistics"}),
    "restore_header": frozenset({"header_damaged"}),
    "vacuum": frozenset({"free_pages", "structure_damaged", "table_bloat"}),
    "write_first_page": frozenset({"file_damaged"}),
}
"""Work on a file or a catalog as a whole: the codes that it mends wherever they were found."""


def remedy(code: str) -> MaintenanceType | None:
    """Return the mildest type that mends it; None where a person has to do something else, as its hint says."""
    if code in REPAIRED:
        return MaintenanceType.REPAIR
    return MaintenanceType.OPTIMIZE if code in OPTIMIZED else None


def recommended(findings: Sequence[Mapping[str, Any]]) -> MaintenanceType | None:
    """Return the one type to begin with: damage before all else. None where none of them is mended by maintenance."""
    found = {remedy(finding["code"]) for finding in findings}
    return next((kind for kind in (MaintenanceType.REPAIR, MaintenanceType.OPTIMIZE) if kind in found), None)


def left(
    findings: Sequence[Mapping[str, Any]],
    actions: Sequence[Mapping[str, Any]],
    maintenance_type: str,
    tables: Collection[str],
) -> list[int]:
    """Return the places of the findings that this plan does not work on. `tables` are the names of all tables."""
    objects = {action["object"] for action in actions}
    # An index is mended by work on its table, which names it.
    reasons = " ".join(str(action["reason"]) for action in actions)
    beyond = [BEYOND_TABLES.get(action["kind"], NOTHING) for action in actions if action["object"] not in tables]
    everywhere = NOTHING.union(*beyond)

    def worked_on(code: str, object: str) -> bool:
        named = bool(object) and (object in objects or object in reasons)
        return code in everywhere or (named and code in MENDING[maintenance_type])

    return [place for place, f in enumerate(findings) if not worked_on(f["code"], f["object"])]
