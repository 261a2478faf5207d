"""From diagnosis to actions. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..messages import Message, msg, size
from ..parts import Planner
from ..values import Action, Check, Diagnosis, Finding, MaintenanceType, TableFacts, Thresholds
from .repair.system_catalogs import mends_of_system


def exclusive() -> Message:
    return msg("nobody can read or write the table meanwhile")


def shared() -> Message:
    return msg("the table can be read but not written meanwhile")


def light() -> Message:
    return msg("the table can be read and written meanwhile")


class PostgresPlanner(Planner):
    """Stages: below 0 system catalogs, 0 salvage and leftovers, 1 rewrite or reindex, 2 sequences, 3 clean, analyze."""

    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        """See Planner.plan."""
        named = set(tables) if tables is not None else None
        facts = [fact for fact in diagnosis.tables if named is None or fact.name in named]
        actions = mends_of_system(diagnosis)
        for fact in facts:
            if kind == "repair":
                actions += repairs(fact, named is not None, allow_data_loss)
            elif kind == "optimize":
                actions += optimized(fact, thresholds, allow_data_loss)
            else:
                rebuilding = rebuilds(fact)
                kinds = {action.kind for action in rebuilding}
                mending = mends(fact, allow_data_loss, reindexing=False)
                actions += [action for action in mending if action.kind not in kinds] + rebuilding
        if named is None and kind != "optimize":
            actions += sequences_of_parents(diagnosis)
        actions += recorded(diagnosis, {fact.name for fact in facts})
        return sorted(actions, key=lambda action: (action.stage, -action.bytes, action.object, action.kind))

    def informed(self, diagnosis: Diagnosis, checks: Sequence[Check], unreadable: Mapping[str, str]) -> Diagnosis:
        """See Planner.informed: a fault of the table itself asks for other work than one of an index."""
        return replace(diagnosis, tables=tuple(informed(fact, checks, unreadable) for fact in diagnosis.tables))


def informed(fact: TableFacts, checks: Sequence[Check], unreadable: Mapping[str, str]) -> TableFacts:
    """Return the facts with the faults that a deeper look found."""
    own = [check for check in checks if (check.table or check.object) == fact.name]
    heap = [check.detail or check.name for check in own if check.object == fact.name]
    heap += [unreadable[fact.name]] if fact.name in unreadable else []
    indexes = [check.object for check in own if check.object != fact.name]
    if not (heap or indexes):
        return fact
    notes = {**fact.notes, "faulty_indexes": list(dict.fromkeys([*texts(fact, "faulty_indexes"), *indexes]))}
    if heap:
        notes["heap_fault"] = fact.notes.get("heap_fault") or "; ".join(heap)[:1000]
    return replace(fact, damaged=True, notes=notes)


def act(
    fact: TableFacts, kind: str, stage: int, reason: Message, lock: Message, disk: int = 0, object: str = ""
) -> Action:
    return Action(
        object=object or fact.name,
        kind=kind,
        reason=reason,
        lock=lock,
        bytes=fact.bytes,
        disk_bytes=disk,
        stage=stage,
        needs_data_loss=kind == "salvage",
    )


def texts(fact: TableFacts, note: str) -> list[str]:
    value = fact.notes.get(note)
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def number(fact: TableFacts, note: str) -> int:
    value = fact.notes.get(note)
    return value if isinstance(value, int) else 0


def mends(fact: TableFacts, allow_data_loss: bool, reindexing: bool = True, sequences: bool = True) -> list[Action]:
    """Return what is broken must be mended whatever the type of maintenance; sequences are none of an
    optimization's."""
    actions: list[Action] = []
    fault = fact.notes.get("heap_fault")
    short = fact.notes.get("short")
    fault = fault or fact.notes.get("emptied")
    if fault or short or fact.notes.get("missing"):
        reason = msg(
            "The table is damaged: {fault}",
            fault=fault if isinstance(fault, str) else msg("its file is shorter than the catalog says"),
        )
        kind = "salvage" if allow_data_loss and (fault or short) and not fact.notes.get("missing") else "read_test"
        actions.append(act(fact, kind, 0, reason, exclusive(), fact.bytes if kind == "salvage" else 0))
    if fact.notes.get("visibility"):
        reason = msg("Its visibility map is wrong, so queries may show deleted rows")
        actions.append(act(fact, "reset_visibility", 0, reason, exclusive()))
        actions.append(act(fact, "vacuum", 3, msg("Visibility map built anew"), light()))
    leftovers = [
        index for index in texts(fact, "invalid_indexes") if index.rstrip('"0123456789').endswith(("_ccnew", "_ccold"))
    ]
    for index in leftovers:
        reason = msg("Index {index} is what a broken concurrent build left", index=index)
        actions.append(act(fact, "drop_index", 0, reason, exclusive(), object=index))
    invalid = [index for index in texts(fact, "invalid_indexes") if index not in leftovers]
    faulty = texts(fact, "faulty_indexes")
    if reindexing and faulty:
        reason = msg("Damaged: {indexes}", indexes=", ".join(faulty))
        actions.append(reindex(fact, reason))
    elif reindexing and invalid:
        actions.append(reindex(fact, msg("Not valid: {indexes}", indexes=", ".join(invalid))))
    elif reindexing and (collated := texts(fact, "collated_indexes")):
        reason = msg("Ordered by a collation that changed: {indexes}", indexes=", ".join(collated))
        actions.append(reindex(fact, reason))
    for evidence in texts(fact, "sequence_behind") if sequences else []:
        actions.append(act(fact, "set_sequences", 2, msg("{evidence}", evidence=evidence), light()))
        break  # One action sets every sequence of the table.
    return actions


