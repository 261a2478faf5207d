"""What to do with each table, and why: values in, values out."""

from __future__ import annotations

from collections.abc import Sequence

from ..messages import Message, msg, size
from ..parts import Planner
from ..values import Action, Diagnosis, MaintenanceType, TableFacts, Thresholds

CHECK_AND_REPAIR = "check_and_repair"
REBUILD = "rebuild"
ANALYZE = "analyze"


class ServerPlanner(Planner):
    """From what was found to what is done with each table."""

    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        """See Planner.plan. Largest first, so that parallel work ends together."""
        chosen = [table for table in diagnosis.tables if tables is None or table.name in tables]
        chosen.sort(key=lambda table: (-table.bytes, table.name))
        if kind == "repair":
            return _repairs(chosen, named=tables is not None)
        if kind == "rebuild":
            return [_rebuild(table, msg("A full rebuild was asked for")) for table in chosen] + [
                _analyze(table, msg("Fresh statistics after the rebuild"), stage=1) for table in chosen
            ]
        return _optimizations(chosen, thresholds)


def _repairs(chosen: Sequence[TableFacts], named: bool) -> list[Action]:
    """Damage that nobody has read yet is known to nobody: without a suspect every table is checked whose
    pages could not be read past the server."""
    suspects = [table for table in chosen if table.damaged]
    if suspects and not named:
        return [_repair(table, msg("Diagnosis calls {table} damaged", table=table.name)) for table in suspects]
    if named:
        return [_repair(table, msg("{table} was named", table=table.name)) for table in chosen]
    return [
        _repair(table, msg("Nothing points to one table, so every table is checked and repaired where needed"))
        for table in chosen
        if table.notes.get("pages") != "sound"
    ]


def _optimizations(chosen: Sequence[TableFacts], thresholds: Thresholds) -> list[Action]:
    actions = []
    for table in chosen:
        if table.damaged:
            continue  # a rebuild is no repair: that is another type of maintenance, with other guards
        bloat, stale = table.bloat_share or 0.0, table.stale_share or 0.0
        if bloat >= thresholds.bloat_share and table.bytes >= thresholds.minimum_bytes:
            reason = msg("{share:.0%} of {size} hold no rows", share=bloat, size=size(table.bytes))
            actions += [_rebuild(table, reason), _analyze(table, msg("Fresh statistics after the rebuild"), stage=1)]
        elif stale >= thresholds.stale_share:
            reason = msg("{share:.0%} of the rows changed since the statistics", share=stale)
            actions.append(_analyze(table, reason, stage=1))
    return actions


def _repair(table: TableFacts, reason: Message) -> Action:
    return Action(
        object=table.name,
        kind=CHECK_AND_REPAIR,
        reason=reason,
        lock=msg("Nobody can write while it is checked; nobody can use it while it is repaired"),
        bytes=table.bytes,
        disk_bytes=table.bytes,
    )


def _rebuild(table: TableFacts, reason: Message) -> Action:
    online = table.notes.get("engine") == "InnoDB"
    return Action(
        object=table.name,
        kind=REBUILD,
        reason=reason,
        lock=msg("Online; a short exclusive lock at the beginning and the end")
        if online
        else msg("Nobody can write until the copy is complete"),
        bytes=table.bytes,
        # The new copy lies beside the old one until the end.
        disk_bytes=table.bytes,
    )


def _analyze(table: TableFacts, reason: Message, stage: int) -> Action:
    return Action(
        object=table.name,
        kind=ANALYZE,
        reason=reason,
        lock=msg("None that others notice"),
        bytes=max(1, table.bytes // 100),
        disk_bytes=0,
        stage=stage,
    )
