"""C: which work, on what, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Unable
from ..messages import Message, msg, size
from ..parts import Planner
from ..values import Action, Diagnosis, Finding, MaintenanceType, TableFacts, Thresholds
from .diagnosis.application_functions import NEEDS_APPLICATION
from .diagnosis.folder import FOREIGN_LOG as LOG
from .diagnosis.header import ENCRYPTED
from .diagnosis.search_indexes import REBUILT as SEARCH
from .diagnosis.sizes import WORTH_STATISTICS
from .exclusive_lock import FOREIGN_LOG

MIXED = msg(
    "rows cannot be read, and values contradict the schema: pages of one table may be in another; only with leave to"
    " lose rows is the whole file put together again"
)
REPAIR, REWRITE, STATISTICS = 0, 1, 2
"""Stages: what is damaged first, then the rewrite that leaves the damaged pages behind."""

LOST, UNPARSED = "file_damaged", "schema_unreadable"
OUT_OF_REACH = frozenset((LOST, UNPARSED, "header_damaged", "page_count_wrong", "file_truncated", "structure_damaged"))
"""Findings of a file that SQLite does not read as it is, or in which rows may lie on pages that nothing leads to."""
EXCLUSIVE = msg("nobody else can use the file")


class FilePlanner(Planner):
    """The actions for one file."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name

    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        """See Planner.plan. For named tables nothing that touches the others: no rewrite of the file.

        Raises Unable where SQLite here cannot sort or index one of them.
        """
        return _planned(self.file_name, kind, diagnosis, thresholds, tables, allow_data_loss)


def _planned(
    file_name: str,
    kind: MaintenanceType,
    diagnosis: Diagnosis,
    thresholds: Thresholds,
    tables: Sequence[str] | None,
    allow_data_loss: bool,
) -> list[Action]:
    _refuse_foreign(diagnosis, tables)
    if any(finding.code == LOG for finding in diagnosis.findings):
        raise Unable("planning the work on", file_name, FOREIGN_LOG)
    for finding in diagnosis.findings:
        if finding.code == ENCRYPTED or (finding.code == UNPARSED and not (allow_data_loss and tables is None)):
            raise Unable("planning the work on", file_name, finding.evidence)
    chosen = [fact for fact in diagnosis.tables if tables is None or fact.name in tables]
    codes = {finding.code for finding in diagnosis.findings}
    whole = tables is None
    if whole and (allow_data_loss or LOST in codes) and _is_damaged(chosen, codes):
        return _salvage(file_name, diagnosis, kind, loses=True)
    if whole and "file_truncated" in codes:
        return _salvage(file_name, diagnosis, kind, loses=False)
    if whole and codes & OUT_OF_REACH == {"structure_damaged"} and not any(fact.damaged for fact in chosen):
        return _salvage(file_name, diagnosis, kind, loses=False)
    if "constraint_violated" in codes and any(fact.damaged for fact in chosen):
        # A page of another table shows so: whatever is rewritten then may leave rows of a table behind.
        raise Unable("planning the work on", file_name, MIXED)
    actions = _header_actions(file_name, diagnosis, codes) if whole else []
    for fact in chosen:
        actions += _repairs(fact, allow_data_loss, whole)
    if whole:
        actions += [
            _search_index_action(finding, diagnosis) for finding in diagnosis.findings if finding.code == SEARCH
        ]
    mended = {action.object for action in actions}
    if kind == "rebuild":
        actions += _remade(file_name, diagnosis, [fact for fact in chosen if fact.name not in mended], whole)
    if whole:
        reason = _rewrite_reason(kind, diagnosis, thresholds, codes, bool(actions) and kind != "rebuild")
        if reason is not None:
            actions.append(_rewrite(file_name, diagnosis, reason))
    if whole and kind == "rebuild":
        reason = msg("Rebuild was asked for: statistics are collected again.")
        return [*actions, Action(file_name, "analyze_all", reason, EXCLUSIVE, diagnosis.size_bytes, 0, STATISTICS)]
    for fact in chosen:
        reason = _statistics_reason(kind, fact, thresholds, fact.name in mended)
        if reason is not None:
            actions.append(Action(fact.name, "analyze", reason, EXCLUSIVE, fact.bytes, 0, STATISTICS))
    return actions