def sequences_of_parents(diagnosis: Diagnosis) -> list[Action]:
    """Return the work on sequences that belong to partitioned tables, which store no rows and so have no facts."""
    known = {fact.name for fact in diagnosis.tables}
    behind = {f.object: f for f in diagnosis.findings if f.code == "sequence_behind" and f.object not in known}
    return [
        Action(
            object=name,
            kind="set_sequences",
            reason=msg("{evidence}", evidence=str(finding.evidence)),
            lock=light(),
            bytes=0,
            disk_bytes=0,
            stage=2,
        )
        for name, finding in behind.items()
    ]


def recorded(diagnosis: Diagnosis, chosen: set[str]) -> list[Action]:
    """New versions of collations, once every index ordered by one is built anew: after that nobody is warned."""
    if any(texts(fact, "collated_indexes") and fact.name not in chosen for fact in diagnosis.tables):
        return []
    return [record(finding) for finding in diagnosis.findings if finding.evidence.values.get("refresh")]


def record(finding: Finding) -> Action:
    return Action(
        object=str(finding.evidence.values["collation"]),
        kind="refresh_collation",
        reason=msg("{evidence}", evidence=str(finding.evidence)),
        lock=light(),
        bytes=0,
        disk_bytes=0,
        stage=2,
    )


def reindex(fact: TableFacts, reason: Message) -> Action:
    return act(fact, "reindex", 1, reason, shared(), 2 * number(fact, "index_bytes"))


def repairs(fact: TableFacts, named: bool, allow_data_loss: bool) -> list[Action]:
    actions = mends(fact, allow_data_loss)
    kinds = {action.kind for action in actions}
    has_indexes = number(fact, "index_bytes") > 0
    if "reindex" not in kinds and has_indexes:
        if named:
            actions.append(
                reindex(
                    fact,
                    msg(
                        "Asked for by name; its indexes ({size}) are built anew", size=size(number(fact, "index_bytes"))
                    ),
                )
            )
        elif "salvage" not in kinds and not fact.notes.get("examined"):
            actions.append(reindex(fact, msg("Its indexes could not all be examined, so they are built anew")))
    if (named or actions) and "vacuum" not in kinds:
        actions.append(act(fact, "analyze", 3, msg("New statistics after the repair"), light()))
    return actions


def optimized(fact: TableFacts, thresholds: Thresholds, allow_data_loss: bool) -> list[Action]:
    """A rewrite builds the indexes anew as well, so no index is built twice."""
    wanted = optimizations(fact, thresholds)
    rewriting = any(action.kind == "vacuum_full" for action in wanted)
    actions = mends(fact, allow_data_loss, reindexing=not rewriting, sequences=False)
    kinds = {action.kind for action in actions}
    return actions + [action for action in wanted if action.kind not in kinds]


def optimizations(fact: TableFacts, thresholds: Thresholds) -> list[Action]:
    if fact.bytes < thresholds.minimum_bytes:
        return []
    index_bloat = fact.notes.get("index_bloat_share")
    if fact.bloat_share is not None and fact.bloat_share >= thresholds.bloat_share:
        reason = msg(
            "About {share:.0%} of {size} is empty or dead (limit {limit:.0%})",
            share=fact.bloat_share,
            size=size(fact.bytes),
            limit=thresholds.bloat_share,
        )
        return [rewrite(fact, reason), after_rewrite(fact)]
    actions: list[Action] = []
    if isinstance(index_bloat, float) and index_bloat >= thresholds.bloat_share:
        reason = msg(
            "About {share:.0%} of {size} of indexes is empty (limit {limit:.0%})",
            share=index_bloat,
            size=size(number(fact, "index_bytes")),
            limit=thresholds.bloat_share,
        )
        actions.append(reindex(fact, reason))
    if fact.dead_share is not None and fact.dead_share >= thresholds.dead_share:
        reason = msg(
            "{share:.0%} of the rows are dead (limit {limit:.0%})", share=fact.dead_share, limit=thresholds.dead_share
        )
        actions.append(act(fact, "vacuum", 3, reason, light()))
    elif fact.stale_share is not None and fact.stale_share >= thresholds.stale_share:
        reason = msg(
            "{share:.0%} of the rows changed since the last analysis (limit {limit:.0%})",
            share=fact.stale_share,
            limit=thresholds.stale_share,
        )
        actions.append(act(fact, "analyze", 3, reason, light()))
    return actions


def rebuilds(fact: TableFacts) -> list[Action]:
    return [
        rewrite(fact, msg("Rebuild: {size} written anew with all its indexes", size=size(fact.bytes))),
        after_rewrite(fact),
    ]


def rewrite(fact: TableFacts, reason: Message) -> Action:
    return act(fact, "vacuum_full", 1, reason, exclusive(), fact.bytes)


def after_rewrite(fact: TableFacts) -> Action:
    """A rewrite leaves the visibility map empty, which makes index-only scans up to 15 times slower."""
    return act(fact, "vacuum", 3, msg("Visibility map and statistics after the rewrite"), light())