def _refuse_foreign(diagnosis: Diagnosis, tables: Sequence[str] | None) -> None:
    for finding in diagnosis.findings:
        if finding.code == NEEDS_APPLICATION and (tables is None or finding.object in tables):
            words = msg(
                "{words}. Neither check nor rewrite would reach the end; other tables can be maintained by their names",
                words=finding.evidence,
            )
            raise Unable("planning the work on", finding.object, words)


def _remade(file_name: str, diagnosis: Diagnosis, facts: Sequence[TableFacts], whole: bool) -> list[Action]:
    """All indexes of the file in one transaction; of named tables each by itself."""
    reason = msg("Rebuild was asked for: all indexes are made again.")
    indexed = [fact for fact in facts if fact.notes.get("indexes")]
    if whole and indexed:
        size_bytes = diagnosis.size_bytes
        return [Action(file_name, "remake_all_indexes", reason, EXCLUSIVE, size_bytes, size_bytes, REPAIR)]
    return [_index_action(fact, reason, whole, kind="remake_indexes") for fact in indexed]


def _is_damaged(facts: Sequence[TableFacts], codes: set[str]) -> bool:
    """Whether rows may be lost, or their pages cannot be reached."""
    return bool(codes & OUT_OF_REACH) or any(fact.damaged or _listed(fact, "broken_indexes") for fact in facts)


def _salvage(file_name: str, diagnosis: Diagnosis, kind: MaintenanceType, loses: bool) -> list[Action]:
    """One piece of work for whatever is damaged; it rewrites the file as well. `loses`: it may lose rows."""
    size_bytes = diagnosis.size_bytes
    reason = msg(
        "Rows or pages cannot be read: the file is put together again page by page, with every row that can be found;"
        " losses are listed."
    )
    if not loses:
        reason = msg(
            "Pages are damaged or nothing leads to them: the file is put together again where no row is on them."
        )
    actions = [Action(file_name, "salvage_file", reason, EXCLUSIVE, size_bytes, 3 * size_bytes, REPAIR, loses)]
    if kind == "rebuild":
        reason = msg("Rebuild was asked for: statistics are collected again.")
        actions.append(Action(file_name, "analyze_all", reason, EXCLUSIVE, size_bytes, 0, STATISTICS))
    return actions


def _search_index_action(finding: Finding, diagnosis: Diagnosis) -> Action:
    reason = msg("The index contradicts itself; it is made again from its rows.")
    size_bytes = diagnosis.size_bytes
    return Action(finding.object, "rebuild_search_index", reason, EXCLUSIVE, size_bytes, size_bytes, REPAIR)


def _header_actions(file_name: str, diagnosis: Diagnosis, codes: set[str]) -> list[Action]:
    size_bytes = diagnosis.size_bytes
    if "header_damaged" in codes:
        reason = msg("The beginning of the header is wrong; what must stand there is known.")
        return [Action(file_name, "restore_header", reason, EXCLUSIVE, size_bytes, size_bytes, REPAIR)]
    if "page_count_wrong" in codes:
        reason = msg("The header claims more pages than the file has; the true number is written into it.")
        return [Action(file_name, "correct_page_count", reason, EXCLUSIVE, size_bytes, size_bytes, REPAIR)]
    return []


def _repairs(fact: TableFacts, allow_data_loss: bool, whole: bool) -> list[Action]:
    broken, wrong = _listed(fact, "broken_indexes"), _listed(fact, "wrong_indexes")
    if fact.damaged and allow_data_loss:
        reason = msg("Rows cannot be read; every row that can be found is moved into a new table, losses are listed.")
        return [_repair(fact, "salvage", reason, needs_data_loss=True)]
    if fact.damaged:
        reason = msg("Rows cannot be read; the table is made again if an index proves that every row was found.")
        return [_repair(fact, "replace_table", reason)]
    if any(name.startswith("sqlite_autoindex_") for name in broken):
        reason = msg("The index of a constraint is damaged; the table is made again from its rows.")
        return [_repair(fact, "replace_table", reason)]
    if broken and whole:
        reason = msg("Pages of {indexes} cannot be read; made again from the rows.", indexes=", ".join(broken))
        return [_repair(fact, "replace_indexes", reason)]
    if broken:
        reason = msg(
            "Pages of {indexes} cannot be read; made again from the rows. The damaged pages stay in the file, unused, "
            "until it is rewritten as a whole.",
            indexes=", ".join(broken),
        )
        return [_repair(fact, "replace_indexes", reason)]
    if wrong:
        return [_index_action(fact, msg("{indexes} contradict the rows.", indexes=", ".join(wrong)), whole)]
    return []


def _repair(fact: TableFacts, kind: str, reason: Message, needs_data_loss: bool = False) -> Action:
    return Action(fact.name, kind, reason, EXCLUSIVE, fact.bytes, 3 * fact.bytes, REPAIR, needs_data_loss)


def _index_action(fact: TableFacts, reason: Message, whole: bool, kind: str = "reindex") -> Action:
    if not whole:
        reason = msg("{reason} Only this table: the file as a whole is not rewritten.", reason=reason)
    return Action(fact.name, kind, reason, EXCLUSIVE, fact.bytes, fact.bytes, REPAIR)


def _listed(fact: TableFacts, note: str) -> list[str]:
    value = fact.notes.get(note, [])
    return [str(name) for name in value] if isinstance(value, (list, tuple)) else []


def _rewrite_reason(
    kind: MaintenanceType, diagnosis: Diagnosis, thresholds: Thresholds, codes: set[str], repaired: bool
) -> Message | None:
    if kind == "rebuild":
        return msg("Rebuild was asked for: the file is rewritten without gaps.")
    if repaired or codes & {"structure_damaged"}:
        return msg("The rewrite leaves damaged pages behind.")
    if kind != "optimize":
        return None
    unused = sum(fact.bytes * (fact.bloat_share or 0.0) for fact in diagnosis.tables)
    total = sum(fact.bytes for fact in diagnosis.tables)
    bloated = [finding.object for finding in diagnosis.findings if finding.code in ("table_bloat", "free_pages")]
    if not bloated:
        return None
    if "free_pages" in codes:
        return msg("Free pages and {size} unused in used pages are given back.", size=size(int(unused)))
    return msg(
        "{unused} of {total} are unused, most of it in {tables}.",
        unused=size(int(unused)),
        total=size(total),
        tables=", ".join(bloated[:5]),
    )


def _rewrite(file_name: str, diagnosis: Diagnosis, reason: Message) -> Action:
    # Twice the size: the new content in a temporary file, and the old in the journal
    # (https://sqlite.org/lang_vacuum.html).
    return Action(file_name, "vacuum", reason, EXCLUSIVE, diagnosis.size_bytes, 2 * diagnosis.size_bytes, REWRITE)


def _statistics_reason(kind: MaintenanceType, fact: TableFacts, thresholds: Thresholds, mended: bool) -> Message | None:
    if kind == "rebuild":
        return msg("Rebuild was asked for: statistics are collected again.")
    if mended:
        return msg("The table was repaired; its statistics are collected again.")
    if kind != "optimize":
        return None
    if fact.stale_share is not None and fact.stale_share >= thresholds.stale_share:
        return msg("The statistics are {share:.0%} off.", share=fact.stale_share)
    if fact.notes.get("statistics") == "missing" and fact.rows and fact.bytes >= WORTH_STATISTICS:
        return msg("There are no statistics.")
    return None
